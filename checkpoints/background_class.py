"""Conversion of logits with a background class: some of slim's weights have it as class 0, before ImageNet's 1000."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

__all__ = ["BACKGROUND", "ClassConversion", "class_conversion"]

# The name of the background class.
BACKGROUND = "background"

# The logit of an added background class: lower than any that a network computes, and still a number in half precision.
_NEVER = -3e4


class ClassConversion(NamedTuple):
    """A conversion of logits to another number of classes.

    effect: the effect, as a clause.
    apply: converts the weights or the biases of the logits.
    rename: converts the names of the classes.
    """

    effect: str
    apply: Callable[[np.ndarray], np.ndarray]
    rename: Callable[[Sequence[str]], tuple[str, ...]]


def class_conversion(stored: int, wanted: int) -> ClassConversion | None:
    """Returns the conversion of logits with ``stored`` classes to ``wanted`` classes; None if there is none."""
    return _CONVERSIONS.get((stored, wanted))


def _without_background(value: np.ndarray) -> np.ndarray:
    return value[..., 1:]


def _with_background(value: np.ndarray) -> np.ndarray:
    initial = _NEVER if value.ndim == 1 else 0
    return np.concatenate([np.full_like(value[..., :1], initial), value], axis=-1)


def _names_without_background(names: Sequence[str]) -> tuple[str, ...]:
    return tuple(names[1:])


def _names_with_background(names: Sequence[str]) -> tuple[str, ...]:
    return (BACKGROUND, *names)


_CONVERSIONS = {
    (1001, 1000): ClassConversion("drops the background", _without_background, _names_without_background),
    (1000, 1001): ClassConversion("adds a background that never wins", _with_background, _names_with_background),
}
