"""Reads features from a folder, in any format, as arrays that read only the rows that are accessed."""

import functools
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from tools.errors import InputError
from tools.features.folder import RUN, is_complete, read_record, readable, shard_folders, shards_done
from tools.features.formats import IndexRow, Rows, get_format, utf8
from tools.features.formats.lazy_arrays import LazyArray, LazyIndex
from tools.features.record import layout_of, shard_bounds
from tools.features.shard_images import read_images

__all__ = ["Features", "load", "open_shards"]


class Features(NamedTuple):
    """The features in a folder.

    arrays: arrays [N, ...] by the alias of their end point, not read yet: memory-mapped, or a ``LazyArray``.
    index: a row for each image.
    run: the settings and results: inputs, checkpoint, network, end points, preprocessing, versions, counts.
    """

    arrays: dict[str, np.ndarray | LazyArray]
    index: Sequence[IndexRow]
    run: dict[str, Any]


def load(folder: str | Path) -> Features:
    """Returns the features that ``extract`` wrote, in any format, in the order of the inputs.

    ``arrays[alias][rows]`` reads rows; ``np.asarray(arrays[alias])`` reads all.

    Raises:
      InputError: if the folder holds no features, or is not complete.
    """
    folder = Path(folder)
    record = read_record(folder)
    if record is None:
        raise InputError(f"{folder} holds no features: it has no {RUN}.")
    folders = shard_folders(folder, record)
    if not is_complete(folder):
        done, shards = sum(shards_done(folders, record)), len(folders)
        raise InputError(
            f"{folder} is not complete, {done} of {shards} shards are done: run the command that makes it again."
        )
    return Features(*open_shards(folders, record), record)


# Number of shards whose files stay open.
_OPEN = 8


def open_shards(
    folders: Sequence[Path], record: dict[str, Any]
) -> tuple[dict[str, np.ndarray | LazyArray], Sequence[IndexRow]]:
    """Returns the arrays and the index of all shards, in order."""
    layout, bounds = layout_of(record), shard_bounds(record)
    kind = get_format(record["format"])

    # A process can open only so many files, and a shard may have many.
    @functools.lru_cache(_OPEN)
    def open_arrays(shard: int) -> Mapping[str, Rows]:
        with readable(folders[shard]):
            return kind.open_arrays(folders[shard], layout, bounds[shard + 1] - bounds[shard])

    def read_index(shard: int) -> Iterator[IndexRow]:
        images, count, rows = None, 0, bounds[shard + 1] - bounds[shard]
        with readable(folders[shard]):
            # Rows are numbered again, because an update may have removed images from earlier shards.
            for i, row in enumerate(kind.read_index(folders[shard])):
                path = row.path
                if "\\x" in path:  # most formats write a name that is not UTF-8 so
                    images = images or read_images(folders[shard])
                    path = images.names[i] if images and utf8(images.names[i]) == path else path
                count += 1
                yield row._replace(row=bounds[shard] + i, path=path)
            if count != rows:
                raise ValueError(f"its index has {count:,} rows, and {rows:,} are expected")

    index = LazyIndex(bounds[1:], read_index)
    if record["format"] == "npy" and len(folders) == 1:
        return dict(open_arrays(0)), index
    arrays = {
        alias: LazyArray(bounds[1:], shape, layout.dtype, lambda shard, alias=alias: open_arrays(shard)[alias])
        for alias, shape in layout.shapes.items()
    }
    return arrays, index
