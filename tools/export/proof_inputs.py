"""The inputs on which an export is proved, and what our network computes for them.

They are real pictures of odd sizes, some smaller than the network's input.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from tools.errors import InputError
from tools.export.staging import EXPECTED, INPUTS, joined, write_batches
from tools.features import FeatureExtractor
from tools.images import decode

__all__ = ["ProofInput", "pictures", "proof_inputs", "write_proof"]

# Number of images in the batch that follows those of one image.
_SEVERAL = 3


class ProofInput(NamedTuple):
    """A batch of the exported network's input.

    images: what the exported network gets: uint8 [N, height, width, 3], bytes of files [N], or the network's input.
    expected: what our extractor gets: the same images, as arrays or paths.
    """

    images: np.ndarray
    expected: np.ndarray | list[str]


def pictures() -> list[Path]:
    """Returns the pictures that come with this package, eight JPEG files."""
    return sorted((Path(__file__).parent / "pictures").glob("*.jpg"))


def write_proof(
    extractor: FeatureExtractor, input: str, batch: int | None, images: Sequence[np.ndarray], folder: Path
) -> None:
    """Writes inputs, and the outputs of an extractor by the aliases of their end points, one row for each image.

    Args:
      extractor: of the network's weights.
      input, batch: of the exported network; see ``serving_graph``.
      images: uint8 images in place of the pictures that come with this package.
      folder: the staged network.

    Raises:
      InputError: if an output is infinite, or not a number.
    """
    given = list(proof_inputs(extractor, input, batch, images))
    computed = joined([extractor(one.expected) for one in given])
    for name, values in computed.items():
        if not np.isfinite(values).all():
            raise InputError(
                f"The network itself computes {name} with values that are not finite: check the checkpoint with "
                "`slimnets inspect --check`."
            )
    write_batches(folder / INPUTS, (one.images for one in given))
    np.savez(folder / EXPECTED, **{extractor.end_points[name].alias: values for name, values in computed.items()})


def proof_inputs(
    extractor: FeatureExtractor, input: str, batch: int | None, given: Sequence[np.ndarray] = ()
) -> Iterator[ProofInput]:
    """Yields batches of one image each and a larger one, or batches of the only size that the network takes.

    Args:
      extractor: of the network's weights.
      input: kind of the input, as for ``serving_graph``.
      batch: number of images in each batch; None for any.
      given: images in place of the pictures, uint8 [height, width, 3].
    """
    if input == "encoded":
        paths = [str(path) for path in pictures()]
        for first, size in enumerate(_sizes(len(paths), batch)):
            chosen = [paths[(first + place) % len(paths)] for place in range(size)]
            yield ProofInput(np.array([Path(path).read_bytes() for path in chosen], object), chosen)
        return
    images = list(given) or [decode(path) for path in pictures()]
    if extractor.preprocessing == "none":
        images = [_as_input(image, extractor.input_shape) for image in images]
    for image, size in zip(images, _sizes(len(images), batch), strict=True):
        variants = _variants(image, size)
        yield ProofInput(extractor.preprocess(variants) if input == "network" else variants, variants)


def _sizes(count: int, batch: int | None) -> list[int]:
    """Returns the sizes of ``count`` batches."""
    return [batch] * count if batch else [1] * (count - 1) + [_SEVERAL]


def _variants(image: np.ndarray, count: int) -> np.ndarray:
    """Returns an image and others of its size: mirrored, and shifted around by a row more each time."""
    mirrored = [image, image[:, ::-1]]
    return np.stack([np.roll(mirrored[number % 2], number // 2, axis=0) for number in range(count)])


def _as_input(image: np.ndarray, shape: tuple[int, int, int]) -> np.ndarray:
    """Returns an image in [-1, 1] with the shape of the network's input, for weights whose preprocessing is unknown."""
    height, width, channels = shape
    rows = np.arange(height) * image.shape[0] // height
    columns = np.arange(width) * image.shape[1] // width
    resized = image[rows][:, columns] / np.float32(127.5) - np.float32(1)
    return resized[..., np.arange(channels) % 3]
