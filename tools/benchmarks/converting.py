"""Measures conversions and exports, with their proofs: seconds, and memory beyond the imports.

A ResNet-152 goes from Keras to slim and back, and a ResNet-50 v2 to every format of ``slimnets export``.
"""

import tempfile
from collections.abc import Sequence
from pathlib import Path

from tools.benchmarks.command import Cost, run_slimnets, run_slimnets_in_parts
from tools.benchmarks.figures import Figure
from tools.benchmarks.replicas import save_resnet_50
from tools.export import FORMATS
from tools.runtime.importing import import_tensorflow

import_tensorflow()

import keras  # noqa: E402

__all__ = ["conversion", "export"]

# Each conversion or export takes a quarter of a minute.
_ROUNDS = 3


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
            megabytes = weights.stat().st_size / 1e6
            for what, source, target in (("from", weights, checkpoint), ("to", checkpoint, model)):
                costs = [
                    run_slimnets("convert", source, target, "--overwrite", imports="keras h5py")
                    for _ in range(min(rounds, _ROUNDS))
                ]
                figures += _figures(f"conversion: resnet_v{version}_152 {what} Keras", costs, 30, 3, megabytes)
    return figures


def export(rounds: int) -> list[Figure]:
    """Exports the network at its own size, with its default outputs, to each format."""
    figures = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        checkpoint = save_resnet_50(folder)
        megabytes = sum(file.stat().st_size for file in folder.iterdir()) / 1e6
        for made in FORMATS.values():
            target = folder / made.name / f"network{made.ending}"
            target.parent.mkdir()
            options = (checkpoint, target, "--format", made.name, "--overwrite")
            costs = [
                run_slimnets_in_parts("export", *options, imports=" ".join(made.packages))
                for _ in range(min(rounds, _ROUNDS))
            ]
            figures += _figures(f"export: resnet_v2_50 to {made.name}", costs, 60, 6, megabytes)
    return figures


def _figures(label: str, costs: Sequence[Cost], seconds: int, files: int, megabytes: float) -> list[Figure]:
    """Returns the seconds against a number of them, and the memory beyond the imports against some files."""
    memory = [cost.peak - cost.imports for cost in costs]
    return [
        Figure(f"{label} / {seconds} s", "s", [cost.seconds for cost in costs], [seconds] * len(costs), "at most 1"),
        Figure(f"{label} / {files} files", "MB", memory, [files * megabytes] * len(costs), "at most 1"),
    ]
