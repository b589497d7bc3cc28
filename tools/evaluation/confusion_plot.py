"""Draws a confusion matrix, the recall of the classes, and the largest confusions."""

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tools.evaluation.metrics import Metrics

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["draw_confusion"]

# Up to the first number of classes, the matrix shows names and numbers. Above the second one, confusions are marked,
# because a cell may be smaller than a point of the picture.
_WRITTEN, _MARKED = 40, 100

# Number of confusions that are named, and of characters of a name.
_CONFUSIONS, _CHARACTERS = 20, 22

_COLOUR = "#0072b2"


def draw_confusion(path: Path, metrics: Metrics, names: Sequence[str]) -> None:
    """Draws ``confusion.png``, unless matplotlib is not installed.

    Args:
      path: path of the picture.
      metrics: the measures.
      names: the name of each class.

    Warns:
      UserWarning: if matplotlib is not installed.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ModuleNotFoundError:
        warnings.warn(f"{path.name} requires matplotlib: pip install 'slimnets[plot]'.", stacklevel=2)
        return
    names = [_shortened(name) for name in names]
    confusions = metrics.confusions(_CONFUSIONS)
    figure = Figure(figsize=(12, 7.5), layout="constrained")
    FigureCanvasAgg(figure)
    matrix, bars = figure.subplots(1, 2, width_ratios=(2.2, 1))
    counts = metrics.confusion.sum(axis=1, keepdims=True)
    shares = metrics.confusion / np.maximum(counts, 1)
    _draw_matrix(matrix, metrics.confusion, shares, names)
    _draw_confusions(bars, [(f"{names[of]} → {names[predicted]}", images) for of, predicted, images in confusions])
    top_1 = metrics.top_1
    matrix.set_title(
        f"{metrics.images:,} images, top-1 {100 * top_1.value:.1f} % ({100 * top_1.low:.1f} to {100 * top_1.high:.1f})",
        loc="left",
        fontsize=13,
        fontweight="bold",
    )
    figure.savefig(path, dpi=120)


def _shortened(name: str) -> str:
    # A dollar sign would begin a formula.
    name = name.encode("utf-8", "replace").decode().partition(",")[0].replace("$", r"\$")
    return name if len(name) <= _CHARACTERS else name[: _CHARACTERS - 1] + "…"


def _draw_matrix(axes: "Axes", confusion: np.ndarray, shares: np.ndarray, names: Sequence[str]) -> None:
    """Draws the share of each class's images by predicted class; the square root shows small ones."""
    count = len(names)
    axes.imshow(np.sqrt(shares), cmap="Blues", vmin=0, vmax=1, interpolation="nearest", aspect="equal")
    axes.set(xlabel="predicted class", ylabel="class")
    if count > _MARKED:
        of, predicted = np.nonzero(confusion)
        wrong = of != predicted
        of, predicted = of[wrong], predicted[wrong]
        axes.scatter(predicted, of, s=1 + 40 * shares[of, predicted], color="#d55e00", alpha=0.6, linewidths=0)
    if count > _WRITTEN:
        return
    axes.set_xticks(range(count), names, rotation=90 if count > 10 or max(map(len, names)) > 4 else 0)
    axes.set_yticks(range(count), names)
    for row, column in zip(*np.nonzero(confusion), strict=True):
        colour = "white" if shares[row, column] > 0.3 else "black"
        size = 10 if count <= 12 else 6
        axes.text(column, row, f"{confusion[row, column]:,}", ha="center", va="center", color=colour, fontsize=size)


def _draw_confusions(axes: "Axes", confusions: Sequence[tuple[str, int]]) -> None:
    from matplotlib.ticker import MaxNLocator

    axes.set_title("Largest confusions, images", loc="left", fontsize=11)
    axes.spines[["top", "right"]].set_visible(False)
    places = range(len(confusions))
    axes.barh(places, [images for _, images in confusions], color=_COLOUR, height=0.7)
    axes.set_yticks(places, [text for text, _ in confusions], fontsize=8)
    axes.set_ylim(_CONFUSIONS - 0.5, -0.5)
    axes.set_xlim(left=0)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=6))
