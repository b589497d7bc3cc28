"""Reads one image for a network's input, and tells what became of it."""

from collections.abc import Collection, Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image

from tools.errors import ImageError
from tools.images.decoding import decode
from tools.images.fitting import scaled_size
from tools.images.inputs import Inputs, Stamp, sha256_of

__all__ = ["ImageStatus", "of_images", "read_image"]


class ImageStatus(NamedTuple):
    """The result of reading and decoding one image.

    path: its name.
    width, height: as decoded; None if it was not.
    error: why it failed; None if it did not.
    label: its class; '' if it has none.
    stamp, sha256: identify its content, see ``tools.images.inputs``; None and b"" if it could not be read.
    """

    path: str
    width: int | None
    height: int | None
    error: str | None
    label: str = ""
    stamp: Stamp | None = None
    sha256: bytes = b""


def read_image(
    inputs: Inputs, row: int, preprocessing: str, size: int, augmentation: str = "none"
) -> tuple[ImageStatus, np.ndarray | None]:
    """Reads and decodes an image for a network's input.

    Args:
      inputs: the images.
      row: number of the image.
      preprocessing, size, augmentation: of the network's input, which not every image can be made to.

    Returns:
      Its status, and its pixels, uint8 [height, width, 3]; None if it cannot be decoded.

    Raises:
      InputError: if the storage fails rather than a single image.
    """
    name = inputs.name(row)
    try:
        image = inputs.read(row)
    except ImageError as error:
        return ImageStatus(name, None, None, str(error)), None
    identity = (image.label, image.stamp, sha256_of(name, image))
    try:
        pixels = decode(image.data)
    except ImageError as error:
        return ImageStatus(image.name, None, None, str(error), *identity), None
    height, width = pixels.shape[:2]
    refusal = _why_not_preprocessed(preprocessing, size, augmentation, height, width)
    return ImageStatus(image.name, width, height, refusal, *identity), pixels


def _why_not_preprocessed(preprocessing: str, size: int, augmentation: str, height: int, width: int) -> str | None:
    """Returns the reason why an image of this size cannot be preprocessed; None if it can."""
    if preprocessing == "none" and (height, width) != (size, size):
        return f"the image is {width}x{height}, and without preprocessing must be {size} on each side"
    if augmentation == "none":
        scaled_height, scaled_width = scaled_size(preprocessing, size, height, width)
    else:
        from nets.augmentation import largest_size  # imports TensorFlow

        scaled_height, scaled_width = largest_size(preprocessing, augmentation, size, height, width)
    # For example one row with millions of columns, because vgg enlarges the shorter side.
    if scaled_height * scaled_width > Image.MAX_IMAGE_PIXELS:
        return (
            f"the image of {width}x{height} cannot be preprocessed: {preprocessing} at {size} would scale it to "
            f"{scaled_width}x{scaled_height}"
        )
    return None


def of_images(
    statuses: Sequence[ImageStatus], computed: dict[str, np.ndarray], whole: Collection[str] = ()
) -> dict[str, np.ndarray]:
    """Cuts the arrays of a filled batch to its images, in place; rows of images that have failed become NaN.

    Args:
      statuses: of the batch's images, without those that fill it.
      computed: float arrays by name, with a row for each image of the filled batch.
      whole: names of arrays that describe a batch as a whole, which stay as they are.
    """
    failed = [row for row, status in enumerate(statuses) if status.error is not None]
    for name in computed.keys() - {*whole}:
        computed[name] = computed[name][: len(statuses)]
        computed[name][failed] = np.nan
    return computed
