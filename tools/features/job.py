"""The work on a feature folder: begins a job, makes its shards, and finishes it.

Any number of processes may make the shards of a job. Shards begin and end where batches do, so no row depends on the
number of shards. See ``tools.features.folder`` for the files.

Each shard records its images (``tools.features.shard_images``), so a changed image under an old name is noticed. An
update (``tools.features.updates``) makes the shards of changed images again and keeps the rows of all others.
"""

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
from tools.features.computing import Extractor
from tools.features.folder import (
    MANIFEST,
    Counts,
    claimed,
    empty,
    is_complete,
    is_done,
    read_counts,
    read_order,
    read_record,
    read_reused,
    readable,
    remove_leftovers,
    shard_folders,
    write_manifest,
    write_run,
    write_shard,
    writing,
)
from tools.features.formats import IndexRow, get_format
from tools.features.record import check_settings, layout_of, shard_bounds, shard_generations
from tools.features.shard_images import ShardImages, changed_images, places_of, read_images, write_images
from tools.features.updates import Before
from tools.images import Inputs
from tools.images.inputs import Reordered
from tools.images.reading import ImageStatus

__all__ = ["FeatureJob"]


class FeatureJob:
    """A job whose shards are made in a folder.

    Args:
      output: the folder.
      inputs: the images.
      record: the settings that determine the features, as ``describe_run`` returns them.
      overwrite: delete features that the folder holds.
      remake: make a finished single shard again, and replace it at the end.

    Raises:
      InputError: if the folder holds another job, or there are more shards than batches.
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
        shard_bounds(record)  # raises if there are too many shards
        with writing(output):
            if overwrite:
                empty(output)
            if record["shards"] > 1 and not is_complete(output):
                output.mkdir(parents=True, exist_ok=True)
                write_manifest(output, record)
        there = self._check()
        if there is not None and "update" in there and record["shards"] > 1:
            self.record = record | {"update": there["update"]}
            inputs = Reordered(inputs, read_order(output, there))
        self._inputs = inputs
        self._bounds = shard_bounds(self.record)
        self._folders = shard_folders(output, self.record)
        self._layout = layout_of(record)
        self.shards = len(self._folders)

    def _check(self) -> dict[str, Any] | None:
        """Returns the record in the folder. Raises InputError if it belongs to another job."""
        there = read_record(self.output)
        if there is not None and not self._remake:
            check_settings(self.output, there, self.record)
        if there is None and self.record["shards"] > 1:
            raise InputError(f"{self.output} has lost its {MANIFEST}: run the same command again.")
        return there

    def rows(self, shard: int) -> range:
        """Returns the rows of a shard."""
        return range(self._bounds[shard], self._bounds[shard + 1])

    def is_done(self, shard: int) -> bool:
        """Returns whether a shard is complete."""
        if self._remake:
            return False
        return is_done(self._folders[shard], shard_generations(self.record)[shard])

    def chosen(self, shard_index: int | None) -> Sequence[int]:
        """Returns the shards of a run: the given one, or all.

        Raises:
          InputError: if there is no such shard.
        """
        if shard_index is None:
            return range(self.shards)
        if not 0 <= shard_index < self.shards:
            raise InputError(f"There is no shard {shard_index}: there are {self.shards}, numbered from 0.")
        return [shard_index]

    def missing(self, shards: Iterable[int]) -> list[int]:
        """Returns those of the shards that are not done."""
        return [shard for shard in shards if not self.is_done(shard)]

    def counts(self, shards: Iterable[int]) -> Counts:
        """Returns the results of those of the shards that are done."""
        return read_counts(self._folders[shard] for shard in shards if self.is_done(shard))

    def reused(self, shards: Iterable[int]) -> int:
        """Returns how many rows of those of the shards that are done were kept from before an update."""
        return sum(read_reused(self._folders[shard]) for shard in shards if self.is_done(shard))

    def check_images(self, shards: Iterable[int]) -> None:
        """Checks that the images of finished shards have not changed since.

        Raises:
          InputError: if some have changed.

        Warns:
          UserWarning: for shards of older versions, which do not record their images.
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
                "update=True to compute these again and keep the rest, or name another folder."
            )
        if unknown:
            warnings.warn(
                f"{self.output} was made by an earlier version, which did not record {unknown:,} of its images. "
                "Changes of these cannot be detected; update=True computes them again.",
                stacklevel=2,
            )

    def make(self, shard: int, extractor: Extractor, advance: Callable[[int], None]) -> None:
        """Makes a shard, unless it is done or another process is working on it.

        Raises:
          InputError: if it cannot be written, or the folder now belongs to another job.
        """
        target = self._folders[shard]
        with claimed(target) as ours:
            if not ours or self.is_done(shard):
                return
            there = self._check()
            if there is not None and there.get("update") != self.record.get("update"):
                raise InputError(f"Another command has updated {self.output}: run this one again.")
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
        """Writes ``run.json`` if the job has several shards and all are done."""
        if self.record["shards"] > 1 and all(map(self.is_done, range(self.shards))):
            with writing(self.output):
                if not is_complete(self.output):
                    write_run(self.output, self.record, self.counts(range(self.shards)), resumed_from)
                remove_leftovers(self.output)

    def _write(
        self,
        folder: Path,
        rows: range,
        before: Before | None,
        extractor: Extractor,
        advance: Callable[[int], None],
    ) -> tuple[Counts, int]:
        """Writes the rows of a shard. Returns its counts, and how many rows were kept from before an update."""
        start = time.perf_counter()
        images = ShardImages.empty(len(rows), extractor.arithmetic(len(self._inputs)))
        same = before.same_rows(self._inputs, rows, images.arithmetic) if before else {}
        reasons: Counter[str] = Counter()
        with self._format.Writer(folder, self._layout, len(rows)) as writer:
            for index, features in self._batches(rows, before, same, images, extractor):
                # The text in brackets is specific to one image.
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
        extractor: Extractor,
    ) -> Iterator[tuple[list[IndexRow], dict[str, np.ndarray]]]:
        """Yields the index and the features of some rows at a time, and records their images in ``images``."""
        computed = self._computed(extractor, [row for row in rows if row not in same] if same else rows)
        if not same:
            row = rows.start  # of the next image
            for statuses, features in computed:
                yield [self._noted(row + i, status, images) for i, status in enumerate(statuses)], features
                row += len(statuses)
            return
        one_by_one = (
            (status, {alias: array[i : i + 1] for alias, array in features.items()})
            for statuses, features in computed
            for i, status in enumerate(statuses)
        )
        for row in rows:
            if row in same:
                images.copy(before.images, same[row])
                yield [before.index[same[row]]._replace(row=row)], before.features(same[row])
            else:
                status, features = next(one_by_one)
                yield [self._noted(row, status, images)], features

    def _computed(
        self, extractor: Extractor, rows: Sequence[int]
    ) -> Iterator[tuple[list[ImageStatus], dict[str, np.ndarray]]]:
        """Yields the statuses of a batch of images, and their features by alias in the dtype of the files."""
        for batch in extractor.batches(self._inputs, rows):
            features = {
                point.alias: _as_stored(batch.features[name], self._layout.dtype, point.alias)
                for name, point in extractor.end_points.items()
            }
            yield batch.statuses, features

    def _noted(self, row: int, status: ImageStatus, images: ShardImages) -> IndexRow:
        """Records an image in ``images`` and returns its row of the index."""
        images.put(self._inputs.name(row), status.stamp, status.sha256, status.error is not None)
        path, width, height, error, label = status[:5]
        return IndexRow(row, path, "failed" if error else "ok", error or "", width, height, label)


def _as_stored(values: np.ndarray, dtype: str, alias: str) -> np.ndarray:
    """Returns the values in the dtype of the files. Raises InputError if they are too large for it."""
    if dtype == values.dtype:
        return values
    with np.errstate(over="ignore"):
        stored = values.astype(dtype)
    if np.isinf(stored).sum() > np.isinf(values).sum():
        largest = np.abs(values[np.isfinite(values)]).max()
        raise InputError(f"{alias} has the value {largest:.6g}, which is too large for {dtype}: store it as float32.")
    return stored
