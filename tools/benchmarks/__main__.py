"""Runs the benchmarks: ``python -m tools.benchmarks [NAME ...] [--rounds N] [--json FILE]``.

Each figure compares two measurements that take turns in one run. It shows the median of the ratios, pair by pair, and
their spread. Run it on a quiet machine.
"""

import argparse
import importlib
import sys
from collections.abc import Sequence

from tools.benchmarks.figures import print_figures, save_figures
from tools.runtime.importing import import_tensorflow

__all__ = ["main"]

# Name of a benchmark, and of its function → the module of this package that holds it.
_BENCHMARKS = {
    "build": "starting",
    "first_feature": "starting",
    "inspect": "starting",
    "forward": "forward",
    "bfloat16": "forward",
    "train": "training",
    "train_files": "training",
    "folder": "folder",
    "evaluation": "folder",
    "growth": "folder",
    "memory": "folder",
    "stopwatch": "stopwatch",
    "bulk": "bulk",
    "distribution": "bulk",
    "conversion": "converting",
}


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tools.benchmarks", description="Measures the README's figures.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"some of {', '.join(_BENCHMARKS)} (default: all)")
    parser.add_argument("--rounds", type=int, default=12, help="number of measured pairs (default 12)")
    parser.add_argument("--json", metavar="FILE", help="write every measured value")
    arguments = parser.parse_args(argv)
    if unknown := [name for name in arguments.names if name not in _BENCHMARKS]:
        parser.error(f"there is no benchmark {unknown[0]}: choose from {', '.join(_BENCHMARKS)}")
    if arguments.rounds < 1:
        parser.error("--rounds must be at least 1")
    import_tensorflow()
    figures = []
    for name in arguments.names or _BENCHMARKS:
        print(f"{name} ...", file=sys.stderr, flush=True)
        measure = getattr(importlib.import_module(f"tools.benchmarks.{_BENCHMARKS[name]}"), name)
        figures.extend(measure(arguments.rounds))
        if arguments.json:
            save_figures(arguments.json, figures)
    print_figures(figures)
    return 0


if __name__ == "__main__":
    sys.exit(main())
