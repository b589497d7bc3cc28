"""Measures conversions and exports, with their proofs: seconds, and memory beyond the imports.

A ResNet-152 goes from Keras to slim and back, and a ResNet-50 v2 to every format of ``slimnets export``.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

from tools.benchmarks.command import run_slimnets
from tools.benchmarks.figures import Figure
from tools.benchmarks.replicas import save_resnet_50
from tools.export import FORMATS
from tools.runtime.importing import import_tensorflow

import_tensorflow()

import keras  # noqa: E402

__all__ = ["conversion", "export"]

_SECONDS, _EXPORT_SECONDS = 30.0, 60.0
# Memory, as a multiple of the file's size.
_MEMORY, _EXPORT_MEMORY = 3, 6

# Each conversion or export takes a quarter of a minute.
_ROUNDS = 3


# Exports, and prints its seconds and the peak memory of the largest of its processes. Each of them ends before the next
# one starts, and the one that starts them imports no TensorFlow.
_MEASURED = """
import resource, sys, time
from tools import cli
start = time.perf_counter()
status = cli.main(["export", *sys.argv[1:]])
seconds = time.perf_counter() - start
assert "tensorflow" not in sys.modules
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss, seconds)
sys.exit(status)
"""

# Imports what the processes of an export import, and prints the memory that this takes.
_IMPORTS = """
import importlib, sys
from tools.runtime.importing import import_tensorflow
import_tensorflow()
for name in sys.argv[1:]:
    importlib.import_module(name)
from tools.runtime import machine
print(machine.process_peak() / 1024)
"""


def conversion(rounds: int) -> list[Figure]:
    """Converts Keras' weights to a checkpoint, and the checkpoint to a Keras model, for both versions."""
    figures = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for version, application in ((1, "ResNet152"), (2, "ResNet152V2")):
            weights = folder / f"{application}.weights.h5"
            getattr(keras.applications, application)(weights=None).save_weights(weights)
            keras.backend.clear_session()
            checkpoint, model = folder / f"{application}.ckpt", folder / f"{application}.keras"
            megabytes = _MEMORY * weights.stat().st_size / 1e6
            for what, source, target in (("from", weights, checkpoint), ("to", checkpoint, model)):
                costs = [
                    run_slimnets("convert", source, target, "--overwrite", imports="keras h5py")
                    for _ in range(min(rounds, _ROUNDS))
                ]
                label = f"conversion: resnet_v{version}_152 {what} Keras"
                seconds = [cost.seconds for cost in costs]
                memory = [cost.peak - cost.imports for cost in costs]
                figures += [
                    Figure(f"{label} / 30 s", "s", seconds, [_SECONDS] * len(costs), "at most 1"),
                    Figure(f"{label} / 3 files", "MB", memory, [megabytes] * len(costs), "at most 1"),
                ]
    return figures


def export(rounds: int) -> list[Figure]:
    """Exports the network at its own size, with its default outputs, to each format."""
    figures = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        checkpoint = save_resnet_50(folder)
        weights = sum(file.stat().st_size for file in folder.iterdir()) / 1e6
        for made in FORMATS.values():
            (imports,) = _printed(_IMPORTS, *made.packages)
            target = folder / "exported" / f"network{made.ending}"
            target.parent.mkdir(exist_ok=True)
            runs = [
                _printed(_MEASURED, checkpoint, target, "--format", made.name, "--overwrite")
                for _ in range(min(rounds, _ROUNDS))
            ]
            beyond = [(peak - imports) * 1024 / 1e6 for peak, _ in runs]
            seconds = [seconds for _, seconds in runs]
            label = f"export: resnet_v2_50 to {made.name}"
            figures += [
                Figure(f"{label} / 60 s", "s", seconds, [_EXPORT_SECONDS] * len(runs), "at most 1"),
                Figure(f"{label} / 6 files", "MB", beyond, [_EXPORT_MEMORY * weights] * len(runs), "at most 1"),
            ]
    return figures


def _printed(code: str, *arguments: object) -> list[float]:
    """Runs Python code in a process of its own, and returns the numbers in its last line."""
    command = [sys.executable, "-c", code, *map(str, arguments)]
    done = subprocess.run(command, check=True, text=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    return [float(word) for word in done.stdout.splitlines()[-1].split()]
