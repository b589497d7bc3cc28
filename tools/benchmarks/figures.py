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


class Figure(NamedTuple):
    """One figure: pairs of our own value and another one.

    name: name of the figure.
    unit: unit of the values: 's', 'images/s', 'MB'.
    here, other: the values in the order of measurement. Values at the same place form a pair.
    wanted: wanted ratio, such as 'at least 1.10'. It is reported beside the ratio, and never asserted.
    """

    name: str
    unit: str
    here: Sequence[float]
    other: Sequence[float]
    wanted: str = ""

    @property
    def ratios(self) -> list[float]:
        """Returns ``here`` divided by ``other``, pair by pair."""
        return [one / other for one, other in zip(self.here, self.other, strict=True)]


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
    header = ("figure", "pairs", "this", "other", "ratio (median)", "spread", "wanted")
    print_table(header, [_row(figure) for figure in figures])


def _row(figure: Figure) -> list[object]:
    ratios = sorted(figure.ratios)
    here, other = (f"{statistics.median(values):,.2f} {figure.unit}" for values in (figure.here, figure.other))
    spread = f"{ratios[0]:.3f} to {ratios[-1]:.3f}"
    return [figure.name, len(ratios), here, other, f"{statistics.median(ratios):.3f}", spread, figure.wanted]


def save_figures(path: str | Path, figures: Sequence[Figure]) -> None:
    """Writes the machine and every measured value as JSON."""
    record = {"machine": machine.describe(), "figures": [figure._asdict() for figure in figures]}
    Path(path).write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
