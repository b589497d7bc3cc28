"""Runs one engine in a process of its own: ``python -m tools.peers.worker ENGINE FOLDER [PRECISION]``.

It prepares the engine for the problem in FOLDER, saves the outputs there and prints a line of JSON:
``{"version": ...}``, or ``{"error": ...}``. Then it answers every line ``step`` with ``{"duration": ...}``, the seconds
of one computation, until its input ends.
"""

import importlib
import sys
import time
import traceback
from collections.abc import Sequence

import numpy as np

from tools.peers import get_engine
from tools.peers.problem import Prepared, Problem
from tools.peers.processes import answers, say

__all__ = ["main"]

# Seconds of warm-up before the timed computation. Since the last turn other engines have filled the caches, and the
# threads sleep. Without warm-up a step of 0.2 ms took 0.6 ms, and one of 1.5 ms sometimes 12 ms; after 20 ms, none did.
_WARM_UP = 0.02

# Steps of this many seconds or more need no warm-up.
_LONG = 1.0


def main(argv: Sequence[str]) -> int:
    """Serves an engine until the input ends, and returns the exit status."""
    name, folder, *precision = argv
    with answers() as protocol:
        try:
            problem = Problem.load(folder)
            for other in precision:
                problem = problem._replace(precision=other)
            engine = importlib.import_module(f"tools.peers.engines.{get_engine(name).module}")
            prepared = engine.prepare(problem, name)
        except ValueError as error:
            traceback.print_exc()
            say(protocol, error=str(error))
            return 1
        np.save(problem.outputs_file(name), prepared.outputs)
        say(protocol, version=prepared.version)
        duration = 0.0
        for _ in sys.stdin:
            if duration < _LONG:
                _warm_up(prepared)
            duration = _seconds(prepared)
            say(protocol, duration=duration)
    return 0


def _warm_up(prepared: Prepared) -> None:
    seconds = 0.0
    while seconds < _WARM_UP:
        seconds += _seconds(prepared)


def _seconds(prepared: Prepared) -> float:
    start = time.perf_counter()
    prepared.step()
    return time.perf_counter() - start


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
