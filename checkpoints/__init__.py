"""Opens, diagnoses and downloads checkpoints, and restores them into a session."""

from typing import TYPE_CHECKING

from checkpoints.lazily import lazily

if TYPE_CHECKING:
    from checkpoints.diagnosis import Diagnosis, diagnose
    from checkpoints.errors import CheckpointError, CheckpointMismatch, DownloadError
    from checkpoints.files import CheckpointReader
    from checkpoints.noting import note
    from checkpoints.opening import open_checkpoint
    from checkpoints.published import download
    from checkpoints.restoring import RestoreReport, init_fn, restore

__all__ = [
    "CheckpointError",
    "CheckpointMismatch",
    "CheckpointReader",
    "Diagnosis",
    "DownloadError",
    "RestoreReport",
    "diagnose",
    "download",
    "init_fn",
    "note",
    "open_checkpoint",
    "restore",
]

__getattr__ = lazily(
    __name__,
    {
        "diagnosis": "Diagnosis diagnose",
        "errors": "CheckpointError CheckpointMismatch DownloadError",
        "files": "CheckpointReader",
        "noting": "note",
        "opening": "open_checkpoint",
        "published": "download",
        "restoring": "RestoreReport init_fn restore",
    },
)
