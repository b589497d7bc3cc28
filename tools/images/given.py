"""What Python code gives as images: paths and folders, arrays, PIL images, tensors of any library."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from tools.images.decoding import pixels_of
from tools.images.inputs import Inputs
from tools.images.opening import open_inputs
from tools.images.sources.files import ImageFiles

__all__ = ["arrays_or_inputs", "as_inputs"]

# The most channels that an image has; more are no last axis of one.
_CHANNELS = 4

_WHAT = "an array, PIL images, tensors, paths or a folder"


def as_inputs(paths: Inputs | str | Path | Iterable[str | Path]) -> Inputs:
    """Returns the images of paths, of a folder, or of any other input that has a name.

    Raises:
      InputError: for a name of nothing, or a folder without images. Paths in a list are looked at when they are read.
    """
    if isinstance(paths, Inputs):
        return paths
    if isinstance(paths, str | Path):
        return open_inputs([paths])
    given = [str(path) for path in paths]
    return open_inputs(given) if any(Path(path).is_dir() for path in given) else ImageFiles(given)


def arrays_or_inputs(images: Any) -> Inputs | np.ndarray | list[np.ndarray]:
    """Returns images as one array with a first axis for them, as an array each, or as inputs to read.

    Args:
      images: as ``FeatureExtractor`` is called with. One image counts as a batch of one.

    Raises:
      ValueError: for anything else.
    """
    if isinstance(images, Inputs | str | Path):
        return as_inputs(images)
    if isinstance(images, bytes | bytearray | memoryview | dict):
        raise ValueError(f"images must be {_WHAT}, and is of the type {type(images).__name__}.")
    if not _is_array(images):
        images = _listed(images)  # which may be an iterator, to be gone through once
        return _each(images) if images and not all(isinstance(one, str | Path) for one in images) else as_inputs(images)
    array = _array(images)
    if array.dtype.kind in "UO":  # names, or arrays of different shapes
        return arrays_or_inputs(array.ravel().tolist())
    return array[np.newaxis] if array.ndim == 3 and array.shape[-1] <= _CHANNELS else array


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
    # A batch of one is one image; several of more are none.
    arrays = [array[0] if array.ndim == 4 and len(array) == 1 else array for array in arrays]
    return np.stack(arrays) if len({(array.shape, array.dtype) for array in arrays}) == 1 else arrays


def _is_array(value: Any) -> bool:
    return isinstance(value, np.ndarray | Image.Image) or hasattr(value, "__array__")


def _array(value: Any) -> np.ndarray:
    if isinstance(value, Image.Image):
        return pixels_of(value)
    try:
        return np.asarray(value)
    except Exception as error:  # of whatever library the tensor is of
        said = " ".join(str(error).split())[:200]
        raise ValueError(
            f"images has a {type(value).__name__} whose values cannot be had ({said}): give numbers, such as what "
            "session.run returns of a graph's tensor, or tensor.detach().cpu().numpy()."
        ) from None
