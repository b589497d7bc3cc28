"""Draws the curves of a training: loss, accuracy and learning rate by the steps."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tools.training.folder.history import Event

__all__ = ["can_draw", "draw_curves"]

_FILE = "curves.png"

# Distinct for colour-blind readers too: M. Okabe, K. Ito, Color Universal Design, 2008.
_TRAINING, _VALIDATION, _RATE = "#0072b2", "#d55e00", "#009e73"

# The curves of single steps are smoothed over this share of them.
_SMOOTHED = 1 / 50


def can_draw() -> bool:
    """Returns whether matplotlib is installed."""
    try:
        import matplotlib  # noqa: F401
    except ModuleNotFoundError:
        return False
    return True


def draw_curves(folder: Path, events: Sequence[Event]) -> None:
    """Draws ``curves.png`` of the events, unless there are none, or matplotlib is not installed."""
    steps = [event for event in events if not event.is_validation]
    if not steps or not can_draw():
        return
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    validations = [event for event in events if event.is_validation]
    figure = Figure(figsize=(12, 4), layout="constrained")
    FigureCanvasAgg(figure)
    entropy, accuracy, rate = figure.subplots(1, 3)
    numbers = [event.step for event in steps]
    for axes, ours, theirs, label in (
        (entropy, "cross_entropy", "val_cross_entropy", "cross entropy"),
        (accuracy, "accuracy", "val_top_1", "accuracy, %"),
    ):
        scale = 100 if ours == "accuracy" else 1
        values = scale * np.array([getattr(event, ours) for event in steps])
        axes.plot(numbers, values, color=_TRAINING, alpha=0.25, linewidth=0.8)
        axes.plot(numbers, _smoothed(values), color=_TRAINING, linewidth=1.5, label="training, with augmentation")
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
    rate.plot(numbers, [event.learning_rate for event in steps], color=_RATE)
    rate.set(xlabel="step", ylabel="learning rate")
    rate.set_ylim(bottom=0)
    for axes in (entropy, accuracy, rate):
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(axis="y", color="#e5e5e5", linewidth=0.8)
        axes.set_axisbelow(True)
    accuracy.legend(loc="lower right", frameon=False, fontsize=9)
    # Replaces the picture before at once, so that a reader never sees half of one.
    temporary = folder / f".{_FILE}.incomplete"
    figure.savefig(temporary, dpi=130, format="png")
    temporary.replace(folder / _FILE)


def _smoothed(values: np.ndarray) -> np.ndarray:
    """Returns the running means of values."""
    window = max(1, round(len(values) * _SMOOTHED))
    sums = np.cumsum(np.concatenate([[0.0], values]))
    starts = np.maximum(np.arange(len(values)) - window + 1, 0)
    ends = np.arange(1, len(values) + 1)
    return (sums[ends] - sums[starts]) / (ends - starts)
