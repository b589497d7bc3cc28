"""Runs the benchmarks: ``python -m tools.benchmarks [NAME ...] [--rounds N] [--json FILE]``.

Each figure compares two measurements that take turns in one run. It shows the median of the ratios, pair by pair, and
their spread. Run it on a quiet machine.
"""

import argparse
import importlib
import os
import sys
from collections.abc import Sequence

from tools.benchmarks.figures import print_figures, save_figures
from tools.runtime.importing import import_tensorflow

__all__ = ["main"]

# Name of a benchmark, and of its function → the module of this package that holds it.
_BENCHMARKS = {
    # First, because others leave this process with memory of the GPU.
    "gpu_headline": "gpu.measuring",
    "gpu_forward": "gpu.measuring",
    "gpu_train": "gpu.measuring",
    "gpu_files": "gpu.measuring",
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
    "export": "converting",
}

# The name for all that require a GPU.
_GPU = "gpu"
_ON_GPU = [name for name in _BENCHMARKS if name.startswith(_GPU)]


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tools.benchmarks", description="Measures the README's figures.")
    names = [*_BENCHMARKS, _GPU]
    parser.add_argument(
        "names",
        nargs="*",
        metavar="NAME",
        help=f"some of {', '.join(names)} (default: all; those of gpu only if TensorFlow finds one)",
    )
    parser.add_argument("--rounds", type=int, default=12, help="number of measured pairs (default 12)")
    parser.add_argument("--json", metavar="FILE", help="write every measured value")
    arguments = parser.parse_args(argv)
    if unknown := [name for name in arguments.names if name not in names]:
        parser.error(f"there is no benchmark {unknown[0]}: choose from {', '.join(names)}")
    if arguments.rounds < 1:
        parser.error("--rounds must be at least 1")
    # Several processes share a GPU. Otherwise TensorFlow would take all of its memory for the first one.
    os.environ.setdefault("TF_FORCE_GPU_ALLOW_GROWTH", "true")
    import_tensorflow()
    from tools.runtime.sessions import has_gpu

    if not has_gpu() and (refused := [name for name in arguments.names if name in (*_ON_GPU, _GPU)]):
        parser.error(
            f"{refused[0]} requires a GPU, and TensorFlow finds none: choose others, or install 'slimnets[gpu]' on a "
            "machine with a GPU"
        )
    if not has_gpu() and not arguments.names:
        print("gpu is left out: it requires a GPU, and TensorFlow finds none", file=sys.stderr)
    figures = []
    for name in _chosen(arguments.names, with_gpu=has_gpu()):
        print(f"{name} ...", file=sys.stderr, flush=True)
        measure = getattr(importlib.import_module(f"tools.benchmarks.{_BENCHMARKS[name]}"), name)
        figures.extend(measure(arguments.rounds))
        if arguments.json:
            save_figures(arguments.json, figures)
    print_figures(figures)
    return 0


def _chosen(names: Sequence[str], *, with_gpu: bool) -> list[str]:
    """Returns the benchmarks of these names, each once; without names, all that this machine can run."""
    if not names:
        return [name for name in _BENCHMARKS if with_gpu or name not in _ON_GPU]
    return list(dict.fromkeys(one for name in names for one in (_ON_GPU if name == _GPU else [name])))


if __name__ == "__main__":
    sys.exit(main())
