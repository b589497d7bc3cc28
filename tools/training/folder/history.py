"""The figures of a training, ``history.csv``."""

import csv
import io
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

from checkpoints.files.atomic import write_whole
from tools.errors import InputError
from tools.training.folder.writing import writing

__all__ = ["Event", "History"]

_FILE = "history.csv"


class Event(NamedTuple):
    """A line of the history: a step, or a validation after a step.

    step: number of steps done.
    epoch: the same in epochs.
    learning_rate: of the step; None for a validation, like the next three.
    loss: cross entropy and all regularization losses, before the step changed the weights.
    cross_entropy: mean of the batch, with label smoothing.
    accuracy: share of the batch's images that were classified right.
    val_cross_entropy, val_top_1, val_top_5: of the validation; None for a step.
    """

    step: int
    epoch: float
    learning_rate: float | None = None
    loss: float | None = None
    cross_entropy: float | None = None
    accuracy: float | None = None
    val_cross_entropy: float | None = None
    val_top_1: float | None = None
    val_top_5: float | None = None

    @property
    def is_validation(self) -> bool:
        """Returns whether it is a validation."""
        return self.val_top_1 is not None


class History:
    """The history of a training in its folder. Events are written by ``flush``; steps stay in the file alone.

    Args:
      folder: of the training.
      steps: number of steps done, which the last state holds. Later events belong to no state, and are dropped.

    Attributes:
      last: the last step; None before the first.
      validations: the validations.

    Raises:
      InputError: if the file lacks steps.
      OSError: if it cannot be written.
    """

    def __init__(self, folder: Path, steps: int) -> None:
        self._path = folder / _FILE
        self.last: Event | None = None
        self.validations: list[Event] = []
        self._waiting: list[Event] = []
        if not steps:
            with writing(self._path):
                write_whole(self._path, _text([Event._fields]))
            return
        size = self._read(steps)
        if self.last is None or self.last.step != steps:
            raise InputError(
                f"{self._path} is damaged, and lacks figures of the {steps:,} steps that were done: put the file back, "
                f"or delete {folder} to begin anew."
            )
        with writing(self._path):
            os.truncate(self._path, size)

    def add(self, event: Event) -> None:
        """Adds an event."""
        self._note(event)
        self._waiting.append(event)

    def flush(self) -> None:
        """Writes the events that were added, down to the disk: a state that is saved later counts on them."""
        with writing(self._path), self._path.open("a", encoding="utf-8", newline="") as stream:
            stream.write(_text(map(_cells, self._waiting)))
            stream.flush()
            os.fsync(stream.fileno())
        self._waiting.clear()

    def steps(self) -> Iterator[Event]:
        """Yields the steps in the file."""
        with self._path.open("rb") as stream:
            yield from (event for event, _ in _events(stream) if not event.is_validation)

    @property
    def best(self) -> Event | None:
        """Returns the first of the validations with the highest top-1 accuracy; None before there is one."""
        return max(self.validations, key=lambda event: event.val_top_1, default=None)

    def is_validated(self, step: int) -> bool:
        """Returns whether there was a validation after a step."""
        return bool(self.validations) and self.validations[-1].step == step

    def _note(self, event: Event) -> None:
        if event.is_validation:
            self.validations.append(event)
        else:
            self.last = event

    def _read(self, steps: int) -> int:
        """Takes the events up to a step. Returns the size of the file up to there."""
        size = 0
        try:
            with self._path.open("rb") as stream:
                for event, end in _events(stream):
                    if event.step > steps:
                        break
                    self._note(event)
                    size = end
        except (FileNotFoundError, TypeError, ValueError):
            self.last = None
        return size


def _text(rows: Iterable[Iterable[object]]) -> str:
    stream = io.StringIO()
    csv.writer(stream, lineterminator="\n").writerows(rows)
    return stream.getvalue()


def _cells(event: Event) -> list[str]:
    # ``repr`` of a float reads back as the same float.
    return ["" if value is None else repr(value) for value in event]


def _events(stream: BinaryIO) -> Iterator[tuple[Event, int]]:
    """Yields the events of a file, each with the position of its end. A last line that was cut short is left out.

    Raises:
      TypeError, ValueError: if a line holds no event.
    """
    end = 0
    for number, line in enumerate(stream):
        if not line.endswith(b"\n"):
            return
        end += len(line)
        if number:  # the first line holds the names
            step, *rest = line.decode().rstrip("\n").split(",")
            yield Event(int(step), *(float(cell) if cell else None for cell in rest)), end
