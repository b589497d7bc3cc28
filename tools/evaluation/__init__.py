"""Measures how good a checkpoint is on labelled images, and mends its moving statistics."""

from tools.evaluation.evaluating import evaluate
from tools.evaluation.evaluation import Evaluation

__all__ = ["Evaluation", "evaluate"]
