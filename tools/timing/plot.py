"""Draws the durations of the steps in their order, and their distribution."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tools.errors import InputError

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["check_plot", "draw"]

_SUFFIXES = (".pdf", ".png", ".svg")

# Distinct for colour-blind readers too: M. Okabe, K. Ito, Color Universal Design, 2008.
_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")

# If the longest duration is this many times the shortest, a logarithmic axis still shows the spread of the short ones.
_FAR_APART = 4

# Largest number of bins. Few durations get the square root of their number.
_BINS = 50

# Up to this many steps, each is marked with a point.
_MARKED = 200


def check_plot(path: str | Path) -> None:
    """Raises ImportError without matplotlib, and InputError for another kind of file than .pdf, .png or .svg."""
    if Path(path).suffix.lower() not in _SUFFIXES:
        raise InputError(f"The plot {path} must end in {', '.join(_SUFFIXES[:-1])} or {_SUFFIXES[-1]}.")
    try:
        import matplotlib  # noqa: F401
    except ModuleNotFoundError:
        raise ModuleNotFoundError("A plot requires matplotlib: pip install 'slimnets[plot]'.") from None


def draw(
    path: str | Path, series: Sequence[tuple[str, Sequence[float]]], *, subtitle: str = "", interrupted: bool = False
) -> None:
    """Draws durations, with their medians.

    Args:
      path: path of the plot, a .png, .svg or .pdf file.
      series: names with durations in seconds, at least one each.
      subtitle: a line under the title.
      interrupted: whether the title says that the timing was interrupted.

    Raises:
      ImportError: if matplotlib is not installed.
      InputError: for another kind of file.
    """
    check_plot(path)
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 5), layout="constrained")
    FigureCanvasAgg(figure)
    steps, distribution = figure.subplots(1, 2, sharey=True, width_ratios=(3, 1))
    values = [(name, 1000 * np.asarray(durations)) for name, durations in series]
    everything = np.concatenate([durations for _, durations in values])
    logarithmic = everything.max() > _FAR_APART * everything.min() > 0
    bins = min(_BINS, round(len(everything) ** 0.5))
    edges = _edges(everything.min(), everything.max(), logarithmic, bins)
    for i, (name, durations) in enumerate(values):
        colour = _COLOURS[i % len(_COLOURS)]
        median = float(np.median(durations))
        label = f"{name}, median {median:,.2f} ms"
        marker = "." if len(durations) <= _MARKED else None
        steps.plot(durations, color=colour, linewidth=0.8, marker=marker, markersize=4, label=label)
        distribution.hist(durations, edges, orientation="horizontal", color=colour, alpha=0.6)
        for axes in (steps, distribution):
            axes.axhline(median, color=colour, linewidth=1, linestyle=(0, (4, 3)))
    _tidy(steps, distribution, logarithmic)
    title = "Duration of each step" + (", interrupted" if interrupted else "")
    steps.set_title(title, loc="left", fontsize=13, fontweight="bold", pad=24)
    steps.annotate(
        subtitle, (0, 1), (0, 8), xycoords="axes fraction", textcoords="offset points", fontsize=8, color="#555555"
    )
    figure.legend(loc="outside lower center", ncols=3, frameon=False, fontsize=9)
    figure.savefig(path, dpi=150, format=Path(path).suffix[1:].lower())


def _edges(low: float, high: float, logarithmic: bool, bins: int) -> np.ndarray:
    """Returns the edges of the bins, which all networks share."""
    if low == high:
        return np.array([0.99 * low, 1.01 * low])
    return (np.geomspace if logarithmic else np.linspace)(low, high, bins + 1)


def _tidy(steps: "Axes", distribution: "Axes", logarithmic: bool) -> None:
    """Adds labels, removes decoration, and starts durations at zero, so that spreads look as large as they are."""
    from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter, ScalarFormatter

    for axes in (steps, distribution):
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(axis="y", color="#e5e5e5", linewidth=0.8)
        axes.set_axisbelow(True)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10], nbins=8 if axes is steps else 4))
    steps.set(xlabel="step", ylabel="milliseconds")
    distribution.set(xlabel="number of steps")
    distribution.tick_params(left=False, which="both")
    if logarithmic:
        steps.set_yscale("log")
        steps.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        steps.yaxis.set_major_formatter(ScalarFormatter())
        steps.yaxis.set_minor_formatter(NullFormatter())
    else:
        steps.set_ylim(bottom=0, top=1.05 * steps.get_ylim()[1])
