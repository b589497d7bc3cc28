"""The notes beside a checkpoint, ``NAME.slimnets.json``: facts on converted weights that no variable tells.

They are the padding of the network's first pooling, the input that the weights expect, and where they come from.
"""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from checkpoints.errors import CheckpointError
from nets.nets_factory import NETWORKS
from nets.preprocessing import PREPROCESSINGS

__all__ = ["LARGEST_SIZE", "Notes", "notes_file", "read_notes", "sha256_of", "write_notes"]

_SUFFIX = ".slimnets.json"
_PADDINGS = ("SAME", "PAD1")
# The largest image size in pixels.
LARGEST_SIZE = 100_000


class Notes(NamedTuple):
    """Facts on weights.

    network: name of their network in the table.
    pool1_padding: 'SAME' or 'PAD1', the argument of the network's builder.
    preprocessing: preprocessing that the weights expect.
    image_size: image size that the weights expect.
    source: file that they were converted from: its name, kind and sha256.
    """

    network: str
    pool1_padding: str
    preprocessing: str
    image_size: int
    source: dict[str, str]


def notes_file(path: str | Path) -> Path:
    """Returns the path of the notes on a file; for a V2 checkpoint, ``path`` is its prefix."""
    return Path(f"{path}{_SUFFIX}")


def write_notes(path: Path, notes: Notes, described: Path) -> None:
    """Writes the notes on ``path``.

    Args:
      path: path of the weights.
      notes: the notes.
      described: file whose sha256 tells later whether the weights are still the same; for a V2 checkpoint, the index.
    """
    record = notes._asdict() | {"file": described.name, "sha256": sha256_of([described])}
    notes_file(path).write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


def read_notes(path: str | Path, described: Path) -> Notes | None:
    """Reads the notes on ``path``; returns None if there are none, or they are on other weights that had this name.

    Raises:
      CheckpointError: if the file of notes is damaged.
    """
    file = notes_file(path)
    if not file.is_file():
        return None
    try:
        record = json.loads(file.read_text(encoding="utf-8"))
        if record["sha256"] != sha256_of([described]):
            return None
        notes = Notes(**{field: record[field] for field in Notes._fields})
        _check(notes)
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise CheckpointError(
            f"{file}, the notes on the input and pooling of the weights beside it, is not as `slimnets convert` writes "
            f"it ({error}): convert the weights again, or remove it."
        ) from error
    return notes


def _check(notes: Notes) -> None:
    known: Sequence[tuple[str, Any, bool]] = (
        ("network", notes.network, notes.network in NETWORKS),
        ("pool1_padding", notes.pool1_padding, notes.pool1_padding in _PADDINGS),
        ("preprocessing", notes.preprocessing, notes.preprocessing in PREPROCESSINGS),
        ("source", notes.source, {"file", "kind"} <= set(notes.source)),
        ("image_size", notes.image_size, type(notes.image_size) is int and 0 < notes.image_size <= LARGEST_SIZE),
    )
    for name, value, is_known in known:
        if not is_known:
            raise ValueError(f"{name} is {value!r}")


def sha256_of(files: Sequence[Path]) -> str:
    """Returns the sha256 of a file, or of several one after the other, in hexadecimal."""
    digest = hashlib.sha256()
    for file in files:
        with file.open("rb") as stream:
            while chunk := stream.read(1 << 20):
                digest.update(chunk)
    return digest.hexdigest()
