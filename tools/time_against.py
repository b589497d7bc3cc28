"""``slimnets time --against``: the network in other engines, in turns with this one."""

import functools
import statistics
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import numpy as np

from checkpoints.store import resolve
from tools import machine
from tools.inputs import InputError
from tools.peers import OURS, get_engine
from tools.progress import Advance, progress
from tools.tables import print_table
from tools.time_options import Options
from tools.timing import Timing

if TYPE_CHECKING:
    from tools.peers.turns import Comparison

__all__ = ["check_comparable", "compare_engines"]


def check_comparable(nets: Sequence[str], options: Options, engines: Sequence[str]) -> None:
    """Raises InputError or PeerError for what cannot be compared."""
    for engine in engines:
        get_engine(engine)
    if len(nets) != 1:
        raise InputError(f"--against compares engines on one network, and {len(nets)} are named: give one.")
    if options.mode != "forward":
        raise InputError(f"--against compares inference: leave --mode {options.mode} out.")
    for option in ("xla", "feed", "device"):
        if getattr(options, option):
            raise InputError(
                f"--against goes without --{option}: engines get their images and devices in ways of their own."
            )


def compare_engines(
    nets: Sequence[str], options: Options, engines: Sequence[str], steps: int, burn_in: int
) -> dict[str, Any]:
    """Times the network in each engine, this one included, and prints the table.

    Args:
      nets: the name of one network.
      options: as ``check_comparable`` lets them pass; weights are constants in any case.
      engines: names in ``tools.peers.ENGINES``.
      steps, burn_in: rounds that count, and rounds before them.

    Returns:
      What there is to report, as JSON has it: a list of ``engines``, times in seconds.

    Raises:
      KeyboardInterrupt: for Ctrl-C before a round that counts was done.
      PeerError: if this engine fails itself.
      ValueError: for an unknown network or engine, or what cannot be compared.
    """
    check_comparable(nets, options, engines)
    from tools.peers.making import network_problem
    from tools.peers.turns import compare

    end_point = {} if options.end_point is None else {"end_point": options.end_point}
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = options.checkpoint
        problem = network_problem(
            folder,
            nets[0],
            batch_size=options.batch_size,
            image_size=options.image_size,
            num_classes=options.num_classes,
            checkpoint=None if checkpoint is None else resolve(checkpoint, options.checkpoint_dir),
            threads=options.threads,
            precision=options.precision,
            **end_point,
        )
        with ExitStack() as stack:

            @functools.cache
            def advance() -> Advance:  # once the engines are set up, for the rate is the rounds'
                return stack.enter_context(progress(nets[0], burn_in + steps, "rounds"))

            comparison = compare(
                problem,
                engines,
                steps=steps,
                burn_in=burn_in,
                on_step=lambda count: advance()(count),
                on_setup=_report_setup,
            )
    if comparison.interrupted and not comparison.runs[OURS].durations:
        raise KeyboardInterrupt
    record = {
        "machine": machine.describe(),
        "options": {**options._asdict(), "steps": steps, "burn_in": burn_in, "against": list(engines)},
        "net": nets[0],
        "interrupted": comparison.interrupted,
        "engines": [_engine(comparison, name, options.batch_size) for name in comparison.runs],
    }
    _print(record)
    return record


def _report_setup(name: str) -> None:
    print(f"{name} is set up ...", file=sys.stderr, flush=True)


def _engine(comparison: "Comparison", name: str, batch_size: int) -> dict[str, Any]:
    run = comparison.runs[name]
    found = {**run._asdict(), "durations": list(run.durations)}
    if run.durations and not run.refused:
        timing = Timing(run.durations)
        ratios = comparison.ratios(name)
        quartiles = [float(value) for value in np.percentile(ratios, (25, 75), method="linear")]
        found |= {
            "median": timing.median,
            "images_per_second": batch_size / timing.median,
            "ratio": {"median": statistics.median(ratios), "quartiles": quartiles},
        }
    return found


def _print(record: dict[str, Any]) -> None:
    options = record["options"]
    print(machine.one_line())
    rounds = max(len(engine["durations"]) for engine in record["engines"])
    print(
        f"{record['net']}, forward, batch {options['batch_size']:,}, {options['precision']}, weights as constants, "
        f"{rounds:,} rounds in turns after {options['burn_in']:,}; ratio: time by {OURS}' time, round by round"
    )
    header = ("engine", "version", "largest difference", "images/s (median)", "ratio (median)", "quartiles")
    timed = [engine for engine in record["engines"] if "ratio" in engine]
    print_table(header, [_row(engine) for engine in timed])
    for engine in record["engines"]:
        if engine["refused"]:
            print(f"{engine['name']}: not compared: {engine['refused']}")


def _row(engine: dict[str, Any]) -> list[object]:
    low, high = engine["ratio"]["quartiles"]
    return [
        engine["name"],
        engine["version"],
        f"{engine['largest_difference']:.2g}",
        f"{engine['images_per_second']:,.1f}",
        f"{engine['ratio']['median']:.3f}",
        f"{low:.3f} to {high:.3f}",
    ]
