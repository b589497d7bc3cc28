"""Trains networks on labelled images, from scratch or from a checkpoint."""

from tools.training.fitting import Job, fit, prepare
from tools.training.folder.history import Event
from tools.training.running import Training, run
from tools.training.settings import Settings

__all__ = ["Event", "Job", "Settings", "Training", "fit", "prepare", "run"]
