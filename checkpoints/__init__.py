"""Checkpoint files: reading, telling what they are, restoring them into a session."""

from checkpoints.diagnosis import Diagnosis, diagnose
from checkpoints.files import CheckpointError
from checkpoints.mismatch import CheckpointMismatch
from checkpoints.reader import CheckpointReader, open_checkpoint
from checkpoints.restoration import RestoreReport, restore

__all__ = [
    "CheckpointError",
    "CheckpointMismatch",
    "CheckpointReader",
    "Diagnosis",
    "RestoreReport",
    "diagnose",
    "open_checkpoint",
    "restore",
]
