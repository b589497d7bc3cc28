"""``slimnets merge``: the shards of a job, from one folder or several, as one."""

import math
from collections.abc import Sequence
from itertools import islice
from pathlib import Path

from checkpoints.folders import new_folder
from tools.feature_files import get_format
from tools.feature_jobs import claimed, writing
from tools.feature_records import (
    MANIFEST,
    differences,
    is_done,
    layout_of,
    read_counts,
    read_record,
    shard_folder,
    write_run,
)
from tools.features import check_output, open_shards
from tools.inputs import InputError
from tools.progress import progress

__all__ = ["merge", "run"]

# What is in memory at a time.
_CHUNK_ROWS, _CHUNK_BYTES = 8192, 32 << 20


def merge(folders: Sequence[str | Path], output: str | Path) -> int:
    """Writes the shards of a job, which may lie in several folders, as a folder of one shard in the same format.

    Args:
      folders: each with shards of the same job, together with all of them.
      output: a folder that does not exist yet, or is empty.

    Returns:
      The number of rows.

    Raises:
      InputError: if the folders are of other jobs, a shard is nowhere, or the output cannot be written.
    """
    folders, output = [Path(folder) for folder in folders], Path(output)
    check_output(output)
    if read_record(output) is not None:
        raise InputError(f"The output folder {output} holds features already: name another.")
    record = _record_of(folders)
    images, shards = record["inputs"]["images"], record["shards"]
    places = _places(folders, shards)
    arrays, index = open_shards(places, record)
    whole = {**record, "shards": 1}
    row_bytes = sum(array.dtype.itemsize * math.prod(array.shape[1:]) for array in arrays.values())
    chunk = min(_CHUNK_ROWS, max(1, _CHUNK_BYTES // max(1, row_bytes)))
    rows = iter(index)
    with claimed(output) as ours, progress("merge", images, "images") as advance:
        if not ours:
            raise InputError(f"Another process is making {output}: name another folder.")
        with writing(output), new_folder(output) as folder:
            with get_format(record["format"]).Writer(folder, layout_of(whole), images) as writer:
                for start in range(0, images, chunk):
                    part = list(islice(rows, chunk))
                    writer.append(part, {alias: array[start : start + chunk] for alias, array in arrays.items()})
                    advance(len(part))
            write_run(folder, whole, read_counts(places), record.get("resumed_from", 0))
    return images


def run(folders: Sequence[str], output: str) -> int:
    """The command: merges, reports, and returns the exit status."""
    rows = merge(folders, output)
    print(f"{rows} images merged: {output}")
    return 0


def _record_of(folders: Sequence[Path]) -> dict:
    """What the folders share."""
    records = []
    for folder in folders:
        record = read_record(folder)
        if record is None:
            raise InputError(f"{folder} holds no features: it has no {MANIFEST}.")
        records.append(record)
        if others := differences(records[0], record):
            raise InputError(f"{folders[0]} and {folder} hold features of different runs: {'; '.join(others)}.")
    return records[0]


def _places(folders: Sequence[Path], shards: int) -> list[Path]:
    """Where each shard lies: in the first folder that has it."""
    places, missing = [], []
    for shard in range(shards):
        found = [folder for folder in (shard_folder(one, shard, shards) for one in folders) if is_done(folder)]
        places.append(found[0] if found else None)
        if not found:
            missing.append(shard)
    if missing:
        some = ", ".join(map(str, missing[:5])) + (", ..." if len(missing) > 5 else "")
        raise InputError(f"{len(missing)} of {shards} shards are in none of the folders ({some}): make them first.")
    return places
