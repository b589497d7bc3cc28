"""The files of other engines: ``.onnx``, with int8 as QDQ, and OpenVINO's ``.xml`` with the weights in a ``.bin``."""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from tools.engines import engine_module
from tools.export.description import PREPROCESSING, Description
from tools.export.staging import CALIBRATION, GRAPH, read_batches

__all__ = ["load", "write"]

# Name of a format → name of the engine that reads it.
_ENGINES = {"onnx": "onnxruntime", "openvino": "openvino"}


def write(folder: Path, description: Description, target: Path) -> None:
    """Converts the frozen graph."""
    engine_module(_ENGINES[description.format]).write(
        folder / GRAPH,
        description.images,
        description.outputs,
        target,
        dtype=description.dtype,
        calibration=read_batches(folder / CALIBRATION) if description.dtype == "int8" else (),
        unquantized=PREPROCESSING,
    )


def load(target: Path, description: Description) -> Callable[[np.ndarray], dict[str, np.ndarray]]:
    """Loads the model into its engine, on the processor."""
    return engine_module(_ENGINES[description.format]).load(target, description.images, description.outputs)
