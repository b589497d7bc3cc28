"""The place of the notes beside weights. Unlike ``notes``, it is known without TensorFlow."""

from pathlib import Path

__all__ = ["notes_file"]

_SUFFIX = ".slimnets.json"


def notes_file(path: str | Path) -> Path:
    """Returns the path of the notes on a file; for a V2 checkpoint, ``path`` is its prefix."""
    return Path(f"{path}{_SUFFIX}")
