"""The class of the background, which some of slim's weights have beside the 1000 of ImageNet, as class 0."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

__all__ = ["ClassConversion", "class_conversion"]

# The logit of a background class that is added to weights without one: below any that a network computes, and a number
# in half precision.
_NEVER = -3e4


class ClassConversion(NamedTuple):
    """From logits of some number of classes to those of another.

    effect: what it does, a clause.
    apply: to the weights or the biases of the logits.
    """

    effect: str
    apply: Callable[[np.ndarray], np.ndarray]


def class_conversion(stored: int, wanted: int) -> ClassConversion | None:
    """What restoring logits of so many classes as so many others does; None where it cannot be done."""
    return _CONVERSIONS.get((stored, wanted))


def _without_background(value: np.ndarray) -> np.ndarray:
    return value[..., 1:]


def _with_background(value: np.ndarray) -> np.ndarray:
    initial = _NEVER if value.ndim == 1 else 0
    return np.concatenate([np.full_like(value[..., :1], initial), value], axis=-1)


_CONVERSIONS = {
    (1001, 1000): ClassConversion("drops the background", _without_background),
    (1000, 1001): ClassConversion("adds a background that never wins", _with_background),
}
