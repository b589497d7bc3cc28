"""``slimnets features``: named features of pictures, from a checkpoint, in a folder; by one process or many."""

import functools
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tools.distribution import DISTRIBUTORS, Work
from tools.feature_extractor import FeatureExtractor, arithmetic, freeze_for
from tools.feature_files import get_format
from tools.feature_jobs import FeatureJob
from tools.feature_records import read_record
from tools.features import Summary, begin, check_output, make_here, make_shards
from tools.inputs import InputError, Inputs
from tools.inputs.opening import open_inputs
from tools.machine import cores
from tools.progress import Advance
from tools.stopping import stoppable

__all__ = ["run", "say_skipped"]

# Reasons of failed images that are printed; run.json has them all.
_REASONS = 10


def run(
    inputs: Sequence[str],
    *,
    output: str,
    format: str = "npy",
    dtype: str = "float32",
    shards: int | None = None,
    shard_index: int | None = None,
    overwrite: bool = False,
    update: bool = False,
    include: Sequence[str] = (),
    exclude_inputs: Sequence[str] = (),
    distributor: str = "local",
    workers: int | None = None,
    ray_address: str | None = None,
    threads: int | None = None,
    **options: Any,
) -> int:
    """The command: extracts, reports, and returns the exit status.

    Args:
      inputs, output, format, dtype, shards, shard_index, overwrite, update: as for ``tools.features.extract``.
      include, exclude_inputs: patterns of the images' names, as ``open_inputs`` takes them.
      distributor: 'local' or 'ray'.
      workers: the number of processes or actors; None for 1.
      ray_address: of the cluster.
      threads: of each worker; None for as many as there are cores for it.
      **options: of ``FeatureExtractor``.

    Raises:
      CheckpointError, InputError, ValueError: for what cannot be done or honoured.
    """
    _check(shards, shard_index, overwrite, update, distributor, ray_address)
    # Before the network is built and restored, which takes seconds.
    get_format(format)
    check_output(Path(output), overwrite=overwrite)
    patterns = {"include": tuple(include), "exclude": tuple(exclude_inputs)}
    pictures = open_inputs(inputs, **patterns)
    say_skipped(pictures)
    distributed = distributor == "ray" or (workers or 1) > 1
    workers = workers or 1
    there = read_record(Path(output)) if update and distributed else None
    if there is not None and there["shards"] == 1:
        raise InputError(f"{output} is in one piece, which one process updates: leave --workers and --distributor out.")
    if threads is None and distributed:
        threads = max(1, cores() // workers)
    options |= {"threads": threads, "freeze": freeze_for(len(pictures))}
    with FeatureExtractor(**{**options, "freeze": False} if distributed else options) as extractor, stoppable():
        stored = {"format": format, "dtype": dtype, "shards": shards, "overwrite": overwrite, "update": update}
        # Of the workers: this extractor computes nothing where there are some.
        made_by = arithmetic(len(pictures), extractor.batch_size, extractor.precision, options["freeze"])
        job = begin(pictures, output, extractor, **stored, at_least=workers, arithmetic=made_by)
        print(extractor.report, file=sys.stderr)
        print(f"{extractor.net}, preprocessing {extractor.preprocessing} at {extractor.image_size}", file=sys.stderr)
        if not distributed:
            make = functools.partial(make_here, job, extractor)
        else:
            extractor.close()
            stored = {name: job.record[name] for name in ("format", "dtype", "shards")}
            work = Work(str(Path.cwd()), tuple(inputs), patterns, str(output), stored, options)
            make = _distributed(work, distributor, workers, threads, ray_address)
        try:
            summary = make_shards(job, shard_index, make)
        except KeyboardInterrupt:
            if job.shards == 1:
                raise
            _say_where(job)
            return 1
    return _report(summary, job)


def say_skipped(inputs: Inputs) -> None:
    """Says once what was found beside the images, and is left out."""
    if inputs.skipped:
        kinds = ", ".join(f"{count:,} {kind}" for kind, count in inputs.skipped.items())
        print(f"skipped: {kinds}", file=sys.stderr)


def _check(
    shards: int | None,
    shard_index: int | None,
    overwrite: bool,
    update: bool,
    distributor: str,
    ray_address: str | None,
) -> None:
    """Refuses options that contradict each other."""
    if distributor not in DISTRIBUTORS:
        raise InputError(f"There is no distributor {distributor!r}: choose one of {', '.join(DISTRIBUTORS)}.")
    if ray_address is not None and distributor != "ray":
        raise InputError("--ray-address goes with --distributor ray.")
    if shard_index is not None:
        if shards is None:
            raise InputError("--shard-index needs --shards, the same for all that make one: how many there are.")
        if shard_index >= shards:
            raise InputError(f"There is no shard {shard_index}: there are {shards}, and the first one is 0.")
        if overwrite:
            raise InputError("--overwrite would take away what others with another --shard-index make: leave it out.")
        if update:
            raise InputError("--update finds out by itself which shards are to be made again: leave --shard-index out.")


def _distributed(
    work: Work, distributor: str, workers: int, threads: int, ray_address: str | None
) -> Callable[[Sequence[int], Advance], None]:
    """A function that has the shards made by workers."""
    if distributor == "ray":
        from tools.distribution.ray_data import make_with_ray

        return lambda shards, advance: make_with_ray(work, shards, workers, threads, ray_address, advance)
    from tools.distribution.processes import make_with_processes

    return lambda shards, advance: make_with_processes(work, shards, workers, advance)


def _say_where(job: FeatureJob) -> None:
    done = [shard for shard in range(job.shards) if job.is_done(shard)]
    images, total = sum(len(job.rows(shard)) for shard in done), job.rows(job.shards - 1).stop
    print(
        f"slimnets: stopped; {len(done):,} of {job.shards:,} shards are done and kept, {images:,} of {total:,} images: "
        "the same command goes on with the rest",
        file=sys.stderr,
    )


def _report(summary: Summary, job: FeatureJob) -> int:
    """Prints the summary, and returns the exit status."""
    for reason, count in list(summary.reasons.items())[:_REASONS]:
        print(f"failed, {count:,}: {reason}", file=sys.stderr)
    if summary.resumed_from:
        print(f"resumed from {summary.resumed_from:,} images that were done before", file=sys.stderr)
    if summary.reused:
        print(f"{summary.reused:,} images of the shards made again are the same: their rows were kept", file=sys.stderr)
    if summary.made:
        rate = summary.made / summary.seconds
        print(f"{summary.made:,} images in {summary.seconds:.1f} s, {rate:.1f} images/s", file=sys.stderr)
    if summary.waiting:
        some = ", ".join(map(str, summary.waiting[:5])) + (", ..." if len(summary.waiting) > 5 else "")
        print(
            f"slimnets: not complete: another process is at {len(summary.waiting)} of the shards ({some}); the same "
            "command goes on with what it leaves",
            file=sys.stderr,
        )
    print(f"{summary.done} images done, {summary.failed} failed: {summary.output}")
    return 1 if summary.failed or summary.waiting else 0
