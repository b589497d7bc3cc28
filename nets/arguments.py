"""Checks of the arguments of layers, units, arg scopes and networks.

Each check returns the value in the form that the caller computes with, or raises a ValueError that names the argument.
TensorFlow accepts True as 1 and converts strings to numbers. These checks accept neither as a number.
"""

import math
import numbers
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
import tensorflow as tf

__all__ = [
    "check_collections",
    "check_mapping",
    "check_num_classes",
    "check_scope",
    "check_seed",
    "check_weight_decay",
    "flag",
    "function",
    "is_number",
    "number",
    "padding_name",
    "pair",
    "shown",
    "whole_number",
    "whole_numbers",
]

v1 = tf.compat.v1

_BOOLS = (bool, np.bool_)

# Maximum number of characters of a value in a message.
_LONGEST = 100


def shown(value: Any) -> str:
    """Returns the ``repr`` of a value for a message: on one line, and shortened if it is long."""
    text = " ".join(repr(value).split())
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 3]}..."


def is_number(value: Any) -> bool:
    """Returns whether ``value`` is a real number and not a bool."""
    return isinstance(value, numbers.Real) and not isinstance(value, _BOOLS)


def whole_number(name: str, value: Any, least: int) -> int:
    """Returns ``value`` as an int.

    Args:
      name: name of the argument, for the message.
      value: an int, a float without a fraction, or a ``Dimension`` of TensorFlow 1.
      least: smallest value allowed.

    Raises:
      ValueError: if it is not a whole number, or less than ``least``.
    """
    given = value.value if isinstance(value, v1.Dimension) else value
    if not is_number(given) or given != given // 1 or given < least:
        raise ValueError(f"{name} must be a whole number of at least {least}, and is {shown(value)}.")
    return int(given)


def whole_numbers(**values: Any) -> list[int]:
    """Returns the values of the named arguments as ints of at least 1; see ``whole_number``."""
    return [whole_number(name, value, least=1) for name, value in values.items()]


def check_num_classes(value: Any) -> int:
    """Returns the number of classes; 0, which means no logits, for None."""
    if isinstance(value, _BOOLS):
        raise ValueError(
            f"num_classes must be a whole number of at least 0, and is {shown(value)}: is_training comes after it "
            f"(or give is_training={value!s} by keyword)."
        )
    return 0 if value is None else whole_number("num_classes", value, least=0)


def pair(name: str, value: Any) -> tuple[int, int]:
    """Returns (vertical, horizontal) for an int of at least 1, or for two of them."""
    try:
        if isinstance(value, list | tuple | np.ndarray | tf.TensorShape):
            vertical, horizontal = (whole_number(name, each, least=1) for each in value)
            return vertical, horizontal
        if not isinstance(value, float | np.floating):
            return (whole_number(name, value, least=1),) * 2
    except (TypeError, ValueError):
        pass
    raise ValueError(f"{name} must be an int of at least 1, or two of them, and is {shown(value)}.") from None


def number(
    name: str, value: Any, *, least: float = 0.0, most: float = math.inf, tensor: bool = False
) -> float | tf.Tensor:
    """Returns ``value`` if it is a finite number from ``least`` to ``most``.

    Args:
      name: name of the argument, for the message.
      value: the number.
      least, most: allowed range, ends included.
      tensor: whether a tensor is allowed too. It is returned unchanged.

    Raises:
      ValueError: for anything else, including NaN and bools.
    """
    if tensor and _is_scalar_tensor(value):
        return value
    if not is_number(value) or not least <= value <= most or math.isinf(value):
        expected = f"of at least {least:g}" if math.isinf(most) else f"from {least:g} to {most:g}"
        raise ValueError(f"{name} must be a number {expected}, and is {shown(value)}.")
    return value


def _is_scalar_tensor(value: Any) -> bool:
    is_tensor = isinstance(value, tf.Variable) or tf.is_tensor(value)
    return is_tensor and value.dtype.is_floating and value.shape.rank in (0, None)


def check_weight_decay(value: Any) -> float | tf.Tensor:
    """Returns a weight decay in the form that tf_slim's ``l2_regularizer`` requires; it refuses ints.

    Args:
      value: a float of at least 0, or a scalar tensor.

    Raises:
      ValueError: for anything else. For a bool the message says where ``is_training`` belongs.
    """
    if isinstance(value, np.ndarray) and value.ndim == 0:
        value = value[()]
    if _is_scalar_tensor(value):
        return value
    if is_number(value) and not isinstance(value, numbers.Integral) and 0 <= value < math.inf:
        return float(value)
    advice = ""
    if isinstance(value, _BOOLS):
        advice = f": is_training is an argument of the builder (or give is_training={value!s} by keyword)"
    elif isinstance(value, numbers.Integral) and value >= 0:
        advice = f": if {value} is meant, write {float(value)}; is_training is an argument of the builder"
    raise ValueError(f"weight_decay must be a float of at least 0, such as 0.0001, and is {shown(value)}{advice}.")


def flag(name: str, value: Any) -> bool:
    """Returns ``value`` as a bool: True, False, 1, 0, or None, which is False."""
    if value is None or isinstance(value, _BOOLS) or (isinstance(value, numbers.Integral) and value in (0, 1)):
        return bool(value)
    raise ValueError(f"{name} must be True or False, and is {shown(value)}.")


def function(name: str, value: Any) -> Callable | None:
    """Returns ``value`` if it is callable or None."""
    if value is not None and not callable(value):
        raise ValueError(f"{name} must be a function or None, and is {shown(value)}.")
    return value


def padding_name(value: Any) -> str:
    """Returns 'SAME' or 'VALID', in capitals."""
    if not isinstance(value, str) or value.upper() not in ("SAME", "VALID"):
        raise ValueError(f"padding must be 'SAME' or 'VALID', and is {shown(value)}.")
    return value.upper()


def check_mapping(name: str, value: Any) -> Mapping[str, Any]:
    """Returns a dict of arguments; an empty one for None."""
    if value is not None and not isinstance(value, Mapping):
        raise ValueError(f"{name} must be a dict or None, and is {shown(value)}.")
    return value or {}


def check_collections(name: str, value: Any) -> Any:
    """Returns ``value`` if it is the name of a collection, several names, or None."""
    if value is None or isinstance(value, str) or (isinstance(value, Iterable) and not tf.is_tensor(value)):
        return value
    raise ValueError(f"{name} must be the name of a collection, a list of names or None, and is {shown(value)}.")


def check_seed(name: str, value: Any) -> tf.Tensor:
    """Returns ``value`` as a tensor of two int64, from which stateless operations draw."""
    try:
        seed = tf.convert_to_tensor(value)
    except (TypeError, ValueError):
        seed = None
    if seed is None or seed.dtype not in (tf.int32, tf.int64) or not seed.shape.is_compatible_with([2]):
        raise ValueError(f"{name} must be two integers, int32 or int64, and is {shown(value)}.")
    return tf.cast(seed, tf.int64)  # the same integers draw other numbers as int32


def check_scope(scope: Any, reuse: Any) -> None:
    """Raises ValueError if no variable scope can be opened with these arguments."""
    if scope is not None and not isinstance(scope, str | v1.VariableScope):
        raise ValueError(f"scope must be a string, a variable scope or None, and is {shown(scope)}.")
    if reuse is not None and reuse is not v1.AUTO_REUSE and not isinstance(reuse, bool):
        raise ValueError(f"reuse must be True, False, None or tf.AUTO_REUSE, and is {shown(reuse)}.")
