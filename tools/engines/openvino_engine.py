"""OpenVINO on the processor: reads TensorFlow's frozen graph itself; NNCF quantizes it to int8."""

import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np
import openvino

from tools.engines.tensors import TensorInfo

__all__ = ["load", "precisions", "version", "write"]

# OpenVINO's names of the precisions in which what is not int8 is computed. Its default is bfloat16 where it can.
_HINTS = {"float32": "f32", "bfloat16": "bf16", "int8": "f32"}


def version() -> str:
    """Returns the version of OpenVINO, without the build."""
    return openvino.__version__.partition("-")[0]


def precisions() -> set[str]:
    """Returns the precisions in which OpenVINO computes on this processor."""
    able = set(openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"))
    return {"float32"} | ({"bfloat16"} if "BF16" in able else set()) | ({"int8"} if "INT8" in able else set())


def write(
    graph: Path,
    images: TensorInfo,
    outputs: Sequence[TensorInfo],
    target: Path,
    *,
    dtype: str = "float32",
    calibration: Iterable[np.ndarray] = (),
    unquantized: str | None = None,
) -> None:
    """Converts a frozen graph to an .xml file, and the weights to a .bin file beside it; 'float16' halves those."""
    sizes = [-1 if size is None else size for size in images.shape]
    tensors = [output.tensor for output in outputs]
    model = openvino.convert_model(os.fspath(graph), input=[(images.tensor, sizes)], output=tensors)
    model.input(images.tensor).get_tensor().set_names({images.name})
    for output in outputs:
        model.output(output.tensor).get_tensor().set_names({output.name})
    if dtype == "int8":
        model = _quantized(model, list(calibration), unquantized)
    openvino.save_model(model, os.fspath(target), compress_to_fp16=dtype == "float16")


def _quantized(model: openvino.Model, batches: Sequence[np.ndarray], unquantized: str | None) -> openvino.Model:
    import nncf

    ignored = {} if unquantized is None else {"patterns": [f"^{unquantized}.*"]}
    return nncf.quantize(
        model,
        nncf.Dataset(batches),
        subset_size=len(batches),
        preset=nncf.QuantizationPreset.MIXED,
        ignored_scope=nncf.IgnoredScope(validate=False, **ignored),
    )


def load(
    target: Path,
    images: TensorInfo,
    outputs: Sequence[TensorInfo],
    *,
    precision: str = "float32",
    threads: int | None = None,
    batch: int | None = None,
) -> Callable[[np.ndarray], dict[str, np.ndarray]]:
    """Compiles a model for the processor.

    With int8, OpenVINO 2026.4 computes batches of one image wrongly in a model that takes any number: give ``batch``.
    """
    core = openvino.Core()
    model = core.read_model(os.fspath(target))
    if batch is not None:
        model.reshape({images.name: [batch, *(-1 if size is None else size for size in images.shape[1:])]})
    config = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": _HINTS[precision]}
    if threads is not None:
        config["INFERENCE_NUM_THREADS"] = threads
    request = core.compile_model(model, "CPU", config).create_infer_request()
    names = [output.name for output in outputs]

    def compute(values: np.ndarray) -> dict[str, np.ndarray]:
        values = np.ascontiguousarray(values)
        request.set_input_tensor(openvino.Tensor(values, shared_memory=True))
        request.infer()
        # The request keeps its memory for the next batch.
        return {name: np.array(request.get_tensor(name).data) for name in names}

    return compute
