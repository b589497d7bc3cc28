"""Checkpoints as files: finding, reading and writing them, and telling what other files are."""

from typing import TYPE_CHECKING

from checkpoints.lazily import lazily

if TYPE_CHECKING:
    from checkpoints.files.finding import find_checkpoint
    from checkpoints.files.notes import Notes, read_notes, write_notes
    from checkpoints.files.notes_place import notes_file
    from checkpoints.files.reader import CheckpointReader
    from checkpoints.files.writer import write_checkpoint

__all__ = [
    "CheckpointReader",
    "Notes",
    "find_checkpoint",
    "notes_file",
    "read_notes",
    "write_checkpoint",
    "write_notes",
]

__getattr__ = lazily(
    __name__,
    {
        "finding": "find_checkpoint",
        "notes": "Notes read_notes write_notes",
        "notes_place": "notes_file",
        "reader": "CheckpointReader",
        "writer": "write_checkpoint",
    },
)
