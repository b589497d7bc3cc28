"""The example that ships with slimnets: a small network for handwritten digits, images, and a classifier."""

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
    """Images of digits, uint8 [N, 8, 8, 3], and the digit of each, [N]."""

    images: np.ndarray
    labels: np.ndarray


def digits() -> Digits:
    """Returns the images that the shipped network was trained on. The classifiers search them for neighbours."""
    labels = np.loadtxt(_SHIPPED / "digits" / "reference_labels.txt", dtype=int)
    sheet = decode(_SHIPPED / "digits" / "reference.png")
    rows, columns = sheet.shape[0] // _TILE, sheet.shape[1] // _TILE
    tiles = sheet.reshape(rows, _TILE, columns, _TILE, 3).swapaxes(1, 2).reshape(-1, _TILE, _TILE, 3)
    return Digits(tiles[: len(labels)], labels)


def nearest(queries: np.ndarray, references: np.ndarray) -> np.ndarray:
    """Returns for each row of ``queries`` [N, D] the index of the nearest row (Euclidean) of ``references`` [M, D]."""
    queries, references = queries.astype(np.float64), references.astype(np.float64)
    # |q - r|^2 without |q|^2, which does not depend on r.
    return np.argmin(np.sum(references**2, axis=1) - 2 * queries @ references.T, axis=1)


def errors(predicted: np.ndarray, labels: np.ndarray) -> int:
    """Returns the number of wrong predictions."""
    return int(np.sum(predicted != labels))
