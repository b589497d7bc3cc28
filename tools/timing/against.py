"""Times a network in other engines, in turns with ours."""

import statistics
import tempfile
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from checkpoints.published import resolve
from tools.errors import InputError
from tools.peers import OURS, get_engine
from tools.runtime import machine
from tools.timing.options import Options
from tools.timing.steps import Timing

if TYPE_CHECKING:
    from tools.peers.turns import Comparison

__all__ = ["check_comparable", "compare_engines"]


def check_comparable(nets: Sequence[str], options: Options, engines: Sequence[str]) -> None:
    """Raises InputError or PeerError for networks, options or engines that cannot be compared."""
    for engine in engines:
        get_engine(engine)
    if len(nets) != 1:
        raise InputError(f"Engines are compared on one network, but {len(nets)} are named: give one.")
    if options.mode != "forward":
        raise InputError(f"Engines are compared in inference: omit mode={options.mode!r}.")
    for option in ("xla", "feed", "device"):
        if getattr(options, option):
            raise InputError(
                f"Engines are compared without {option}={getattr(options, option)!r}: each takes its images and device "
                "in its own way. Omit it."
            )


def compare_engines(
    nets: Sequence[str],
    options: Options,
    engines: Sequence[str],
    steps: int,
    burn_in: int,
    *,
    advance: Callable[[int], None] = lambda count: None,
    on_setup: Callable[[str], None] = lambda name: None,
) -> dict[str, Any]:
    """Times the network in each engine, ours included.

    Args:
      nets: the name of one network.
      options: options that ``check_comparable`` accepts. Weights are always constants.
      engines: names in ``tools.peers.ENGINES``.
      steps, burn_in: number of counted rounds, and of rounds before them.
      advance: called with 1 after each round.
      on_setup: called with the name of each engine before its setup.

    Returns:
      The report, ready for JSON: a list of ``engines``, with times in seconds.

    Raises:
      KeyboardInterrupt: for Ctrl-C before a counted round was done.
      PeerError: if our own engine fails.
      ValueError: for an unknown network or engine, or options that cannot be compared.
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
        comparison = compare(problem, engines, steps=steps, burn_in=burn_in, on_step=advance, on_setup=on_setup)
    if comparison.interrupted and not comparison.runs[OURS].durations:
        raise KeyboardInterrupt
    return {
        "machine": machine.describe(),
        "options": {**options._asdict(), "steps": steps, "burn_in": burn_in, "against": list(engines)},
        "net": nets[0],
        "interrupted": comparison.interrupted,
        "engines": [_engine(comparison, name, options.batch_size) for name in comparison.runs],
    }


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
