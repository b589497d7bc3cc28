"""The images that a training could not use: ``failed.csv``, with the reason of each."""

import csv
import io
from collections.abc import Mapping
from pathlib import Path

from checkpoints.files.atomic import write_whole
from tools.training.folder.writing import writing

__all__ = ["read_failures", "write_failures"]

_FILE = "failed.csv"


def read_failures(folder: Path) -> dict[str, str]:
    """Returns the images (name → reason) that earlier calls could not use."""
    file = folder / _FILE
    if not file.exists():
        return {}
    rows = csv.reader(io.StringIO(file.read_text(encoding="utf-8", errors="surrogateescape")))
    return dict(list(rows)[1:])


def write_failures(folder: Path, failed: Mapping[str, str]) -> None:
    """Writes the images (name → reason), if there are any.

    Raises:
      OSError: if the file cannot be written.
    """
    if failed:
        stream = io.StringIO()
        csv.writer(stream, lineterminator="\n").writerows([("path", "error"), *failed.items()])
        with writing(folder / _FILE):
            write_whole(folder / _FILE, stream.getvalue().encode("utf-8", "surrogateescape"))
