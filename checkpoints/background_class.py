"""Conversion of logits with a background class: some of slim's weights have it as class 0, before ImageNet's 1000."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

__all__ = ["ClassConversion", "class_conversion"]

# The logit of an added background class: lower than any that a network computes, and still a number in half precision.
_NEVER = -3e4


class ClassConversion(NamedTuple):
    """A conversion of logits to another number of classes.

    effect: the effect, as a clause.
    apply: converts the weights or the biases of the logits.
    """

    effect: str
    apply: Callable[[np.ndarray], np.ndarray]


def class_conversion(stored: int, wanted: int) -> ClassConversion | None:
    """Returns the conversion of logits with ``stored`` classes to ``wanted`` classes; None if there is none."""
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
