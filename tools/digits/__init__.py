"""The example that ships: a small network for handwritten digits, its images, and a nearest-neighbour classifier."""

from pathlib import Path
from typing import NamedTuple

import numpy as np

import checkpoints
from tools.images import decode

__all__ = ["CHECKPOINT", "HELD_OUT", "Digits", "digits", "errors", "nearest"]

_SHIPPED = Path(checkpoints.__file__).parent


CHECKPOINT = _SHIPPED / "resnet_v2_tiny_digits.ckpt"


HELD_OUT = _SHIPPED / "digits" / "heldout"


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
