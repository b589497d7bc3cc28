"""Makes a network's input of one image in NumPy: the preprocessings that need no more than NumPy's arithmetic.

The results are those of ``nets.preprocessing``, to the bit, in two thirds of the time: pixels that the crop leaves out
are not computed. No TensorFlow is imported.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

__all__ = ["FITTED", "fit", "scaled_size"]

# Constants of ``nets.preprocessing``.
_VGG_MEANS = (123.68, 116.78, 103.94)
_VGG_RESIZE_SIDE, _VGG_CROP_SIDE = 256, 224
_INCEPTION_MARGIN = 16


class _Axis(NamedTuple):
    """The two neighbours of each pixel of a resized axis, and the share of the second one."""

    lower: np.ndarray
    upper: np.ndarray
    share: np.ndarray


@functools.lru_cache(maxsize=64)
def _axis(count: int, length: int, start: int, size: int) -> _Axis:
    """Returns ``size`` pixels from ``start`` of an axis of ``count`` that is resized to ``length``.

    Positions are in float32, and with legacy pixel centres, as in TensorFlow's ``ResizeBilinear``.
    """
    positions = np.arange(start, start + size).astype(np.float32) * (np.float32(count) / np.float32(length))
    lower = np.minimum(positions.astype(np.intp), count - 1)
    return _Axis(lower, np.minimum(lower + 1, count - 1), positions - lower.astype(np.float32))


def _resized(pixels: np.ndarray, rows: _Axis, columns: _Axis, scale: np.float32 | None = None) -> np.ndarray:
    """Resizes an image by its axes. Returns float32 [height, width * channels]; uint8 is multiplied by ``scale``."""
    channels = pixels.shape[2]
    first = int(rows.lower[0])
    used = pixels[first : int(rows.upper[-1]) + 1]
    used = used.reshape(len(used), -1)
    left, right = (
        _as_float(np.take(used, _elements(neighbours, channels), axis=1, mode="clip"), scale)
        for neighbours in (columns.lower, columns.upper)
    )
    mixed = _mix(left, right, np.repeat(columns.share, channels))
    top, bottom = (np.take(mixed, neighbours - first, axis=0, mode="clip") for neighbours in (rows.lower, rows.upper))
    return _mix(top, bottom, rows.share[:, np.newaxis])


def _elements(pixels: np.ndarray, channels: int) -> np.ndarray:
    return (pixels[:, np.newaxis] * channels + np.arange(channels)).ravel()


def _as_float(values: np.ndarray, scale: np.float32 | None) -> np.ndarray:
    values = values.astype(np.float32)
    if scale is not None:
        values *= scale
    return values


def _mix(first: np.ndarray, second: np.ndarray, share: np.ndarray) -> np.ndarray:
    """Returns ``first + (second - first) * share`` in place of ``second``."""
    second -= first
    second *= share
    second += first
    return second


def scaled_size(preprocessing: str, size: int, height: int, width: int) -> tuple[int, int]:
    """Returns (height, width) of the largest image between an image of ``height`` x ``width`` and the network's input.

    It is that of ``nets.preprocessing.scaled_size``, and no smaller than the image and the input.
    """
    if preprocessing in ("vgg", "torchvision"):
        scale = _shorter_side(size) / min(height, width)
        height, width = (max(side, round(side * scale)) for side in (height, width))
    return max(height, size), max(width, size)


def _shorter_side(size: int) -> int:
    return round(_VGG_RESIZE_SIDE * size / _VGG_CROP_SIDE)


def _fit_vgg(pixels: np.ndarray, size: int) -> np.ndarray:
    height, width = pixels.shape[:2]
    scale = np.float32(_shorter_side(size)) / np.float32(min(height, width))
    resized = [int(np.round(np.float32(side) * scale)) for side in (height, width)]
    axes = (
        _axis(side, length, (length - size) // 2, size) for side, length in zip((height, width), resized, strict=True)
    )
    return _resized(pixels, *axes) - np.tile(np.float32(_VGG_MEANS), size)


def _fit_inception(pixels: np.ndarray, size: int) -> np.ndarray:
    height, width = pixels.shape[:2]
    top, left = height // _INCEPTION_MARGIN, width // _INCEPTION_MARGIN
    pixels = pixels[top : height - top, left : width - left]
    axes = (_axis(side, size, 0, size) for side in pixels.shape[:2])
    fitted = _resized(pixels, *axes, np.float32(1 / 255))
    fitted -= np.float32(0.5)
    fitted *= np.float32(2.0)
    return fitted


def _fit_none(pixels: np.ndarray, size: int) -> np.ndarray:
    return pixels.astype(np.float32)


# Name of a preprocessing → its function.
FITTED: dict[str, Callable[[np.ndarray, int], np.ndarray]] = {
    "inception": _fit_inception,
    "none": _fit_none,
    "vgg": _fit_vgg,
}


def fit(pixels: np.ndarray, preprocessing: str, size: int) -> np.ndarray:
    """Preprocesses an image.

    Args:
      pixels: uint8 [height, width, 3], RGB.
      preprocessing: a name in ``FITTED``.
      size: height and width of the result; with 'none' the image must already have this size.

    Returns:
      float32 [size, size, 3].
    """
    return FITTED[preprocessing](pixels, size).reshape(size, size, -1)
