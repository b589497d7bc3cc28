"""``slimnets features``: writes named features of images to a folder, with one process or many."""

import argparse
import contextlib
import functools
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tools.commands.arguments import (
    add_images,
    add_patterns,
    add_restoration,
    count,
    names_in,
    patterns_of,
    positive,
    restoration_of,
)
from tools.terminal.engine import prepare_engine
from tools.terminal.network_input import described_input
from tools.terminal.progress import progress
from tools.terminal.skipped import say_failed, say_skipped
from tools.terminal.stopping import stoppable

if TYPE_CHECKING:
    from tools.features import FeatureExtractor, Summary
    from tools.features.computing import Extractor
    from tools.features.computing.stored import StoredExtractor
    from tools.features.extraction import MakeShards
    from tools.features.job import FeatureJob
    from tools.images import Inputs

__all__ = ["add"]


def add(commands: argparse._SubParsersAction) -> None:
    """Adds the command to the parser."""
    parser = commands.add_parser("features", help="compute named features of images and write them to a folder")
    add_images(parser, "INPUT")
    parser.add_argument(
        "--end-points",
        required=True,
        metavar="NAME[,NAME...]",
        help="end points whose activations to write, by name or alias; `slimnets nets NAME` lists them",
    )
    parser.add_argument(
        "--output",
        required=True,
        metavar="DIR",
        help="folder to write: a new or empty one, or one in which the same command was stopped, to resume it",
    )
    parser.add_argument("--overwrite", action="store_true", help="delete features that the folder already holds")
    parser.add_argument(
        "--update",
        action="store_true",
        help="compute changed, failed and new images, and keep the features of all others",
    )
    add_patterns(parser)
    parser.add_argument("--format", default="npy", metavar="NAME", help="npy, parquet or tfrecord (default npy)")
    parser.add_argument(
        "--dtype", choices=("float32", "float16"), default="float32", help="number type in the files (default float32)"
    )
    parser.add_argument(
        "--shards", type=positive, metavar="N", help="split the work into N folders (default: one for 8,192 images)"
    )
    parser.add_argument("--shard-index", type=count, metavar="I", help="make only this shard, from 0 to N - 1")
    parser.add_argument(
        "--distributor",
        choices=("local", "ray"),
        default="local",
        help="run the workers as processes on this machine or as Ray actors (default local)",
    )
    parser.add_argument("--workers", type=positive, metavar="N", help="number of workers (default 1)")
    parser.add_argument(
        "--threads", type=positive, metavar="N", help="threads of each worker (default: all workers share the cores)"
    )
    parser.add_argument(
        "--ray-address", metavar="ADDRESS", help="Ray cluster to use (default: start Ray on this machine)"
    )
    parser.add_argument(
        "--pool",
        choices=("none", "mean", "max"),
        default="none",
        help="take the mean or the maximum over height and width (default none)",
    )
    add_restoration(parser)
    parser.set_defaults(run=_run, imports_tensorflow=False)


def _run(arguments: argparse.Namespace) -> int:
    from tools.features.extraction import make_here, make_shards
    from tools.images import open_inputs

    _check(arguments)
    inputs = open_inputs(arguments.inputs, **patterns_of(arguments))
    say_skipped(inputs.skipped)
    options = _extractor_options(arguments, len(inputs))
    distributed = _is_distributed(arguments)
    # With workers, this extractor only describes the job: it computes nothing.
    own_options = {**options, "freeze": False} if distributed else options
    with _prepared(arguments, inputs, own_options) as extractor, stoppable():
        job = _begin(arguments, inputs, extractor, options["freeze"])
        print(extractor.report, file=sys.stderr)
        print(f"{extractor.net}, {described_input(extractor)}", file=sys.stderr)
        make = functools.partial(make_here, job, extractor)
        if distributed:
            extractor.close()
            if extractor.engine_model is not None:
                options["engine_model"] = str(extractor.engine_model.folder)
            options["engine"] = extractor.engine
            make = _made_by_workers(arguments, job, options)
        images = sum(len(job.rows(shard)) for shard in job.missing(job.chosen(arguments.shard_index)))
        try:
            with progress("features", images, "images") as advance:
                summary = make_shards(job, arguments.shard_index, make, advance)
        except KeyboardInterrupt:
            if job.shards == 1:
                raise
            _say_where(job)
            return 1
    return _report(summary)


def _prepared(
    arguments: argparse.Namespace, inputs: "Inputs", options: dict[str, Any]
) -> "FeatureExtractor | StoredExtractor":
    """Returns the extractor, with its engine prepared: one that does without TensorFlow, if there is one."""
    from tools.features.computing.stored import NeedsTensorFlow, recall, remember
    from tools.runtime.importing import import_tensorflow

    before = _engine_before(arguments)
    if (stored := recall(options)) is not None:
        with contextlib.suppress(NeedsTensorFlow):
            prepare_engine(stored, inputs, before=before)
            return stored
    import_tensorflow()
    from tools.features import FeatureExtractor

    extractor = FeatureExtractor(**options)
    try:
        prepare_engine(extractor, inputs, before=before)
    except BaseException:
        extractor.close()
        raise
    remember(extractor, options)
    return extractor


