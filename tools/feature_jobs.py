"""What features are to be made of which pictures, cut in shards, and what of it is done.

A job of one shard is a folder that appears once it is complete. A job of several is a folder with ``manifest.json``,
written once, and a folder for each shard, which appears once it is complete; any number of processes may work on it.
``run.json`` is there when all is done. Shards begin and end where batches do: no row depends on how a job was cut.
"""

import glob
import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from checkpoints.folders import new_folder
from tools.feature_extractor import FeatureExtractor
from tools.feature_files import IndexRow, get_format
from tools.feature_records import (
    MANIFEST,
    RUN,
    Counts,
    differences,
    is_complete,
    is_done,
    is_ours,
    is_temporary,
    layout_of,
    read_counts,
    read_record,
    shard_bounds,
    shard_folder,
    write_manifest,
    write_run,
    write_shard,
)
from tools.inputs import InputError, Inputs
from tools.locks import lock
from tools.pipeline import ImageStatus

__all__ = ["FeatureJob", "check_end_points", "claimed", "writing"]


class FeatureJob:
    """A job in a folder.

    Args:
      output: the folder.
      inputs: the pictures.
      record: what makes the features what they are, as ``run.json`` has it.
      overwrite: gives up what the folder holds of another job, or of this one.

    Raises:
      InputError: if the folder holds another job; if there are more shards than batches.
    """

    def __init__(self, output: Path, inputs: Inputs, record: dict[str, Any], *, overwrite: bool = False) -> None:
        self.output = output
        self.record = record
        self.shards = record["shards"]
        self._inputs = inputs
        self._bounds = shard_bounds(record)
        self._layout = layout_of(record)
        self._format = get_format(record["format"])
        with writing(output):
            if overwrite:
                _empty(output)
            if self.shards > 1 and not is_complete(output):
                output.mkdir(parents=True, exist_ok=True)
                write_manifest(output, record)
        self._check()

    def _check(self) -> None:
        """Raises InputError if the folder holds another job."""
        there = read_record(self.output)
        if there is not None and (others := differences(there, self.record)):
            raise InputError(
                f"{self.output} holds features of another run: {'; '.join(others)}. Give what was given then, another "
                "folder, or --overwrite."
            )
        if there is None and self.shards > 1:
            raise InputError(f"{self.output} has lost its {MANIFEST} meanwhile: give the same command again.")

    def rows(self, shard: int) -> range:
        return range(self._bounds[shard], self._bounds[shard + 1])

    def is_done(self, shard: int) -> bool:
        return is_done(self._folder(shard))

    def counts(self, shards: Iterable[int]) -> Counts:
        """Of those of the shards that are done."""
        return read_counts(self._folder(shard) for shard in shards if self.is_done(shard))

    def _folder(self, shard: int) -> Path:
        return shard_folder(self.output, shard, self.shards)

    def make(self, shard: int, extractor: FeatureExtractor, advance: Callable[[int], None]) -> None:
        """Makes a shard, unless it is done, or another process is at it.

        Raises:
          InputError: if it cannot be written, or the folder has become another job's.
        """
        target = self._folder(shard)
        with claimed(target) as ours:
            if not ours or self.is_done(shard):
                return
            self._check()
            with writing(self.output), new_folder(target) as folder:
                counts = self._write(folder, self.rows(shard), extractor, advance)
                if self.shards == 1:
                    write_run(folder, self.record, counts, resumed_from=0)
                else:
                    write_shard(folder, counts)

    def finish(self, resumed_from: int) -> None:
        """Writes ``run.json`` if all of several shards are done."""
        if self.shards > 1 and all(map(self.is_done, range(self.shards))):
            with writing(self.output):
                if not is_complete(self.output):
                    write_run(self.output, self.record, self.counts(range(self.shards)), resumed_from)
                # Of processes that were killed: nobody looks after a shard again that is done.
                for left in self.output.glob(".shard-*"):
                    if left.suffix == ".lock":
                        with lock(left):
                            pass
                    else:
                        shutil.rmtree(left, ignore_errors=True)

    def _write(self, folder: Path, rows: range, extractor: FeatureExtractor, advance: Callable[[int], None]) -> Counts:
        start = time.perf_counter()
        reasons: Counter[str] = Counter()
        row = rows.start  # of the next picture
        with self._format.Writer(folder, self._layout, len(rows)) as writer:
            for batch in extractor.batches(self._inputs, rows):
                index = [_index_row(row + i, status) for i, status in enumerate(batch.statuses)]
                row += len(index)
                # What is in brackets is about the one picture.
                reasons.update(status.error.partition(" (")[0] for status in batch.statuses if status.error)
                features = {
                    point.alias: _as_stored(batch.features[name], self._layout.dtype, point.alias)
                    for name, point in extractor.end_points.items()
                }
                writer.append(index, features)
                advance(len(index))
        failed = reasons.total()
        return Counts(len(rows) - failed, failed, dict(reasons.most_common()), time.perf_counter() - start)


def _as_stored(values: np.ndarray, dtype: str, alias: str) -> np.ndarray:
    """The values in the dtype that they are stored in; InputError where that does not reach so far."""
    if dtype == values.dtype:
        return values
    with np.errstate(over="ignore"):
        stored = values.astype(dtype)
    if np.isinf(stored).sum() > np.isinf(values).sum():
        largest = np.abs(values[np.isfinite(values)]).max()
        raise InputError(f"{dtype} does not reach to {largest:.6g}, which {alias} has: store it as float32.")
    return stored


def _index_row(row: int, picture: ImageStatus) -> IndexRow:
    path, width, height, error, label = picture
    return IndexRow(row, path, "failed" if error else "ok", error or "", width, height, label)


def check_end_points(extractor: FeatureExtractor) -> None:
    """Raises InputError for end points that would be stored under one name."""
    stored: dict[str, str] = {}
    for name, point in extractor.end_points.items():
        other = stored.setdefault(point.alias.replace("/", "."), name)
        if other != name:
            raise InputError(f"The end points {other} and {name} are the same: name it once.")


@contextmanager
def claimed(target: Path) -> Iterator[bool]:
    """Whether a folder is this process' to make, as long as the block lasts; takes away what others left at it.

    Raises:
      InputError: if there is no place to make it in.
    """
    place = target.resolve()
    with ExitStack() as stack:
        with writing(target):
            place.parent.mkdir(parents=True, exist_ok=True)
            ours = stack.enter_context(lock(place.parent / f".{place.name}.lock"))
            if ours:
                # Of processes that were killed: one that lives would hold the lock.
                for left in (*place.parent.glob(f".{glob.escape(place.name)}.????????.incomplete"), *place.glob(".*")):
                    if is_temporary(left):
                        _remove(left)
        yield ours


def _empty(output: Path) -> None:
    """Takes features out of a folder; what says that they are there first."""
    for name in (RUN, MANIFEST):
        (output / name).unlink(missing_ok=True)
    if output.exists():
        for path in output.iterdir():
            if is_ours(path.name) or is_temporary(path):
                _remove(path)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


@contextmanager
def writing(output: Path) -> Iterator[None]:
    """Says of what the system refuses what to do about it."""
    try:
        yield
    except BrokenPipeError:  # of who reads what is reported
        raise
    except OSError as error:
        raise InputError(
            f"{output} cannot be written ({error.strerror or error}): make room, or name another folder; where shards "
            "are done, the same command goes on with the rest."
        ) from None
