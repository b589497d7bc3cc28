"""``slimnets features``: writes named features of images to a folder, by one process or many."""

import argparse
import functools
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tools.commands.arguments import add_patterns, add_restoration, count, names_in, options_of, positive
from tools.terminal.progress import progress
from tools.terminal.skipped import say_skipped
from tools.terminal.stopping import stoppable

if TYPE_CHECKING:
    from tools.features import Summary
    from tools.features.extraction import MakeShards
    from tools.features.job import FeatureJob

__all__ = ["add"]

# Reasons of failed images that are printed; run.json has them all.
_REASONS = 10


def add(commands: argparse._SubParsersAction) -> None:
    """Adds the command to the parser."""
    parser = commands.add_parser("features", help="named features of images, from a checkpoint")
    parser.add_argument(
        "inputs", nargs="+", metavar="INPUT", help="an image, a folder, a TFRecord file, a .tar, or @list.txt"
    )
    parser.add_argument(
        "--end-points", required=True, metavar="NAME[,NAME...]", help="names or aliases, as `slimnets nets NAME` lists"
    )
    parser.add_argument(
        "--output", required=True, metavar="DIR", help="a new or empty folder, or what the same command left in one"
    )
    parser.add_argument("--overwrite", action="store_true", help="give up what an earlier command left in it")
    parser.add_argument(
        "--update", action="store_true", help="make again what changed or failed, add new images, and keep the rest"
    )
    add_patterns(parser)
    parser.add_argument("--format", default="npy", metavar="NAME", help="npy, parquet or tfrecord (default npy)")
    parser.add_argument(
        "--dtype", choices=("float32", "float16"), default="float32", help="of what is stored (default float32)"
    )
    parser.add_argument(
        "--shards", type=positive, metavar="N", help="cut the work into N folders (default one for 8,192 images)"
    )
    parser.add_argument("--shard-index", type=count, metavar="I", help="make this one alone, from 0 to N - 1")
    parser.add_argument(
        "--distributor", choices=("local", "ray"), default="local", help="who makes the shards (default local)"
    )
    parser.add_argument("--workers", type=positive, metavar="N", help="processes or Ray actors (default 1)")
    parser.add_argument("--threads", type=positive, metavar="N", help="of each; otherwise one a core for all")
    parser.add_argument("--ray-address", metavar="ADDRESS", help="of a cluster to join")
    parser.add_argument(
        "--pool", choices=("none", "mean", "max"), default="none", help="reduce height and width (default none)"
    )
    add_restoration(parser)
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> int:
    from tools.features import FeatureExtractor
    from tools.features.extraction import begin, make_here, make_shards
    from tools.features.extractor import arithmetic, freeze_for
    from tools.images import open_inputs
    from tools.runtime.machine import cores

    options = options_of(arguments) | {"end_points": names_in(arguments.end_points)}
    names, patterns = (
        options.pop("inputs"),
        {"include": options.pop("include"), "exclude": options.pop("exclude_inputs")},
    )
    output, shard_index = options.pop("output"), options.pop("shard_index")
    stored = {name: options.pop(name) for name in ("format", "dtype", "shards", "overwrite", "update")}
    distributor, workers, ray_address = (options.pop(name) for name in ("distributor", "workers", "ray_address"))
    _check(arguments)
    inputs = open_inputs(names, **patterns)
    say_skipped(inputs.skipped)
    distributed = distributor == "ray" or (workers or 1) > 1
    workers = workers or 1
    if distributed:
        _check_distributed(Path(output), stored["update"])
        options["threads"] = options["threads"] or max(1, cores() // workers)
    options["freeze"] = freeze_for(len(inputs))
    with FeatureExtractor(**{**options, "freeze": False} if distributed else options) as extractor, stoppable():
        # Of the workers: this extractor computes nothing where there are some.
        made_by = arithmetic(len(inputs), extractor.batch_size, extractor.precision, options["freeze"])
        with progress("compare", len(inputs), "images") as advance:
            job = begin(inputs, output, extractor, **stored, at_least=workers, arithmetic=made_by, advance=advance)
        print(extractor.report, file=sys.stderr)
        print(f"{extractor.net}, preprocessing {extractor.preprocessing} at {extractor.image_size}", file=sys.stderr)
        make = functools.partial(make_here, job, extractor)
        if distributed:
            extractor.close()
            make = _made_by_workers(job, names, patterns, options, distributor, workers, ray_address)
        images = sum(len(job.rows(shard)) for shard in job.missing(job.chosen(shard_index)))
        try:
            with progress("features", images, "images") as advance:
                summary = make_shards(job, shard_index, make, advance)
        except KeyboardInterrupt:
            if job.shards == 1:
                raise
            _say_where(job)
            return 1
    return _report(summary)


def _check(arguments: argparse.Namespace) -> None:
    """Refuses options that contradict each other, and an output that cannot be written, before any long work."""
    from tools.errors import InputError
    from tools.features.folder import check_output
    from tools.features.formats import get_format

    if arguments.ray_address is not None and arguments.distributor != "ray":
        raise InputError("--ray-address goes with --distributor ray.")
    shards, shard_index = arguments.shards, arguments.shard_index
    if shard_index is not None:
        if shards is None:
            raise InputError("--shard-index needs --shards, the same for all that make one: how many there are.")
        if shard_index >= shards:
            raise InputError(f"There is no shard {shard_index}: there are {shards}, and the first one is 0.")
        if arguments.overwrite:
            raise InputError("--overwrite would take away what others with another --shard-index make: leave it out.")
        if arguments.update:
            raise InputError("--update finds out by itself which shards are to be made again: leave --shard-index out.")
    get_format(arguments.format)
    check_output(Path(arguments.output), overwrite=arguments.overwrite)


def _check_distributed(output: Path, update: bool) -> None:
    from tools.errors import InputError
    from tools.features.folder import read_record

    there = read_record(output) if update else None
    if there is not None and there["shards"] == 1:
        raise InputError(f"{output} is in one piece, which one process updates: leave --workers and --distributor out.")


def _made_by_workers(
    job: "FeatureJob",
    names: list[str],
    patterns: dict[str, Any],
    options: dict[str, Any],
    distributor: str,
    workers: int,
    ray_address: str | None,
) -> "MakeShards":
    """Returns a function that has the shards made by workers."""
    from tools.workers import Work

    stored = {name: job.record[name] for name in ("format", "dtype", "shards")}
    work = Work(str(Path.cwd()), tuple(names), patterns, str(job.output), stored, options)
    if distributor == "ray":
        from tools.workers.ray import make_with_ray

        return lambda shards, advance: make_with_ray(work, shards, workers, options["threads"], ray_address, advance)
    from tools.workers.processes import make_with_processes

    return lambda shards, advance: make_with_processes(work, shards, workers, advance)


def _say_where(job: "FeatureJob") -> None:
    done = [shard for shard in range(job.shards) if job.is_done(shard)]
    images, total = sum(len(job.rows(shard)) for shard in done), job.rows(job.shards - 1).stop
    print(
        f"slimnets: stopped; {len(done):,} of {job.shards:,} shards are done and kept, {images:,} of {total:,} images: "
        "the same command goes on with the rest",
        file=sys.stderr,
    )


def _report(summary: "Summary") -> int:
    """Prints the summary, and returns the exit status."""
    for reason, number in list(summary.reasons.items())[:_REASONS]:
        print(f"failed, {number:,}: {reason}", file=sys.stderr)
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
