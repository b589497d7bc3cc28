"""The notes beside weights, ``NAME.slimnets.json``: facts that no variable tells.

They are the padding of the network's first pooling, the input that the weights expect, the names of the classes, and
where converted weights come from.
"""

import json
import reprlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from checkpoints.errors import CheckpointError
from checkpoints.files.atomic import write_whole
from checkpoints.files.hashing import sha256_of
from checkpoints.files.notes_place import notes_file
from nets.nets_factory import NETWORKS
from nets.preprocessing import PREPROCESSINGS

__all__ = ["INPUT", "LARGEST_SIZE", "Notes", "read_notes", "write_notes"]

_PADDINGS = ("SAME", "PAD1")
# The largest image size in pixels.
LARGEST_SIZE = 100_000
# The facts on the input, which can be assumed.
INPUT = ("preprocessing", "image_size")


class Notes(NamedTuple):
    """Facts on weights.

    network: name of their network in the table.
    pool1_padding: 'SAME' or 'PAD1', the argument of the network's builder.
    preprocessing: preprocessing that the weights expect.
    image_size: image size that the weights expect.
    source: file that they were converted from: its name, kind and sha256; None if they were not converted.
    labels: names of the network's classes in their order; None if they are unknown.
    assumed: names of those facts on the input that nobody stated, and the table of networks supplied.
    """

    network: str
    pool1_padding: str
    preprocessing: str
    image_size: int
    source: dict[str, str] | None = None
    labels: tuple[str, ...] | None = None
    assumed: tuple[str, ...] = ()


def write_notes(path: Path, notes: Notes, described: Path) -> None:
    """Writes the notes on ``path``, or replaces them.

    Args:
      path: path of the weights.
      notes: the notes.
      described: file whose sha256 tells later whether the weights are still the same; for a V2 checkpoint, the index.
    """
    record = notes._asdict() | {"file": described.name, "sha256": sha256_of([described])}
    write_whole(notes_file(path), json.dumps(record, indent=2) + "\n")


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
        # Notes of earlier versions have neither labels nor assumptions.
        notes = Notes(**Notes._field_defaults | {field: record[field] for field in Notes._fields if field in record})
        _check(notes)
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise CheckpointError(
            f"{file}, the notes on the weights beside it, is not as slimnets writes it ({error}): remove it, and write "
            "it anew with `slimnets note`, or convert the weights again."
        ) from error
    return notes._replace(labels=notes.labels and tuple(notes.labels), assumed=tuple(notes.assumed))


def _check(notes: Notes) -> None:
    known: Sequence[tuple[str, Any, bool]] = (
        ("network", notes.network, notes.network in NETWORKS),
        ("pool1_padding", notes.pool1_padding, notes.pool1_padding in _PADDINGS),
        ("preprocessing", notes.preprocessing, notes.preprocessing in PREPROCESSINGS),
        ("source", notes.source, notes.source is None or {"file", "kind"} <= set(notes.source)),
        ("image_size", notes.image_size, type(notes.image_size) is int and 0 < notes.image_size <= LARGEST_SIZE),
        ("labels", notes.labels, notes.labels is None or _are_names(notes.labels)),
        ("assumed", notes.assumed, isinstance(notes.assumed, list | tuple) and {*notes.assumed} <= {*INPUT}),
    )
    for name, value, is_known in known:
        if not is_known:
            raise ValueError(f"{name} is {reprlib.repr(value)}")


def _are_names(labels: Any) -> bool:
    return isinstance(labels, list | tuple) and bool(labels) and all(isinstance(label, str) for label in labels)
