"""``slimnets demo``: the main job on what ships with slimnets, and what its result is good for.

Restores the small network that was trained on handwritten digits, extracts features of digits by other writers,
which it never saw, and lets a nearest-neighbour classifier work on them, beside the same on raw pixels.
"""

import shutil
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

import checkpoints
from tools import features
from tools.feature_extractor import FeatureExtractor
from tools.images import decode
from tools.inputs import InputError
from tools.networks import print_network

__all__ = ["Digits", "digits", "errors", "nearest", "run"]

_SHIPPED = Path(checkpoints.__file__).parent
CHECKPOINT = _SHIPPED / "resnet_v2_tiny_digits.ckpt"
HELD_OUT = _SHIPPED / "digits" / "heldout"

_END_POINTS = ("block2", "global_pool", "logits")
_TILE = 8


class Digits(NamedTuple):
    """Pictures of digits: uint8 [N, 8, 8, 3], and which digit each is, [N]."""

    pictures: np.ndarray
    labels: np.ndarray


def digits() -> Digits:
    """The pictures that the shipped network was trained on, which the classifiers take their neighbours from."""
    labels = np.loadtxt(_SHIPPED / "digits" / "reference_labels.txt", dtype=int)
    sheet = decode(_SHIPPED / "digits" / "reference.png")
    rows, columns = sheet.shape[0] // _TILE, sheet.shape[1] // _TILE
    tiles = sheet.reshape(rows, _TILE, columns, _TILE, 3).swapaxes(1, 2).reshape(-1, _TILE, _TILE, 3)
    return Digits(tiles[: len(labels)], labels)


def nearest(queries: np.ndarray, references: np.ndarray) -> np.ndarray:
    """For each row of ``queries`` [N, D] the index of the nearest row of ``references`` [M, D], by Euclid."""
    queries, references = queries.astype(np.float64), references.astype(np.float64)
    # |q - r|^2 less |q|^2, which is the same for all of a query's neighbours.
    return np.argmin(np.sum(references**2, axis=1) - 2 * queries @ references.T, axis=1)


def errors(predicted: np.ndarray, labels: np.ndarray) -> int:
    """How many predictions are wrong."""
    return int(np.sum(predicted != labels))


def run(output: str) -> int:
    """The command: prints what it does and finds, and leaves features and a picture in ``output``."""
    folder = _emptied(Path(output))
    reference = digits()
    with FeatureExtractor(_from_here(CHECKPOINT), _END_POINTS) as extractor:
        print(f"The checkpoint, restored into {extractor.net}:\n\n{extractor.report}\n")
        print("Its end points, any of which can be asked for:\n")
        print_network(extractor.net, as_json=False)
        summary = features.extract([HELD_OUT], folder / "features", extractor)
        reference_features = extractor(reference.pictures)
    held_out = features.load(summary.output)
    print(f"\nFeatures of {summary.done} images, in {summary.output}:\n")
    for alias, array in held_out.arrays.items():
        print(f"  {alias + '.npy':<17} {array.dtype} {list(array.shape)}")
    # The name of a held-out file is <row in the data set>_<digit>.png.
    labels = np.array([int(Path(row.path).stem.partition("_")[2]) for row in held_out.index])
    pictures = np.stack([decode(row.path) for row in held_out.index])
    by_pixels = nearest(pictures[..., 0].reshape(len(pictures), -1), reference.pictures[..., 0].reshape(-1, _TILE**2))
    by_features = nearest(held_out.arrays["global_pool"], reference_features["global_pool"])
    network = errors(np.argmax(held_out.arrays["logits"], axis=1), labels)
    wrong = np.flatnonzero(reference.labels[by_pixels] != labels)
    print(f"\nWhat they are good for: errors on these {len(labels)} digits, by writers the network never saw\n")
    print(f"  nearest neighbour on raw pixels    {len(wrong):3}")
    print(f"  nearest neighbour on global_pool   {errors(reference.labels[by_features], labels):3}")
    print(f"  the network's own logits           {network:3}")
    picture = folder / "neighbours.png"
    columns = [pictures[wrong], reference.pictures[by_pixels[wrong]], reference.pictures[by_features[wrong]]]
    _sheet(columns).save(picture)
    print(f"\nWhere raw pixels fail (digit, its neighbour by pixels, by features): {picture}")
    return 0


def _from_here(path: Path) -> Path:
    """The path relative to the current folder, where it is below that."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def _emptied(folder: Path) -> Path:
    """The folder, without what an earlier run of this program left in it."""
    if (folder / "features" / "run.json").is_file():
        shutil.rmtree(folder / "features")
        (folder / "neighbours.png").unlink(missing_ok=True)
    features.check_output(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"The output folder {folder} cannot be made ({error}): name another.") from None
    return folder


def _sheet(rows: list[np.ndarray], zoom: int = 6, gap: int = 4) -> Image.Image:
    """Rows of pictures, uint8 [N, height, width, 3] each, as one picture."""
    pictures = np.stack(rows).repeat(zoom, axis=2).repeat(zoom, axis=3)
    framed = np.pad(pictures, [(0, 0), (0, 0), (gap, gap), (gap, gap), (0, 0)], constant_values=96)
    return Image.fromarray(np.concatenate([np.concatenate(row, axis=1) for row in framed]))
