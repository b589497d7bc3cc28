"""The network's input for images, and pixels that show it."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow as tf

from nets.preprocessing import PREPROCESSINGS
from tools.errors import ImageError
from tools.features import FeatureExtractor
from tools.images import Inputs
from tools.images.given import arrays_or_inputs, check_array
from tools.images.reading import read_image

__all__ = ["input_batches", "shown"]

v1 = tf.compat.v1


def input_batches(extractor: FeatureExtractor, images: Any) -> Iterator[np.ndarray]:
    """Yields the network's input for images, float32 [batch, height, width, channels], a batch at a time.

    Args:
      extractor: has the preprocessing and the size of a batch.
      images: as for a call of the extractor.

    Raises:
      ImageError: if a file cannot be decoded.
      ValueError: for anything but images.
    """
    given = arrays_or_inputs(images)
    for start in range(0, len(given), extractor.batch_size):
        rows = range(start, min(start + extractor.batch_size, len(given)))
        yield np.concatenate([extractor.preprocess(_pixels(extractor, given, row)) for row in rows])


def _pixels(extractor: FeatureExtractor, given: Inputs | np.ndarray | list[np.ndarray], row: int) -> np.ndarray:
    """Returns the pixels of one image, [1, height, width, channels]."""
    if isinstance(given, Inputs):
        status, pixels = read_image(given, row, extractor.preprocessing, extractor.image_size)
        if status.error is not None:
            raise ImageError(f"{status.path}: {status.error}")
        return pixels[np.newaxis]
    channels = extractor.input_shape[-1] if extractor.preprocessing == "none" else 3
    check_array(given[row][np.newaxis], extractor.preprocessing, extractor.image_size, channels)
    return given[row][np.newaxis]


def shown(inputs: np.ndarray, preprocessing: str) -> np.ndarray:
    """Returns uint8 pixels [N, height, width, 3] that show the network's input.

    'vgg', 'inception', 'torchvision' and 'grayscale' are undone. 'cifar' and 'none' cannot be: they are stretched from
    the smallest to the largest value of each image.

    Args:
      inputs: [N, height, width, 1 or 3], as ``FeatureExtractor.preprocess`` returns them.
      preprocessing: of the inputs.
    """
    inputs = np.asarray(inputs, np.float32)
    if preprocessing in ("cifar", "none"):
        low, high = (reduce(inputs, axis=(1, 2, 3), keepdims=True) for reduce in (np.nanmin, np.nanmax))
    else:
        low, high = _black_and_white(preprocessing)
    scaled = (inputs - low) / np.where(high > low, high - low, 1) * 255
    pixels = np.clip(np.round(np.nan_to_num(scaled)), 0, 255).astype(np.uint8)
    return np.broadcast_to(pixels[..., :3] if pixels.shape[-1] >= 3 else pixels[..., :1], (*pixels.shape[:3], 3))


def _black_and_white(preprocessing: str) -> list[np.ndarray]:
    """Returns the input for black and for white, [channels] each. Both are affine in the pixels."""
    chosen = PREPROCESSINGS[preprocessing]
    with tf.Graph().as_default(), v1.Session() as session:
        extremes = [chosen.normalize(tf.fill([1, 1, 1, 3], value)) for value in (0.0, chosen.white)]
        return [value[0, 0, 0] for value in session.run(extremes)]
