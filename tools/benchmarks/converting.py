"""Measures a ResNet-152 from Keras to slim and back, with the proof: seconds and memory beyond the imports."""

import tempfile
from pathlib import Path

from tools.benchmarks.command import run_slimnets
from tools.benchmarks.figures import Figure
from tools.runtime.importing import import_tensorflow

import_tensorflow()

import keras  # noqa: E402

__all__ = ["conversion"]

_SECONDS = 30.0
# Memory, as a multiple of the file's size.
_MEMORY = 3

# Each conversion takes a quarter of a minute.
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
