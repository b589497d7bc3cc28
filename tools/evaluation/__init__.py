"""Measures how good a checkpoint is on labelled images, and mends its moving statistics."""

from tools.evaluation.evaluating import evaluate
from tools.evaluation.evaluation import Evaluation
from tools.evaluation.labelling import Labelled, number_labels, open_labelled
from tools.evaluation.metrics import Metrics
from tools.evaluation.recalibration import Recalibration, recalibrate

__all__ = [
    "Evaluation",
    "Labelled",
    "Metrics",
    "Recalibration",
    "evaluate",
    "number_labels",
    "open_labelled",
    "recalibrate",
]
