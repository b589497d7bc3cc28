"""The figures of a training: ``history.csv``, and the same as events for TensorBoard."""

import csv
import io
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import tensorflow as tf

from checkpoints.files.atomic import write_whole

__all__ = ["Event", "Events", "History"]

v1 = tf.compat.v1

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
    """The history of a training in its folder. Events are written by ``flush``.

    Args:
      folder: of the training.
      last: events after this step belong to no saved state, and are dropped.
    """

    def __init__(self, folder: Path, last: int) -> None:
        self._path = folder / _FILE
        self.events = [event for event in _read(self._path) if event.step <= last]
        # Written anew, without the dropped events and a line that was cut short.
        write_whole(self._path, _text([Event._fields, *map(_cells, self.events)]))
        self._waiting: list[Event] = []

    def add(self, event: Event) -> None:
        """Adds an event."""
        self.events.append(event)
        self._waiting.append(event)

    def flush(self) -> None:
        """Writes the events that were added."""
        with self._path.open("a", encoding="utf-8", newline="") as stream:
            stream.write(_text(map(_cells, self._waiting)))
        self._waiting.clear()

    @property
    def best(self) -> Event | None:
        """Returns the first of the validations with the highest top-1 accuracy; None before there is one."""
        validations = [event for event in self.events if event.is_validation]
        return max(validations, key=lambda event: event.val_top_1, default=None)

    def is_validated(self, step: int) -> bool:
        """Returns whether there was a validation after a step."""
        return any(event.is_validation and event.step == step for event in self.events[-2:])


def _text(rows: Iterable[Iterable[object]]) -> str:
    stream = io.StringIO()
    csv.writer(stream, lineterminator="\n").writerows(rows)
    return stream.getvalue()


def _cells(event: Event) -> list[str]:
    # ``repr`` of a float reads back as the same float.
    return ["" if value is None else repr(value) for value in event]


def _read(path: Path) -> list[Event]:
    """Returns the complete events of a file; none if it does not exist."""
    if not path.exists():
        return []
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    rows = csv.reader(line for line in lines[1:] if line.endswith("\n"))
    return [Event(int(step), *(None if cell == "" else float(cell) for cell in rest)) for step, *rest in rows]


class Events:
    """Writes event files for TensorBoard into the folder of a training, for the graph that is the default.

    Args:
      folder: of the training.
      step: number of steps done before; TensorBoard drops later ones of an earlier run.
    """

    def __init__(self, folder: Path, step: int) -> None:
        self._writer = v1.summary.FileWriter(str(folder))
        self._writer.add_session_log(v1.SessionLog(status=v1.SessionLog.START), step)

    def add(self, event: Event, images_per_second: float | None = None) -> None:
        """Writes the figures of an event."""
        figures = {name: value for name, value in event._asdict().items() if value is not None and name != "step"}
        if images_per_second is not None:
            figures["images_per_second"] = images_per_second
        values = [
            v1.Summary.Value(
                tag=("validation/" + name.removeprefix("val_")) if event.is_validation else f"training/{name}",
                simple_value=value,
            )
            for name, value in figures.items()
        ]
        self._writer.add_summary(v1.Summary(value=values), event.step)

    def close(self) -> None:
        """Writes what is waiting."""
        self._writer.close()