def _check(arguments: argparse.Namespace) -> None:
    """Refuses options that contradict each other and an output that cannot be written, before any long work."""
    from tools.errors import InputError
    from tools.features.folder import check_output, read_record
    from tools.features.formats import get_format

    if arguments.ray_address is not None and arguments.distributor != "ray":
        raise InputError("--ray-address requires --distributor ray.")
    shards, shard_index = arguments.shards, arguments.shard_index
    if shard_index is not None:
        if shards is None:
            raise InputError("--shard-index requires --shards, the number of all shards.")
        if shard_index >= shards:
            raise InputError(f"There is no shard {shard_index}: there are {shards}, numbered from 0.")
        if arguments.overwrite:
            raise InputError("--overwrite would delete shards that other commands with --shard-index make: omit it.")
        if arguments.update:
            raise InputError("--update itself finds the shards to make again: omit --shard-index.")
    get_format(arguments.format)
    output = Path(arguments.output)
    check_output(output, overwrite=arguments.overwrite)
    if arguments.update and _is_distributed(arguments):
        there = read_record(output)
        if there is not None and there["shards"] == 1:
            raise InputError(
                f"{output} has a single shard, which only one process can update: omit --workers and --distributor."
            )


def _is_distributed(arguments: argparse.Namespace) -> bool:
    return arguments.distributor == "ray" or (arguments.workers or 1) > 1


def _extractor_options(arguments: argparse.Namespace, num_images: int) -> dict[str, Any]:
    """Returns the arguments of the ``FeatureExtractor`` that makes the shards, here or in each worker."""
    from tools.features.computing.arithmetic import freeze_for
    from tools.runtime.machine import cores

    threads = arguments.threads
    if threads is None and _is_distributed(arguments):
        threads = max(1, cores() // (arguments.workers or 1))
    return {
        **restoration_of(arguments),
        "end_points": names_in(arguments.end_points),
        "pool": arguments.pool,
        "threads": threads,
        "freeze": freeze_for(num_images, arguments.engine),
    }


def _engine_before(arguments: argparse.Namespace) -> tuple[str, str | None] | None:
    """Returns the engine of a job that is resumed or updated, and the key of its model; None if there is none."""
    from tools.features.folder import read_record
    from tools.features.record import engine_of

    there = None if arguments.overwrite else read_record(Path(arguments.output))
    return None if there is None else engine_of(there)


def _begin(
    arguments: argparse.Namespace, inputs: "Inputs", extractor: "Extractor", freeze: bool | None
) -> "FeatureJob":
    from tools.features.computing.arithmetic import arithmetic
    from tools.features.extraction import begin
    from tools.features.record import Storage

    def of_makers() -> tuple[int, int]:
        return arithmetic(len(inputs), extractor.batch_size, extractor.precision, freeze, extractor.engine)

    with progress("compare", len(inputs), "images") as advance:
        return begin(
            inputs,
            arguments.output,
            extractor,
            Storage(arguments.format, arguments.dtype, arguments.shards),
            overwrite=arguments.overwrite,
            update=arguments.update,
            at_least=arguments.workers or 1,
            arithmetic=of_makers,
            advance=advance,
        )


def _made_by_workers(arguments: argparse.Namespace, job: "FeatureJob", options: dict[str, Any]) -> "MakeShards":
    """Returns a function that lets workers make the shards."""
    from tools.workers import Work

    workers = arguments.workers or 1
    stored = {name: job.record[name] for name in ("format", "dtype", "shards")}
    folder, output = str(Path.cwd()), str(job.output)
    work = Work(folder, tuple(arguments.inputs), patterns_of(arguments), output, stored, options)
    if arguments.distributor == "ray":
        from tools.workers.ray import make_with_ray

        threads, address = options["threads"], arguments.ray_address
        return lambda shards, advance: make_with_ray(work, shards, workers, threads, address, advance)
    from tools.workers.processes import make_with_processes

    return lambda shards, advance: make_with_processes(work, shards, workers, advance)


def _say_where(job: "FeatureJob") -> None:
    done = [shard for shard in range(job.shards) if job.is_done(shard)]
    images, total = sum(len(job.rows(shard)) for shard in done), job.rows(job.shards - 1).stop
    print(
        f"slimnets: stopped; {len(done):,} of {job.shards:,} shards are done and kept, {images:,} of {total:,} images: "
        "run the same command again for the rest",
        file=sys.stderr,
    )


def _report(summary: "Summary") -> int:
    """Prints the summary and returns the exit status."""
    say_failed(summary.reasons)
    if summary.resumed_from:
        print(f"resumed from {summary.resumed_from:,} images that were done before", file=sys.stderr)
    if summary.reused:
        print(f"{summary.reused:,} images in the updated shards are unchanged: their rows were kept", file=sys.stderr)
    if summary.made:
        rate = summary.made / summary.seconds
        print(f"{summary.made:,} images in {summary.seconds:.1f} s, {rate:.1f} images/s", file=sys.stderr)
    if summary.waiting:
        some = ", ".join(map(str, summary.waiting[:5])) + (", ..." if len(summary.waiting) > 5 else "")
        print(
            f"slimnets: not complete: another process is working on {len(summary.waiting)} of the shards ({some}); run "
            "the same command again if it does not finish them",
            file=sys.stderr,
        )
    print(f"{summary.done} images done, {summary.failed} failed: {summary.output}")
    return 1 if summary.failed or summary.waiting else 0
