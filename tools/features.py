"""Named features of pictures in a folder: made there from a checkpoint, and read back from there."""

import functools
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from tools.feature_extractor import FeatureExtractor
from tools.feature_files import IndexRow, Rows, get_format, utf8
from tools.feature_files.lazy import LazyArray, LazyIndex
from tools.feature_images import read_images
from tools.feature_jobs import FeatureJob, check_end_points, check_settings, put_back_interrupted, readable, writing
from tools.feature_records import (
    RUN,
    describe_run,
    is_complete,
    is_ours,
    is_temporary,
    layout_of,
    read_record,
    shard_bounds,
    shard_folders,
    shards_done,
    shards_for,
)
from tools.feature_updates import update_job
from tools.inputs import InputError, Inputs
from tools.inputs.opening import open_inputs
from tools.progress import Advance, progress

__all__ = ["Features", "Summary", "begin", "check_output", "extract", "load", "make_here", "make_shards", "open_shards"]


# Shards whose files stay open.
_OPEN = 8


class Features(NamedTuple):
    """The features in a folder.

    arrays: from the end points' aliases to [N, ...], not read yet: mapped from a file, or a ``LazyArray``.
    index: one row an input.
    run: what made them: inputs, checkpoint, network, end points, preprocessing, versions, counts.
    """

    arrays: dict[str, np.ndarray | LazyArray]
    index: Sequence[IndexRow]
    run: dict[str, Any]


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

    Raises:
      InputError: if there are no images, the folder holds something else, or it cannot be written.
    """
    inputs = inputs if isinstance(inputs, Inputs) else open_inputs(inputs)
    stored = {"format": format, "dtype": dtype, "shards": shards, "overwrite": overwrite, "update": update}
    job = begin(inputs, output, extractor, **stored)
    return make_shards(job, shard_index, functools.partial(make_here, job, extractor))


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
) -> FeatureJob:
    """The job of ``extract``, nothing made yet but what was there; ``at_least`` shards, if it is not said how many.

    ``arithmetic`` is that of the extractors that make the shards, where it is not this one.
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
    with writing(output), readable(output), progress("compare", len(inputs), "images") as advance:
        arithmetic = arithmetic or extractor.arithmetic(len(inputs))
        remake = update_job(output, inputs, there, record, arithmetic, advance)
    return FeatureJob(output, inputs, record, remake=remake)


def make_shards(job: FeatureJob, shard_index: int | None, make: Callable[[Sequence[int], Advance], object]) -> Summary:
    """Has the shards of a job made that are not done yet, and sums up.

    Args:
      job: says which.
      shard_index: of the only one to make; None for all.
      make: is given their numbers, and the function to call with the number of images whenever some are done.
    """
    if shard_index is not None and not 0 <= shard_index < job.shards:
        raise InputError(f"There is no shard {shard_index}: there are {job.shards}, and the first one is 0.")
    chosen = range(job.shards) if shard_index is None else [shard_index]
    job.check_images(chosen)
    before = job.counts(chosen)
    missing = [shard for shard in chosen if not job.is_done(shard)]
    made = 0
    start = time.perf_counter()
    if missing:
        with progress("features", sum(len(job.rows(shard)) for shard in missing), "images") as advance:

            def count(images: int) -> None:
                nonlocal made
                made += images
                advance(images)

            make(missing, count)
    seconds = time.perf_counter() - start
    job.finish(before.images)
    counts = job.counts(chosen)
    reused = job.reused(missing)
    waiting = tuple(shard for shard in chosen if not job.is_done(shard))
    computed = max(0, made - reused)
    return Summary(
        counts.done, counts.failed, job.output, counts.reasons, before.images, computed, seconds, waiting, reused
    )


def make_here(job: FeatureJob, extractor: FeatureExtractor, shards: Sequence[int], advance: Advance) -> None:
    """Makes shards one after the other, in this process."""
    for shard in shards:
        job.make(shard, extractor, advance)


def check_output(output: Path, *, overwrite: bool = False) -> None:
    """Raises InputError if features cannot be written to ``output``: it is a file, or holds something else."""
    if output.resolve() == Path.cwd():
        raise InputError("The output folder is the current one, which cannot be replaced: name another.")
    if output.exists() and not output.is_dir():
        raise InputError(f"The output {output} is a file: name a folder.")
    there = sorted(path.name for path in output.iterdir() if not is_temporary(path)) if output.is_dir() else []
    if overwrite:
        if others := [name for name in there if not is_ours(name)]:
            raise InputError(f"The output folder {output} holds {others[0]}, which is no feature: name another folder.")
    elif there and read_record(output) is None:
        raise InputError(f"The output folder {output} is not empty: name a new one, or empty it.")


def load(folder: str | Path) -> Features:
    """Reads back what ``extract`` wrote, in any format, in the order of the inputs.

    ``arrays[alias][rows]`` reads rows, ``np.asarray(arrays[alias])`` all.

    Raises:
      InputError: if the folder holds no features, or not all of them yet.
    """
    folder = Path(folder)
    record = read_record(folder)
    if record is None:
        raise InputError(f"{folder} holds no features: it has no {RUN}.")
    folders = shard_folders(folder, record)
    if not is_complete(folder):
        done, shards = sum(shards_done(folders, record)), len(folders)
        raise InputError(f"{folder} is not complete, {done} of {shards} shards are done: run the same command again.")
    return Features(*open_shards(folders, record), record)


def open_shards(
    folders: Sequence[Path], record: dict[str, Any]
) -> tuple[dict[str, np.ndarray | LazyArray], Sequence[IndexRow]]:
    """The arrays and the index of shards, in their order."""
    layout, bounds = layout_of(record), shard_bounds(record)
    kind = get_format(record["format"])

    # All arrays of a shard: each may be many, and the files that a process has open are not.
    @functools.lru_cache(_OPEN)
    def open_arrays(shard: int) -> Mapping[str, Rows]:
        with readable(folders[shard]):
            return kind.open_arrays(folders[shard], layout, bounds[shard + 1] - bounds[shard])

    def read_index(shard: int) -> Iterator[IndexRow]:
        images = None
        with readable(folders[shard]):
            # Counted anew: an update may have taken images out of the shards before this one.
            for i, row in enumerate(kind.read_index(folders[shard])):
                path = row.path
                if "\\x" in path:  # as most formats show a name that is not UTF-8
                    images = images or read_images(folders[shard])
                    path = images.names[i] if images and utf8(images.names[i]) == path else path
                yield row._replace(row=bounds[shard] + i, path=path)

    index = LazyIndex(bounds[1:], read_index)
    if record["format"] == "npy" and len(folders) == 1:
        return dict(open_arrays(0)), index
    arrays = {
        alias: LazyArray(bounds[1:], shape, layout.dtype, lambda shard, alias=alias: open_arrays(shard)[alias])
        for alias, shape in layout.shapes.items()
    }
    return arrays, index
