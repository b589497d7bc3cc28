"""Converts a network's first kernel for images of another number of channels."""

import functools
import re
from collections.abc import Callable, Mapping

import numpy as np

from checkpoints.names import block_of

__all__ = ["FIRST_KERNELS", "first_kernel_conversions", "is_first_kernel"]

_FIRST = re.compile(r"(?:^|/)(conv1(/conv1_1)?/weights|init_conv/DW|Conv2d_1a_\dx\d/weights)$")

Conversion = Callable[[np.ndarray], np.ndarray]


def is_first_kernel(name: str) -> bool:
    """Returns whether a variable of this name is a network's first kernel."""
    return _FIRST.search(name) is not None and block_of(name) is None and "/Branch_" not in name


def first_kernel_conversions(
    how: str, in_graph: Mapping[str, tuple[int, ...]], stored: Mapping[str, tuple[int, ...]]
) -> dict[str, Conversion]:
    """Returns the functions that convert first kernels of another number of channels (name in the graph → function).

    Args:
      how: a key of ``FIRST_KERNELS``.
      in_graph: the graph's variables and their shapes.
      stored: those that the file has, and their shapes there.

    Raises:
      ValueError: for another value of ``how``, or if there is nothing to convert.
    """
    if not isinstance(how, str) or how not in FIRST_KERNELS:
        names = " or ".join(repr(name) for name in FIRST_KERNELS)
        raise ValueError(f"first_kernel must be {names}, and is {how!r}.")
    kernels = [name for name in in_graph if is_first_kernel(name)]
    if not kernels:
        raise ValueError(
            f"first_kernel={how!r} converts a network's first kernel, but none is restored here: leave it out."
        )
    known = [name for name in kernels if len(stored.get(name, ())) == len(in_graph[name]) == 4]
    others = {name: in_graph[name][2] for name in known if in_graph[name][2] != stored[name][2]}
    if len(known) == len(kernels) and not others:
        raise ValueError(
            f"first_kernel={how!r} converts to another number of channels, but the graph and the file both have "
            f"{stored[kernels[0]][2]}: leave it out."
        )
    return {name: functools.partial(_converted, FIRST_KERNELS[how], channels) for name, channels in others.items()}


def _converted(share: Callable[[int, int], np.ndarray], channels: int, kernel: np.ndarray) -> np.ndarray:
    # Double precision rounds a kernel of half precision only once.
    shares = share(kernel.shape[2], channels)
    return np.einsum("hwio,ij->hwjo", kernel.astype(np.float64), shares).astype(kernel.dtype)


def _mean(there: int, here: int) -> np.ndarray:
    """Returns equal shares for all channels."""
    return np.full([there, here], 1 / here)


def _repeat(there: int, here: int) -> np.ndarray:
    """Returns shares that pair the channels one by one, and begin again at the first one of the shorter side."""
    larger = np.arange(max(there, here))
    shares = np.zeros([there, here])
    shares[larger % there, larger % here] = 1
    return shares / shares.sum(axis=1, keepdims=True)


# The share that each of the graph's channels (columns) gets of each of the file's (rows), for each way to convert. Each
# row adds up to 1, so that the network's response to a grey image stays the same.
FIRST_KERNELS: dict[str, Callable[[int, int], np.ndarray]] = {"mean": _mean, "repeat": _repeat}
