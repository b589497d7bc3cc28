"""OpenVINO's own format: ``.xml`` with the graph and ``.bin`` with the weights; int8 by NNCF."""

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import openvino

from tools.export.description import PREPROCESSING, Description
from tools.export.staging import CALIBRATION, GRAPH, read_batches

__all__ = ["load", "write"]


def write(folder: Path, description: Description, target: Path) -> None:
    """Converts the frozen graph, which OpenVINO reads without TensorFlow."""
    sizes = [-1 if size is None else size for size in description.images.shape]
    outputs = [output.tensor for output in description.outputs]
    model = openvino.convert_model(
        os.fspath(folder / GRAPH), input=[(description.images.tensor, sizes)], output=outputs
    )
    for info in (description.images, *description.outputs):
        model_port = model.input if info is description.images else model.output
        model_port(info.tensor).get_tensor().set_names({info.name})
    if description.dtype == "int8":
        model = _quantized(model, folder)
    openvino.save_model(model, os.fspath(target), compress_to_fp16=description.dtype == "float16")


def _quantized(model: openvino.Model, folder: Path) -> openvino.Model:
    import nncf

    batches = list(read_batches(folder / CALIBRATION))
    return nncf.quantize(
        model,
        nncf.Dataset(batches),
        subset_size=len(batches),
        preset=nncf.QuantizationPreset.MIXED,
        ignored_scope=nncf.IgnoredScope(patterns=[f"^{PREPROCESSING}.*"], validate=False),
    )


def load(target: Path, description: Description) -> Callable[[np.ndarray], dict[str, np.ndarray]]:
    """Compiles the model for the processor. OpenVINO's default is bfloat16 on processors that have it."""
    compiled = openvino.Core().compile_model(os.fspath(target), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})

    def run(images: np.ndarray) -> dict[str, np.ndarray]:
        computed = compiled({description.images.name: images})
        return {output.name: np.array(computed[output.name]) for output in description.outputs}

    return run
