"""The images from which the ranges of an int8 network's activations are taken, and others on which it is proved."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Self

import numpy as np
from PIL import Image, ImageOps

from tools.errors import ImageError, InputError
from tools.images import Inputs, decode
from tools.images.given import as_inputs
from tools.images.inputs import spread_rows

if TYPE_CHECKING:
    from tools.features import FeatureExtractor

__all__ = ["Calibration"]

# Largest numbers of images to calibrate with, and to prove with; and the smallest number of images in all.
_CALIBRATE, _PROVE, _LEAST = 128, 64, 32

# Images in a batch to calibrate with, if the network takes any number.
_BATCH = 8

# Images of different sizes are scaled to this multiple of the network's input, so that a preprocessing that crops keeps
# as much of them as of an image of any other size.
_MARGIN = 256 / 224


class Calibration(NamedTuple):
    """Images, uint8 [height, width, 3].

    images: images to calibrate with.
    others: images to prove with.
    """

    images: list[np.ndarray]
    others: list[np.ndarray]

    @classmethod
    def of(cls, given: Inputs | str | Path | Iterable[str | Path]) -> Self:
        """Decodes images that are spread over the inputs. Those that cannot be decoded are left out.

        Raises:
          InputError: if there are fewer than 32.
        """
        inputs = as_inputs(given)
        decoded = list(_decoded(inputs, spread_rows(len(inputs), _CALIBRATE + _PROVE)))
        if len(decoded) < _LEAST:
            raise InputError(
                f"calibrate has {len(decoded)} images that can be decoded: give at least {_LEAST}, such as the ones "
                "that the network was trained on."
            )
        # Every third, so that both are spread over the inputs.
        return cls([image for i, image in enumerate(decoded) if i % 3], decoded[::3])

    def batches(self, extractor: "FeatureExtractor", input: str, batch: int | None) -> Iterator[np.ndarray]:
        """Yields batches of the exported network's input, all of one shape.

        Args:
          extractor: of the network's weights.
          input, batch: as for ``serving_graph``.
        """
        size = batch or min(_BATCH, len(self.images))
        images = self.images
        if len({image.shape for image in images}) > 1:
            side = round(extractor.image_size * _MARGIN)
            images = [np.asarray(ImageOps.fit(Image.fromarray(image), (side, side))) for image in images]
        for start in range(0, len(images), size):
            # The last batch is filled up with the first images.
            chosen = np.stack([images[(start + place) % len(images)] for place in range(size)])
            yield extractor.preprocess(chosen) if input == "network" else chosen


def _decoded(inputs: Inputs, rows: Iterable[int]) -> Iterator[np.ndarray]:
    for row in rows:
        try:
            yield decode(inputs.read(row).data)
        except ImageError:
            continue
