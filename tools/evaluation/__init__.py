"""Measures how good a checkpoint is on labelled images, and mends its moving statistics."""

from tools.evaluation.evaluating import evaluate
from tools.evaluation.evaluation import Evaluation
from tools.evaluation.labelling import Labelled, number_labels, open_labelled
from tools.evaluation.metrics import Metrics

__all__ = [
    "Evaluation",
    "Labelled",
    "Metrics",
    "evaluate",
    "number_labels",
    "open_labelled",
]
