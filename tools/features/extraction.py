"""Writes features of images to a folder: begins a job, has its shards made, and sums up."""

import functools
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from tools.errors import InputError
from tools.features.extractor import FeatureExtractor
from tools.features.folder import check_output, put_back_interrupted, read_record, readable, writing
from tools.features.job import FeatureJob, check_end_points, check_settings
from tools.features.record import describe_run, shards_for
from tools.features.updates import update_job
from tools.images import Inputs, open_inputs

__all__ = ["MakeShards", "Summary", "begin", "extract", "make_here", "make_shards"]

# Makes shards by their numbers, and reports images as they are done.
MakeShards = Callable[[Sequence[int], Callable[[int], None]], object]


class Summary(NamedTuple):
    """What a run has done, of the shards that it was to make.

    done, failed, reasons: images, those that were there before included; failed ones also by their reasons.
    resumed_from: images that were there before.
    made: images that this run has computed itself, and the seconds that it took.
    reused: images of shards that were made again, whose rows were taken over.
    waiting: shards that another process is at.
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
    inputs: Inputs | Sequence[str | Path],
    output: str | Path,
    extractor: FeatureExtractor,
    *,
    format: str = "npy",
    dtype: str = "float32",
    shards: int | None = None,
    shard_index: int | None = None,
    overwrite: bool = False,
    update: bool = False,
    advance: Callable[[int], None] = lambda count: None,
) -> Summary:
    """Writes the features of pictures to a folder, all at once or shard by shard; goes on where it was stopped.

    One shard is a folder that appears once it is complete: ``<alias>.npy`` for each end point and ``index.csv``, or
    what the format has, and ``run.json``. Several are a folder each, in one with ``manifest.json`` and ``run.json``.

    Args:
      inputs: as ``open_inputs`` gives them, or takes them.
      output: a folder that does not exist yet, is empty, or holds what an earlier call has done of the same.
      extractor: computes the features.
      format: 'npy', 'parquet' or 'tfrecord'.
      dtype: 'float32', or 'float16' for half the space.
      shards: how many; None for what was begun with, or else one for 8,192 images.
      shard_index: of the only one to make; None for all.
      overwrite: gives up what is there of an earlier call.
      update: makes again what is there of images that were changed since, could not be decoded, or are gone, and adds
        new ones at the end. Without, changed images are an error.
      advance: called with the number of images whenever some are done.

    Raises:
      InputError: if there are no images, the folder holds something else, or it cannot be written.
    """
    inputs = inputs if isinstance(inputs, Inputs) else open_inputs(inputs)
    stored = {"format": format, "dtype": dtype, "shards": shards, "overwrite": overwrite, "update": update}
    job = begin(inputs, output, extractor, **stored)
    return make_shards(job, shard_index, functools.partial(make_here, job, extractor), advance)


def begin(
    inputs: Inputs,
    output: str | Path,
    extractor: FeatureExtractor,
    *,
    format: str,
    dtype: str,
    shards: int | None,
    overwrite: bool,
    update: bool = False,
    at_least: int = 1,
    arithmetic: tuple[int, int] | None = None,
    advance: Callable[[int], None] = lambda count: None,
) -> FeatureJob:
    """Returns the job of ``extract``, of which nothing is made yet but what an earlier call made.

    Args:
      inputs, output, extractor, format, dtype, shards, overwrite, update: as for ``extract``.
      at_least: number of shards, unless ``shards`` or the folder says how many.
      arithmetic: of the extractors that make the shards, if it is not this one that makes them.
      advance: called with the number of images whenever an update has compared some.

    Raises:
      InputError: as ``extract``.
    """
    output = Path(output)
    if overwrite and update:
        raise InputError("overwrite=True gives up what update=True would keep: leave one of them out.")
    put_back_interrupted(output)
    check_output(output, overwrite=overwrite)
    check_end_points(extractor)
    there = None if overwrite else read_record(output)
    if shards is None:
        shards = shards_for(len(inputs), extractor.batch_size, at_least) if there is None else there["shards"]
    record = describe_run(extractor, inputs, format=format, dtype=dtype, shards=shards)
    if not update or there is None:
        return FeatureJob(output, inputs, record, overwrite=overwrite)
    check_settings(output, there, record, besides_inputs=True)
    with writing(output), readable(output):
        advance(0)
        arithmetic = arithmetic or extractor.arithmetic(len(inputs))
        remake = update_job(output, inputs, there, record, arithmetic, advance)
    return FeatureJob(output, inputs, record, remake=remake)


def make_shards(
    job: FeatureJob,
    shard_index: int | None,
    make: MakeShards,
    advance: Callable[[int], None] = lambda count: None,
) -> Summary:
    """Has those shards of a job made that are not done yet, and sums up.

    Args:
      job: the job.
      shard_index: of the only shard to make; None for all.
      make: called with the numbers of the shards to make and ``advance``.
      advance: called with the number of images whenever some are done.

    Raises:
      InputError: if there is no such shard, or images have changed since some features were made.
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
    counts = job.counts(chosen)
    reused = job.reused(missing)
    waiting = tuple(job.missing(chosen))
    computed = max(0, made - reused)
    return Summary(
        counts.done, counts.failed, job.output, counts.reasons, before.images, computed, seconds, waiting, reused
    )


def make_here(
    job: FeatureJob, extractor: FeatureExtractor, shards: Sequence[int], advance: Callable[[int], None]
) -> None:
    """Makes shards one after the other, in this process."""
    for shard in shards:
        job.make(shard, extractor, advance)
