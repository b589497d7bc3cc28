"""What features are to be made of which pictures, cut in shards, and what of it is done.

A job of one shard is a folder that appears once it is complete. A job of several is a folder with ``manifest.json``,
written once, and a folder for each shard, which appears once it is complete; any number of processes may work on it.
``run.json`` is there when all is done. Shards begin and end where batches do: no row depends on how a job was cut.

Each shard says what its images were (``feature_images``). Another image under an old name is noticed, and ``update``
(``feature_updates``) makes again what is affected; rows of the same images are taken over then.
"""

import shutil
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from checkpoints.errors import shortened
from checkpoints.files.atomic import new_folder
from tools.errors import InputError
from tools.features.extractor import FeatureExtractor
from tools.features.folder import (
    MANIFEST,
    Counts,
    claimed,
    empty,
    is_complete,
    is_done,
    read_counts,
    read_record,
    read_reused,
    readable,
    write_manifest,
    write_run,
    write_shard,
    writing,
)
from tools.features.formats import IndexRow, get_format
from tools.features.record import differences, layout_of, shard_bounds, shard_folders, shard_generations
from tools.features.shard_images import ShardImages, changed_images, places_of, read_images, write_images
from tools.features.updates import Before
from tools.images import Inputs
from tools.images.inputs import Reordered
from tools.images.pipeline import ImageStatus
from tools.runtime.locks import lock

__all__ = ["FeatureJob", "check_end_points", "check_settings"]


