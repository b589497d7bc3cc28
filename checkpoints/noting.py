"""Writes facts that no variable tells into the notes beside a checkpoint: its input, and the names of its classes."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from checkpoints.diagnosis import Diagnosis, diagnose
from checkpoints.errors import CheckpointError
from checkpoints.files import Notes, notes_file, write_notes
from checkpoints.files.notes import LARGEST_SIZE
from checkpoints.opening import open_checkpoint
from checkpoints.published import read_labels
from nets.preprocessing import check_preprocessing

__all__ = ["Noted", "note"]

# Kinds of problems that notes on such weights mend or survive.
_HARMLESS = {"labels", "only shadows"}


class Noted(NamedTuple):
    """The path of a file of notes, and the notes in it."""

    file: Path
    notes: Notes


def note(
    checkpoint: str | os.PathLike[str],
    *,
    preprocessing: str | None = None,
    image_size: int | None = None,
    labels: str | os.PathLike[str] | Sequence[str] | None = None,
    scope: str | None = None,
    checkpoint_dir: str | Path | None = None,
) -> Noted:
    """Writes the notes beside a checkpoint. Existing notes keep what is not given.

    Args:
      checkpoint: as for ``open_checkpoint``; of a folder with several, the latest.
      preprocessing: preprocessing that the weights expect.
      image_size: height and width of the images that the weights expect.
      labels: names of the network's classes in their order, or the path of a file as for ``published.read_labels``.
      scope: scope of the network, if the file has several.
      checkpoint_dir: folder of the downloaded checkpoints; see ``published.store_folder``.

    Raises:
      CheckpointError: if the checkpoint cannot be read or used.
      OSError: if the notes cannot be written.
      ValueError: for an unknown preprocessing, a size that cannot be, or labels that do not fit the network.
    """
    given = {"preprocessing": preprocessing, "image_size": image_size}
    if labels is None and not any(value is not None for value in given.values()):
        raise ValueError("There is nothing to note: give preprocessing, image_size or labels.")
    reader = open_checkpoint(checkpoint, checkpoint_dir=checkpoint_dir)
    found = diagnose(reader, scope=scope)
    if problems := [problem for problem in found.problems if problem.kind not in _HARMLESS]:
        raise CheckpointError(problems[0].sentence, problems[0].kind, found.format)
    network = found.identified()
    notes = Notes(
        network=network.name,
        pool1_padding=found.pool1_padding,
        preprocessing=found.preprocessing if preprocessing is None else preprocessing,
        image_size=found.image_size if image_size is None else image_size,
        source=found.notes.source if found.notes else None,
        labels=found.labels if labels is None else _names(found, labels),
        assumed=tuple(name for name in found.assumed if given[name] is None),
    )
    check_preprocessing(notes.preprocessing, notes.image_size)
    notes = notes._replace(image_size=int(notes.image_size))
    if notes.image_size > LARGEST_SIZE:
        raise ValueError(f"The image size must be at most {LARGEST_SIZE:,}, and is {notes.image_size:,}.")
    file = notes_file(reader.prefix)
    try:
        write_notes(reader.prefix, notes, reader.files()[0])
    except OSError as error:
        raise OSError(
            f"{file} cannot be written ({error.strerror or error}): make its folder writable, or copy the checkpoint "
            "to another one."
        ) from error
    return Noted(file, notes)


def _names(found: Diagnosis, labels: str | os.PathLike[str] | Sequence[str]) -> tuple[str, ...]:
    """Returns the names of the classes. Raises ValueError if there is not one for each."""
    if not found.num_classes:
        raise ValueError(f"{found.path} has no logits, and so no classes to name: omit labels.")
    if isinstance(labels, str | os.PathLike):
        return tuple(read_labels(labels, found.num_classes))
    names = tuple(labels)
    if not all(isinstance(name, str) for name in names) or len(names) != found.num_classes:
        raise ValueError(f"labels must be {found.num_classes} strings, one for each class, and are {len(names)} items.")
    return names
