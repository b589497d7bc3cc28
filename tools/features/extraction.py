"""Writes features of images to a folder: begins a job, has its shards made, and sums up."""

import functools
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from tools.errors import InputError
from tools.features.computing import Extractor
from tools.features.folder import check_output, put_back_interrupted, read_record, readable, writing
from tools.features.job import FeatureJob
from tools.features.record import Storage, check_end_points, check_settings, describe_run, engine_of, shards_for
from tools.features.updates import update_job
from tools.images import Inputs, open_inputs

__all__ = ["MakeShards", "Summary", "begin", "extract", "make_here", "make_shards"]

# Makes shards by their numbers, and is given a function to call with the number of images whenever some are done.
MakeShards = Callable[[Sequence[int], Callable[[int], None]], object]


class Summary(NamedTuple):
    """The results of a run.

    done, failed: number of images of the shards that the run was to make, those done before included.
    output: the folder.
    reasons: number of failed images by reason.
    resumed_from: number of images done before the run.
    made, seconds: number of images that the run computed, and how long that took.
    waiting: shards that another process is working on.
    reused: number of images whose rows were kept in shards that were made again.
    """

    done: int
    failed: int
    output: Path
    reasons: dict[str, int]
    resumed_from: int
    made: int
    seconds: float
    waiting: tuple[int, ...]
    reused: int = 0


def extract(
    inputs: Inputs | str | Path | Sequence[str | Path],
    output: str | Path,
    extractor: Extractor,
    *,
    format: str = "npy",
    dtype: str = "float32",
    shards: int | None = None,
    shard_index: int | None = None,
    overwrite: bool = False,
    update: bool = False,
    advance: Callable[[int], None] = lambda count: None,
) -> Summary:
    """Writes the features of images to a folder, all at once or shard by shard. A stopped call can be repeated.

    A single shard is a folder that appears once it is complete: ``<alias>.npy`` for each end point and ``index.csv``,
    or the files of another format, and ``run.json``. Several shards are folders in one with ``manifest.json``, and
    ``run.json`` once all are complete.

    Args:
      inputs: images, as ``open_inputs`` returns or takes them, or a single folder or file.
      output: a folder that does not exist, is empty, or holds what an earlier call with the same settings has done.
      extractor: computes the features.
      format: 'npy', 'parquet' or 'tfrecord'.
      dtype: 'float32', or 'float16' for half the space.
      shards: number of shards; None for the number in the folder, or else one for 8,192 images.
      shard_index: the only shard to make; None for all.
      overwrite: delete features that the folder holds.
      update: compute changed, failed and new images, drop those that are gone, and keep all others. New images come
        last. Otherwise changed images are an error.
      advance: called with the number of images whenever some are done.

    Raises:
      InputError: if there are no images, the folder holds something else, or it cannot be written.
    """
    if not isinstance(inputs, Inputs):
        inputs = open_inputs([inputs] if isinstance(inputs, str | Path) else inputs)
    storage = Storage(format, dtype, shards)
    job = begin(inputs, output, extractor, storage, overwrite=overwrite, update=update)
    return make_shards(job, shard_index, functools.partial(make_here, job, extractor), advance)


def begin(
    inputs: Inputs,
    output: str | Path,
    extractor: Extractor,
    storage: Storage,
    *,
    overwrite: bool = False,
    update: bool = False,
    at_least: int = 1,
    arithmetic: Callable[[], tuple[int, int]] | None = None,
    advance: Callable[[int], None] = lambda count: None,
) -> FeatureJob:
    """Returns the job of ``extract``, which has made no shards yet except those of earlier calls.

    Args:
      inputs, output, extractor, overwrite, update: as for ``extract``.
      storage: format, dtype and number of shards.
      at_least: least number of shards, if neither ``storage`` nor the folder has their number.
      arithmetic: returns that of the extractors that make the shards, if that is not this one.
      advance: called with the number of images whenever an update has compared some.

    Raises:
      InputError: as ``extract``.
    """
    output = Path(output)
    if overwrite and update:
        raise InputError("overwrite=True deletes what update=True keeps: omit one of them.")
    put_back_interrupted(output)
    check_output(output, overwrite=overwrite)
    check_end_points(extractor)
    there = None if overwrite else read_record(output)
    extractor.prepare(inputs, before=None if there is None else engine_of(there))
    if storage.shards is None:
        shards = shards_for(len(inputs), extractor.batch_size, at_least) if there is None else there["shards"]
        storage = storage._replace(shards=shards)
    record = describe_run(extractor, inputs, storage)
    if not update or there is None:
        return FeatureJob(output, inputs, record, overwrite=overwrite)
    check_settings(output, there, record, besides_inputs=True)
    with writing(output), readable(output):
        advance(0)
        found = arithmetic() if arithmetic else extractor.arithmetic(len(inputs))
        remake = update_job(output, inputs, there, record, found, advance)
    return FeatureJob(output, inputs, record, remake=remake)


def make_shards(
    job: FeatureJob,
    shard_index: int | None,
    make: MakeShards,
    advance: Callable[[int], None] = lambda count: None,
) -> Summary:
    """Has the missing shards of a job made, and sums up.

    Args:
      job: the job.
      shard_index: the only shard to make; None for all.
      make: called with the numbers of the shards to make and with ``advance``.
      advance: called with the number of images whenever some are done.

    Raises:
      InputError: if there is no such shard, or images have changed since their features were computed.
    """
    chosen = job.chosen(shard_index)
    job.check_images(chosen)
    before = job.counts(chosen)
    missing = job.missing(chosen)
    made = 0
    start = time.perf_counter()
    if missing:

        def count(images: int) -> None:
            nonlocal made
            made += images
            advance(images)

        advance(0)
        make(missing, count)
    seconds = time.perf_counter() - start
    job.finish(before.images)
    counts, reused = job.counts(chosen), job.reused(missing)
    return Summary(
        done=counts.done,
        failed=counts.failed,
        output=job.output,
        reasons=counts.reasons,
        resumed_from=before.images,
        made=max(0, made - reused),
        seconds=seconds,
        waiting=tuple(job.missing(chosen)),
        reused=reused,
    )


def make_here(job: FeatureJob, extractor: Extractor, shards: Sequence[int], advance: Callable[[int], None]) -> None:
    """Makes shards one after the other in this process."""
    for shard in shards:
        job.make(shard, extractor, advance)
