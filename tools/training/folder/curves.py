"""Draws the curves of a training: loss, accuracy and learning rate by the steps."""

import io
import warnings
from array import array
from pathlib import Path

import numpy as np

from checkpoints.files.atomic import write_whole
from tools.training.folder.history import History
from tools.training.folder.writing import writing

__all__ = ["draw_curves"]

_FILE = "curves.png"

# Distinct for colour-blind readers too: M. Okabe, K. Ito, Color Universal Design, 2008.
_TRAINING, _VALIDATION, _RATE = "#0072b2", "#d55e00", "#009e73"

# The curves of single steps are smoothed over this share of them.
_SMOOTHED = 1 / 50

# Of more steps, every second one is drawn, or every third, and so on: a picture has no more columns.
_MOST_POINTS = 5000


def draw_curves(folder: Path, history: History) -> None:
    """Draws ``curves.png`` of the history in the folder, if there are steps in it.

    Raises:
      OSError: if the picture cannot be written.

    Warns:
      UserWarning: if matplotlib is not installed; then nothing is drawn.
    """
    steps = {name: array("d") for name in ("step", "cross_entropy", "accuracy", "learning_rate")}
    for event in history.steps():
        for name, values in steps.items():
            values.append(getattr(event, name))
    if not steps["step"]:
        return
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ModuleNotFoundError:
        warnings.warn(f"{_FILE} requires matplotlib: pip install 'slimnets[plot]'.", stacklevel=2)
        return

    figure = Figure(figsize=(12, 4), layout="constrained")
    FigureCanvasAgg(figure)
    entropy, accuracy, rate = figure.subplots(1, 3)
    thinned = slice(None, None, max(1, len(steps["step"]) // _MOST_POINTS))
    numbers = np.asarray(steps["step"])[thinned]
    validations = history.validations
    for axes, ours, theirs, label in (
        (entropy, "cross_entropy", "val_cross_entropy", "cross entropy"),
        (accuracy, "accuracy", "val_top_1", "accuracy, %"),
    ):
        scale = 100 if ours == "accuracy" else 1
        values = scale * np.asarray(steps[ours])
        axes.plot(numbers, values[thinned], color=_TRAINING, alpha=0.25, linewidth=0.8)
        axes.plot(
            numbers, _smoothed(values)[thinned], color=_TRAINING, linewidth=1.5, label="training, with augmentation"
        )
        if validations:
            validated = [scale * getattr(event, theirs) for event in validations]
            axes.plot(
                [event.step for event in validations],
                validated,
                "o-",
                color=_VALIDATION,
                markersize=3,
                label="validation",
            )
        axes.set(xlabel="step", ylabel=label)
        axes.set_ylim(bottom=0, top=101 if scale == 100 else None)
    rate.plot(numbers, np.asarray(steps["learning_rate"])[thinned], color=_RATE)
    rate.set(xlabel="step", ylabel="learning rate")
    rate.set_ylim(bottom=0)
    for axes in (entropy, accuracy, rate):
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(axis="y", color="#e5e5e5", linewidth=0.8)
        axes.set_axisbelow(True)
    accuracy.legend(loc="lower right", frameon=False, fontsize=9)
    picture = io.BytesIO()
    figure.savefig(picture, dpi=130, format="png")
    with writing(folder / _FILE):
        write_whole(folder / _FILE, picture.getvalue())


def _smoothed(values: np.ndarray) -> np.ndarray:
    """Returns the running means of values."""
    window = max(1, round(len(values) * _SMOOTHED))
    sums = np.cumsum(np.concatenate([[0.0], values]))
    starts = np.maximum(np.arange(len(values)) - window + 1, 0)
    ends = np.arange(1, len(values) + 1)
    return (sums[ends] - sums[starts]) / (ends - starts)
