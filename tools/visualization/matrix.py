"""The features in a folder as a matrix with a row for each image, read in blocks."""

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from tools.errors import InputError
from tools.features import load
from tools.features.folder import RUN, readable
from tools.features.formats import IndexRow

__all__ = ["FeatureMatrix", "finite", "open_matrix"]

# Bytes of a block in float64.
_BLOCK = 64 * 2**20

# The end point that is taken if a folder has several.
_USUAL = "global_pool"


class FeatureMatrix(NamedTuple):
    """The vectors of images.

    folder: the folder.
    end_point: alias of the end point.
    rows: array [N, channels], not read yet.
    index: a row for each image.
    run: the record of the run.
    """

    folder: Path
    end_point: str
    rows: Any
    index: Sequence[IndexRow]
    run: dict[str, Any]

    @property
    def fingerprint(self) -> str:
        """Returns a hash that changes whenever the features are made again."""
        record = (self.folder / RUN).read_bytes()
        return hashlib.sha256(record + self.end_point.encode()).hexdigest()

    def blocks(self) -> Iterator[tuple[int, np.ndarray]]:
        """Yields the first row of a block and the block, float64 [rows, channels], one after the other."""
        count, channels = self.rows.shape
        size = max(1, _BLOCK // (8 * channels))
        for start in range(0, count, size):
            with readable(self.folder):
                yield start, np.asarray(self.rows[start : start + size], np.float64)

    def take(self, rows: Sequence[int] | np.ndarray) -> np.ndarray:
        """Returns some rows, float64 [rows, channels]."""
        with readable(self.folder):
            return np.asarray(self.rows[np.asarray(rows, np.int64)], np.float64)


def open_matrix(folder: str | Path, end_point: str | None = None) -> FeatureMatrix:
    """Opens the features in a folder as a matrix.

    Args:
      folder: a complete folder of features, in any format.
      end_point: name or alias of an end point in it; None for the only one with a vector an image, or 'global_pool'.

    Raises:
      InputError: if the folder holds no features or is not complete, the end point is unknown, or its features are not
        vectors.
    """
    features = load(folder)
    arrays, points = features.arrays, features.run["end_points"]
    if end_point is None:
        vectors = [alias for alias, array in arrays.items() if len(array.shape) == 2]
        end_point = _USUAL if _USUAL in vectors or len(vectors) != 1 else vectors[0]
        if end_point not in arrays:
            raise InputError(_unpooled(folder, arrays))
    alias = next((alias for alias, point in points.items() if end_point in (alias, point["name"])), None)
    if alias is None:
        raise InputError(f"{folder} has no end point {end_point!r}: there is {', '.join(arrays)}.")
    if len(arrays[alias].shape) != 2:
        raise InputError(_unpooled(folder, {alias: arrays[alias]}))
    return FeatureMatrix(Path(folder), alias, arrays[alias], features.index, features.run)


def _unpooled(folder: str | Path, arrays: dict[str, Any]) -> str:
    listed = ", ".join(f"{alias} [{', '.join(map(str, array.shape))}]" for alias, array in arrays.items())
    if sum(len(array.shape) == 2 for array in arrays.values()) > 1:
        return f"{folder} has several end points with a vector an image: name one of {', '.join(arrays)}."
    return (
        f"{folder} has {listed}, and a vector an image is required: make features with pool='mean', or of an end point "
        "without height and width, such as global_pool."
    )


def finite(rows: np.ndarray) -> np.ndarray:
    """Returns which rows have only finite numbers, bool [N]. The others are of images that failed."""
    return np.isfinite(rows).all(axis=1)
