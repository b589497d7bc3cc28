"""Joins the shards of a job, which may be in several folders, into one folder."""

import math
from collections.abc import Callable, Sequence
from itertools import islice
from pathlib import Path

from checkpoints.files.atomic import new_folder
from tools.errors import InputError
from tools.features.folder import (
    MANIFEST,
    check_output,
    claimed,
    read_counts,
    read_record,
    readable,
    shard_folders,
    shards_done,
    write_run,
    writing,
)
from tools.features.formats import get_format
from tools.features.loading import open_shards
from tools.features.record import differences, layout_of
from tools.features.shard_images import ShardImages, joined, read_images, write_images

__all__ = ["images_of_job", "merge"]

# Limits of what is in memory at a time.
_CHUNK_ROWS, _CHUNK_BYTES = 8192, 32 << 20


def merge(
    folders: Sequence[str | Path], output: str | Path, *, advance: Callable[[int], None] = lambda count: None
) -> int:
    """Writes the shards of a job, which may be in several folders, as one folder with a single shard.

    Args:
      folders: hold all shards of one job together; a shard may be in more than one.
      output: a folder that does not exist yet, or is empty.
      advance: called with the number of images whenever some are written.

    Returns:
      The number of rows.

    Raises:
      InputError: if the folders hold different jobs, a shard is missing, or the output cannot be written.
    """
    folders, output = [Path(folder) for folder in folders], Path(output)
    check_output(output)
    if read_record(output) is not None:
        raise InputError(f"The output folder {output} already holds features: name another.")
    record = _record_of(folders)
    images = record["inputs"]["images"]
    places = _places(folders, record)
    arrays, index = open_shards(places, record)
    whole = {name: value for name, value in record.items() if name != "update"} | {"shards": 1}
    row_bytes = sum(array.dtype.itemsize * math.prod(array.shape[1:]) for array in arrays.values())
    chunk = min(_CHUNK_ROWS, max(1, _CHUNK_BYTES // max(1, row_bytes)))
    rows = iter(index)
    advance(0)
    with claimed(output) as ours:
        if not ours:
            raise InputError(f"Another process is writing {output}: name another folder.")
        with writing(output), new_folder(output) as folder:
            with get_format(record["format"]).Writer(folder, layout_of(whole), images) as writer:
                for start in range(0, images, chunk):
                    part = list(islice(rows, chunk))
                    writer.append(part, {alias: array[start : start + chunk] for alias, array in arrays.items()})
                    advance(len(part))
            parts = list(map(_images_of, places))
            if None not in parts:
                write_images(folder, joined(parts))
            write_run(folder, whole, read_counts(places), record.get("resumed_from", 0))
    return images


def images_of_job(folders: Sequence[str | Path]) -> int:
    """Returns the number of images of the job whose shards are in the folders.

    Raises:
      InputError: if the folders hold different jobs, or none.
    """
    return _record_of([Path(folder) for folder in folders])["inputs"]["images"]


def _record_of(folders: Sequence[Path]) -> dict:
    """Returns the record that the folders share."""
    records = []
    for folder in folders:
        record = read_record(folder)
        if record is None:
            raise InputError(f"{folder} holds no features: it has no {MANIFEST}.")
        records.append(record)
        others = differences(records[0], record)
        if others or records[0].get("update") != record.get("update"):
            others = others or ["one of them was updated"]
            raise InputError(f"{folders[0]} and {folder} hold features of different runs: {'; '.join(others)}.")
    return records[0]


def _images_of(folder: Path) -> ShardImages | None:
    with readable(folder):
        return read_images(folder)


def _places(folders: Sequence[Path], record: dict) -> list[Path]:
    """Returns the folder of each shard, from the first of the folders that has it."""
    there: list[Path | None] = []
    for folder in folders:
        shards = shard_folders(folder, record)
        done = [shard if done else None for shard, done in zip(shards, shards_done(shards, record), strict=True)]
        there = [first or other for first, other in zip(there, done, strict=True)] if there else done
    missing = [shard for shard, place in enumerate(there) if place is None]
    if missing:
        some = ", ".join(map(str, missing[:5])) + (", ..." if len(missing) > 5 else "")
        raise InputError(f"{len(missing)} of {len(there)} shards are in none of the folders ({some}): make them first.")
    return there
