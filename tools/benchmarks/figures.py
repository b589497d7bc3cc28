"""Figures: ratios of measurements that took turns in the same run."""

import itertools
import json
import statistics
from collections.abc import Callable, Hashable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, TypeVar

from tools.peers.turns import orders
from tools.runtime import machine
from tools.terminal.tables import print_table

__all__ = ["Figure", "in_turns", "print_figures", "save_figures"]

Name = TypeVar("Name", bound=Hashable)

_COLUMNS = ("figure", "pairs", "this", "other", "ratio (median)", "spread", "wanted", "ms a batch", "GPU memory")


class Figure(NamedTuple):
    """One figure: pairs of our own value and another one.

    name: name of the figure.
    unit: unit of the values: 's', 'images/s', 'MB'.
    here, other: the values in the order of measurement. Values at the same place form a pair. Without a peer ``other``
      is empty, and after a failure both are.
    wanted: wanted ratio, such as 'at least 1.10'. It is reported beside the ratio, and never asserted.
    batch_size: number of images in a batch, if the milliseconds a batch are shown too; for images/s only.
    memory: peak of the GPU's memory in bytes; None if it is not known.
    failure: why there are no values.
    """

    name: str
    unit: str
    here: Sequence[float]
    other: Sequence[float]
    wanted: str = ""
    batch_size: int | None = None
    memory: int | None = None
    failure: str = ""

    @property
    def ratios(self) -> list[float]:
        """Returns ``here`` divided by ``other``, pair by pair; nothing without a peer."""
        return [one / other for one, other in zip(self.here, self.other, strict=True)] if self.other else []


def in_turns(measured: Mapping[Name, Callable[[], float]], rounds: int, warm_up: int = 1) -> dict[Name, list[float]]:
    """Measures all in turns, in the orders of ``orders``, after ``warm_up`` rounds that do not count."""
    values: dict[Name, list[float]] = {name: [] for name in measured}
    for order in itertools.islice(orders(list(measured)), warm_up + rounds):
        for name in order:
            values[name].append(measured[name]())
    return {name: measurements[warm_up:] for name, measurements in values.items()}


def print_figures(figures: Sequence[Figure]) -> None:
    """Prints the machine, and a table with medians, and the median, smallest and largest ratio."""
    print(machine.one_line())
    rows = [_row(figure) for figure in figures]
    # Only some figures know the last ones.
    columns = [name for name in _COLUMNS if name in _COLUMNS[:7] or any(row[name] is not None for row in rows)]
    print_table(columns, [[row[name] for name in columns] for row in rows])


def _row(figure: Figure) -> dict[str, object]:
    """Returns the cells of a figure by the names of ``_COLUMNS``."""
    ratios = sorted(figure.ratios)
    here, other = (
        f"{statistics.median(values):,.2f} {figure.unit}" if values else None for values in (figure.here, figure.other)
    )
    batch = 1000 * figure.batch_size / statistics.median(figure.here) if figure.batch_size else None
    cells = (
        figure.name,
        len(ratios),
        figure.failure or here,
        other,
        f"{statistics.median(ratios):.3f}" if ratios else None,
        f"{ratios[0]:.3f} to {ratios[-1]:.3f}" if ratios else None,
        figure.wanted,
        None if batch is None else f"{batch:,.2f}",
        None if figure.memory is None else f"{figure.memory / 1e9:.2f} GB",
    )
    return dict(zip(_COLUMNS, cells, strict=True))


def save_figures(path: str | Path, figures: Sequence[Figure]) -> None:
    """Writes the machine and every measured value as JSON."""
    record = {"machine": machine.describe(), "figures": [figure._asdict() for figure in figures]}
    Path(path).write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
