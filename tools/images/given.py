"""Reads the images that Python code passes: paths and folders, arrays, PIL images, tensors of any library."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from tools.images.decoding import pixels_of
from tools.images.inputs import Inputs
from tools.images.opening import open_inputs
from tools.images.sources.files import ImageFiles

__all__ = ["arrays_or_inputs", "as_inputs", "check_array"]

# Largest number of channels. A last axis that is longer does not hold channels.
_CHANNELS = 4

_WHAT = "an array, PIL images, tensors, paths or a folder"


def as_inputs(paths: Inputs | str | Path | Iterable[str | Path]) -> Inputs:
    """Returns the images of paths, of a folder, or of any other input of ``open_inputs``.

    Raises:
      InputError: if a path does not exist, or a folder has no images. Files in a list are checked when they are read.
    """
    if isinstance(paths, Inputs):
        return paths
    if isinstance(paths, str | Path):
        return open_inputs([paths])
    given = [str(path) for path in paths]
    return open_inputs(given) if any(Path(path).is_dir() for path in given) else ImageFiles(given)


def arrays_or_inputs(images: Any) -> Inputs | np.ndarray | list[np.ndarray]:
    """Returns images as one array [N, ...], as a list of arrays, or as inputs to read.

    Args:
      images: the argument of a call of ``FeatureExtractor``. A single image becomes a batch of one.

    Raises:
      ValueError: for anything else.
    """
    if isinstance(images, Inputs | str | Path):
        return as_inputs(images)
    if isinstance(images, bytes | bytearray | memoryview | dict):
        raise ValueError(f"images must be {_WHAT}, and is of the type {type(images).__name__}.")
    if not _is_array(images):
        images = _listed(images)  # an iterator can be read only once
        return _each(images) if images and not all(isinstance(one, str | Path) for one in images) else as_inputs(images)
    array = _array(images)
    if array.dtype.kind in "UO":  # names, or arrays of different shapes
        return arrays_or_inputs(array.ravel().tolist())
    return array[np.newaxis] if array.ndim == 3 and array.shape[-1] <= _CHANNELS else array


def check_array(images: np.ndarray, preprocessing: str, size: int, channels: int) -> None:
    """Raises ValueError if a network with this input does not take images of this shape and dtype."""
    expected = np.floating if preprocessing == "none" else np.uint8
    shape = images.shape
    if images.ndim != 4 or shape[-1] != channels or not np.issubdtype(images.dtype, expected):
        wanted = "float" if expected is np.floating else "uint8"
        hint = ""
        if images.ndim == 4 and shape[1] == channels != shape[-1]:
            hint = " Its channels come first: transpose it by (0, 2, 3, 1)."
        elif expected is np.uint8 and np.issubdtype(images.dtype, np.floating):
            hint = " Give the pixels from 0 to 255 with astype('uint8'), or preprocessing='none' for your own."
        raise ValueError(
            f"images must be {wanted} [N, height, width, {channels}] with preprocessing {preprocessing!r}, and is "
            f"{images.dtype} {list(shape)}.{hint}"
        )
    if preprocessing == "none" and shape[1:3] != (size, size):
        raise ValueError(
            f"Without preprocessing images must be {size}x{size}, and are {shape[1]}x{shape[2]}: resize them, or set "
            "image_size."
        )


def _listed(images: Any) -> list[Any]:
    try:
        return list(images)
    except TypeError:
        raise ValueError(f"images must be {_WHAT}, and is {images!r}.") from None


def _each(images: list[Any]) -> np.ndarray | list[np.ndarray]:
    kinds = {type(one).__name__ for one in images if not _is_array(one)}
    if kinds:
        raise ValueError(
            f"images must be {_WHAT}, and is a list with elements of the type {min(kinds)}: give all as paths, or all "
            "as arrays."
        )
    arrays = [_array(one) for one in images]
    # A batch of one is one image. Larger batches in a list are not images.
    arrays = [array[0] if array.ndim == 4 and len(array) == 1 else array for array in arrays]
    return np.stack(arrays) if len({(array.shape, array.dtype) for array in arrays}) == 1 else arrays


def _is_array(value: Any) -> bool:
    return isinstance(value, np.ndarray | Image.Image) or hasattr(value, "__array__")


def _array(value: Any) -> np.ndarray:
    if isinstance(value, Image.Image):
        return pixels_of(value)
    try:
        return np.asarray(value)
    except Exception as error:  # of the tensor's own library
        said = " ".join(str(error).split())[:200]
        raise ValueError(
            f"images has a {type(value).__name__} whose values cannot be read ({said}): give numbers, such as what "
            "session.run returns for a graph's tensor, or tensor.detach().cpu().numpy()."
        ) from None