class FeatureJob:
    """A job in a folder.

    Args:
      output: the folder.
      inputs: the images.
      record: what makes the features what they are, as ``run.json`` has it.
      overwrite: gives up what the folder holds of another job, or of this one.
      remake: a single shard that is done is made again, and replaced once that is through.

    Raises:
      InputError: if the folder holds another job; if there are more shards than batches.
    """

    def __init__(
        self,
        output: Path,
        inputs: Inputs,
        record: dict[str, Any],
        *,
        overwrite: bool = False,
        remake: bool = False,
    ) -> None:
        self.output = output
        self.record = record
        self._remake = remake
        self._format = get_format(record["format"])
        shard_bounds(record)  # which raises if there are too many
        with writing(output):
            if overwrite:
                empty(output)
            if record["shards"] > 1 and not is_complete(output):
                output.mkdir(parents=True, exist_ok=True)
                write_manifest(output, record)
        there = self._check()
        if there is not None and "update" in there and record["shards"] > 1:
            self.record = record | {"update": there["update"]}
            inputs = Reordered(inputs, np.load(output / there["update"]["order"], mmap_mode="r"))
        self._inputs = inputs
        self._bounds = shard_bounds(self.record)
        self._folders = shard_folders(output, self.record)
        self._layout = layout_of(record)
        self.shards = len(self._folders)

    def _check(self) -> dict[str, Any] | None:
        """Returns the record in the folder; raises InputError if it is another job's."""
        there = read_record(self.output)
        if there is not None and not self._remake:
            check_settings(self.output, there, self.record)
        if there is None and self.record["shards"] > 1:
            raise InputError(f"{self.output} has lost its {MANIFEST} meanwhile: give the same command again.")
        return there

    def rows(self, shard: int) -> range:
        return range(self._bounds[shard], self._bounds[shard + 1])

    def is_done(self, shard: int) -> bool:
        if self._remake:
            return False
        return is_done(self._folders[shard], shard_generations(self.record)[shard])

    def chosen(self, shard_index: int | None) -> Sequence[int]:
        """Returns the shards that a run is about: the one given, or all.

        Raises:
          InputError: if there is no such shard.
        """
        if shard_index is None:
            return range(self.shards)
        if not 0 <= shard_index < self.shards:
            raise InputError(f"There is no shard {shard_index}: there are {self.shards}, and the first one is 0.")
        return [shard_index]

    def missing(self, shards: Iterable[int]) -> list[int]:
        """Returns those of the shards that are not done."""
        return [shard for shard in shards if not self.is_done(shard)]

    def counts(self, shards: Iterable[int]) -> Counts:
        """Of those of the shards that are done."""
        return read_counts(self._folders[shard] for shard in shards if self.is_done(shard))

    def reused(self, shards: Iterable[int]) -> int:
        """Returns how many rows of these shards, now done, were taken over from what they were before."""
        return sum(read_reused(self._folders[shard]) for shard in shards if self.is_done(shard))

    def check_images(self, shards: Iterable[int]) -> None:
        """Looks whether the shards' images, of those that are done, are still those that the features were made of.

        Raises:
          InputError: if some are not.

        Warns:
          UserWarning: if shards do not say what their images were, as older versions left them.
        """
        changed: list[str] = []
        unknown = 0
        for shard in filter(self.is_done, shards):
            with readable(self._folders[shard]):
                images = read_images(self._folders[shard])
            if images is None:
                unknown += len(self.rows(shard))
                continue
            places = places_of(images, self._inputs, self.rows(shard).start)
            rows, _ = changed_images(images, self._inputs, places, lambda count: None)
            changed += [images.names[row] for row in rows]
        if changed:
            count = "1 image has" if len(changed) == 1 else f"{len(changed):,} images have"
            raise InputError(
                f"{count} changed since the features in {self.output} were made ({shortened(changed, 3)}): give "
                "update=True to make these again and keep the rest, or name another folder."
            )
        if unknown:
            warnings.warn(
                f"{self.output} was made by an earlier version, which did not note what {unknown:,} of its images "
                "were: whether they have changed cannot be told; update=True makes them again.",
                stacklevel=2,
            )

    def make(self, shard: int, extractor: FeatureExtractor, advance: Callable[[int], None]) -> None:
        """Makes a shard, unless it is done, or another process is at it.

        Raises:
          InputError: if it cannot be written, or the folder has become another job's.
        """
        target = self._folders[shard]
        with claimed(target) as ours:
            if not ours or self.is_done(shard):
                return
            there = self._check()
            if there is not None and there.get("update") != self.record.get("update"):
                raise InputError(f"{self.output} was updated by another command meanwhile: give this one again.")
            before = Before.read(target, self._format, self._layout)
            replace = self._remake or self.record["shards"] > 1
            with writing(self.output), new_folder(target, replace=replace) as folder:
                counts, reused = self._write(folder, self.rows(shard), before, extractor, advance)
                if self.shards == 1:
                    write_run(folder, self.record, counts, resumed_from=0, reused=reused)
                else:
                    write_shard(folder, counts, shard_generations(self.record)[shard], reused)
            self._remake = False

    def finish(self, resumed_from: int) -> None:
        """Writes ``run.json`` if all of several shards are done."""
        if self.record["shards"] > 1 and all(map(self.is_done, range(self.shards))):
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

    def _write(
        self,
        folder: Path,
        rows: range,
        before: Before | None,
        extractor: FeatureExtractor,
        advance: Callable[[int], None],
    ) -> tuple[Counts, int]:
        """Writes the rows of a shard; returns its counts, and how many rows were taken over."""
        start = time.perf_counter()
        images = ShardImages.empty(len(rows), extractor.arithmetic(len(self._inputs)))
        same = before.same_rows(self._inputs, rows, images.arithmetic) if before else {}
        reasons: Counter[str] = Counter()
        with self._format.Writer(folder, self._layout, len(rows)) as writer:
            for index, features in self._batches(rows, before, same, images, extractor):
                # What is in brackets is about the one image.
                reasons.update(row.error.partition(" (")[0] for row in index if row.error)
                writer.append(index, features)
                advance(len(index))
        write_images(folder, images)
        failed = reasons.total()
        seconds = time.perf_counter() - start
        return Counts(len(rows) - failed, failed, dict(reasons.most_common()), seconds), len(same)

    def _batches(
        self,
        rows: range,
        before: Before | None,
        same: Mapping[int, int],
        images: ShardImages,
        extractor: FeatureExtractor,
    ) -> Iterator[tuple[list[IndexRow], dict[str, np.ndarray]]]:
        """Yields the index and the features of a few rows at a time, and puts their images into ``images``."""
        made = self._made(extractor, [row for row in rows if row not in same] if same else rows)
        if not same:
            row = rows.start  # of the next image
            for statuses, features in made:
                yield [self._noted(row + i, status, images) for i, status in enumerate(statuses)], features
                row += len(statuses)
            return
        one_by_one = (
            (status, {alias: array[i : i + 1] for alias, array in features.items()})
            for statuses, features in made
            for i, status in enumerate(statuses)
        )
        for row in rows:
            if row in same:
                images.copy(before.images, same[row])
                yield [before.index[same[row]]._replace(row=row)], before.features(same[row])
            else:
                status, features = next(one_by_one)
                yield [self._noted(row, status, images)], features

    def _made(
        self, extractor: FeatureExtractor, rows: Sequence[int]
    ) -> Iterator[tuple[list[ImageStatus], dict[str, np.ndarray]]]:
        """Yields what became of a batch of images, and their features as they are stored."""
        for batch in extractor.batches(self._inputs, rows):
            features = {
                point.alias: _as_stored(batch.features[name], self._layout.dtype, point.alias)
                for name, point in extractor.end_points.items()
            }
            yield batch.statuses, features

    def _noted(self, row: int, status: ImageStatus, images: ShardImages) -> IndexRow:
        images.put(self._inputs.name(row), status.stamp, status.sha256, status.error is not None)
        return _index_row(row, status)


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
    path, width, height, error, label = picture[:5]
    return IndexRow(row, path, "failed" if error else "ok", error or "", width, height, label)


def check_end_points(extractor: FeatureExtractor) -> None:
    """Raises InputError for end points that would be stored under one name."""
    stored: dict[str, str] = {}
    for name, point in extractor.end_points.items():
        other = stored.setdefault(point.alias.replace("/", "."), name)
        if other != name:
            raise InputError(f"The end points {other} and {name} are the same: name it once.")


def check_settings(
    output: Path, there: dict[str, Any], record: dict[str, Any], *, besides_inputs: bool = False
) -> None:
    """Raises InputError if what a folder holds was made of other inputs, or otherwise.

    Args:
      output: the folder.
      there: its record.
      record: what is to be made.
      besides_inputs: leave the inputs out.
    """
    if others := differences(there, record, besides_inputs=besides_inputs):
        images = [name for name in others if "images" in name] and not besides_inputs
        update = "; update=True takes in new, changed and removed images" if images else ""
        raise InputError(
            f"{output} holds features of another run: {'; '.join(others)}. Give what was given then, another folder, "
            f"or overwrite=True{update}."
        )
