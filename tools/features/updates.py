"""Updates features whose images have changed: finds the shards to make again and the rows to keep.

Images stay in the shard that they were in. New images go into shards after these.
"""

import hashlib
import itertools
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np

from tools.features.folder import replace_manifest, shard_folders, shards_done
from tools.features.formats import Format, IndexRow, Layout, Rows
from tools.features.record import shard_bounds, shard_generations
from tools.features.shard_images import ShardImages, changed_images, numbers_by_name, read_images, write_images
from tools.images import Inputs

__all__ = ["Before", "update_job"]


class Before(NamedTuple):
    """A shard before it is made again.

    images: its images.
    index: its rows of the index.
    arrays: its features, by alias.
    """

    images: ShardImages
    index: list[IndexRow]
    arrays: dict[str, Rows]

    @classmethod
    def read(cls, folder: Path, form: Format | ModuleType, layout: Layout) -> "Before | None":
        """Reads it from a folder. Returns None if there is none, or it does not record its images."""
        try:
            images = read_images(folder)
            if images is None:
                return None
            index = list(form.read_index(folder))
            return cls(images, index, form.open_arrays(folder, layout, len(index)))
        except (EOFError, OSError, ValueError):  # damaged, so all is computed again
            return None

    def features(self, row: int) -> dict[str, np.ndarray]:
        """Returns the features [1, ...] of a row, by alias."""
        return {alias: array[row : row + 1] for alias, array in self.arrays.items()}

    def same_rows(self, inputs: Inputs, rows: range, arithmetic: Sequence[int]) -> dict[int, int]:
        """Returns the rows that need not be computed again: new row → old row of the same image.

        Args:
          inputs: the current images.
          rows: the new rows of the shard.
          arithmetic: of the extractor. If it differs, all last bits of the features may differ.
        """
        if self.images.arithmetic != tuple(arithmetic):
            return {}
        here = numbers_by_name(self.images.names)
        wanted: list[int | None] = [None] * len(self.images.names)
        for row in rows:
            if found := here.get(inputs.name(row)):
                wanted[found.popleft()] = row
        changed, _ = changed_images(self.images, inputs, wanted, lambda count: None)
        again = {*changed, *np.flatnonzero(self.images.failed).tolist()}
        return {row: place for place, row in enumerate(wanted) if row is not None and place not in again}


def update_job(
    output: Path,
    inputs: Inputs,
    there: dict[str, Any],
    record: dict[str, Any],
    arithmetic: Sequence[int],
    advance: Callable[[int], None],
) -> bool:
    """Compares a job with the current images, and writes to its manifest which shards must be made again.

    Args:
      output: the job's folder.
      inputs: the current images.
      there: the record in the folder.
      record: the current record, which differs only in the inputs.
      arithmetic: of the extractor.
      advance: called with the number of images whenever some have been compared.

    Returns:
      Whether a job with a single shard must be made again. Such a job has no manifest.

    Raises:
      OSError: if the folder cannot be written.
      ValueError: if a shard in it is damaged.
    """
    members, stale = _members(output, inputs, there, arithmetic, advance)
    if there["shards"] == 1:
        return stale[0] or len(members[0]) < len(inputs)
    bounds = shard_bounds(there)
    sizes = [stop - start for start, stop in itertools.pairwise(bounds)]
    kept = np.concatenate([*(part for part in members if part is not None), np.empty(0, np.int64)])
    rest = np.setdiff1d(np.arange(len(inputs)), kept)
    for shard, part in enumerate(members):
        if part is None:  # not made yet
            members[shard], rest = rest[: sizes[shard]], rest[sizes[shard] :]
    most = max(sizes[: there["shards"]])
    last = len(members) - 1
    if len(rest) and last >= there["shards"] and len(members[last]) < most:
        room = most - len(members[last])
        members[last], rest = np.concatenate([members[last], rest[:room]]), rest[room:]
        stale[last] = True
    added = np.array_split(rest, -(-len(rest) // most)) if len(rest) else []
    if not added and not any(stale) and there["inputs"]["sha256"] == record["inputs"]["sha256"]:
        return False
    states = zip(shard_generations(there), stale, shard_folders(output, there), strict=True)
    generations = [number + (again and folder.exists()) for number, again, folder in states]
    order = np.concatenate([*members, *added]).astype(np.int64)
    update = {
        "bounds": [0, *np.cumsum([len(part) for part in (*members, *added)]).tolist()],
        "generations": generations + [0] * len(added),
        "order": f"order-{hashlib.sha256(order.tobytes()).hexdigest()[:16]}.npy",
    }
    replace_manifest(output, record | {"update": update}, order)
    return False


def _members(
    output: Path,
    inputs: Inputs,
    there: dict[str, Any],
    arithmetic: Sequence[int],
    advance: Callable[[int], None],
) -> tuple[list[np.ndarray | None], list[bool]]:
    """Returns for each shard the numbers of its images in the inputs (None if not made), and whether it is stale."""
    folders = shard_folders(output, there)
    numbers = numbers_by_name(map(inputs.name, range(len(inputs))))
    members: list[np.ndarray | None] = []
    stale = []
    for folder, done in zip(folders, shards_done(folders, there), strict=True):
        images = read_images(folder)
        if images is None:
            members.append(None)
            stale.append(done)  # made by an older version
            continue
        here = images.taken_from(numbers)
        rows, renewed = changed_images(images, inputs, here, advance) if done else ([], images)
        members.append(np.array([place for place in here if place is not None], np.int64))
        same = not rows and None not in here and not images.failed.any() and images.arithmetic == tuple(arithmetic)
        stale.append(done and not same)
        if not stale[-1] and (renewed.versions != images.versions).any():
            write_images(folder, renewed, replace=True)  # so that the next update does not read these images again
    return members, stale
