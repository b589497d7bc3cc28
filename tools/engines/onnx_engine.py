"""ONNX Runtime on the processor: tf2onnx converts TensorFlow's frozen graph; int8 as QDQ.

QDQ are pairs of operations that quantize and dequantize, around the operations that compute with whole numbers.
"""

import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import onnxruntime

from tools.engines.tensors import TensorInfo

__all__ = ["load", "precisions", "version", "write"]

# The version of ONNX' operations: old enough for the runtimes of several years.
_OPSET = 17

# The operations that take most of the time, and those between them.
_QUANTIZED = ["Conv", "MatMul", "Gemm", "Add", "MaxPool"]


def version() -> str:
    """Returns the version of ONNX Runtime."""
    return onnxruntime.__version__


def precisions() -> set[str]:
    """Returns the precisions in which ONNX Runtime computes on every processor."""
    return {"float32", "int8"}


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
    """Converts a frozen graph to an .onnx file. Requires tf2onnx, which imports TensorFlow."""
    import onnx

    if dtype == "int8":
        with tempfile.TemporaryDirectory() as folder:
            converted = Path(folder) / "float32.onnx"
            _convert(graph, images, outputs, converted)
            _quantize(converted, images, target, calibration, unquantized)
    else:
        _convert(graph, images, outputs, target)
    onnx.checker.check_model(os.fspath(target))


def _convert(graph: Path, images: TensorInfo, outputs: Sequence[TensorInfo], target: Path) -> None:
    from tools.runtime.importing import import_tensorflow
    from tools.runtime.machine import release_memory

    import_tensorflow()
    import onnx
    import tensorflow as tf
    from tf2onnx import optimizer, tfonnx

    names = {info.tensor: info.name for info in (images, *outputs)}
    first, *others = names
    with tf.Graph().as_default() as imported:
        tf.graph_util.import_graph_def(tf.compat.v1.GraphDef.FromString(graph.read_bytes()), name="")
        converted = tfonnx.process_tf_graph(imported, opset=_OPSET, input_names=[first], output_names=others)
    del imported
    release_memory()
    # Each step of the optimizer would write the weights into the nodes' messages anew, which keep the memory of all
    # that they ever held. ``make_model`` writes them once more. ``tf2onnx.convert`` catches errors here, and for that
    # copies the graph with its weights before every step.
    converted.update_proto = lambda: None
    converted = optimizer.optimize_graph(converted, catch_errors=False)
    del converted.update_proto
    model = converted.make_model("network")
    del converted
    release_memory()
    for node in model.graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]
        node.output[:] = [names.get(name, name) for name in node.output]
    for value in (*model.graph.input, *model.graph.output, *model.graph.value_info):
        value.name = names.get(value.name, value.name)
    onnx.save(model, target)


class _Images:
    """The images to calibrate with, as ONNX Runtime's ``CalibrationDataReader`` gives them."""

    def __init__(self, batches: Iterable[np.ndarray], name: str) -> None:
        self._batches: Iterator[np.ndarray] = iter(batches)
        self._name = name

    def get_next(self) -> dict[str, np.ndarray] | None:
        batch = next(self._batches, None)
        return None if batch is None else {self._name: batch}


def _quantize(
    converted: Path, images: TensorInfo, target: Path, calibration: Iterable[np.ndarray], unquantized: str | None
) -> None:
    import onnx
    from onnxruntime import quantization
    from onnxruntime.quantization.shape_inference import quant_pre_process

    folded = converted.with_name("folded.onnx")
    quant_pre_process(os.fspath(converted), os.fspath(folded), skip_symbolic_shape=True)
    nodes = [node.name for node in onnx.load(folded, load_external_data=False).graph.node]
    quantization.quantize_static(
        os.fspath(folded),
        os.fspath(target),
        _Images(calibration, images.name),
        quant_format=quantization.QuantFormat.QDQ,
        op_types_to_quantize=_QUANTIZED,
        nodes_to_exclude=[name for name in nodes if unquantized is not None and name.startswith(unquantized)],
        per_channel=True,
        # Weights of 7 bits: products of 8 and 8 bits overflow on processors without VNNI.
        reduce_range=True,
        activation_type=quantization.QuantType.QUInt8,
        weight_type=quantization.QuantType.QInt8,
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
    """Opens a session of a model on the processor, which has no use for ``batch``."""
    options = onnxruntime.SessionOptions()
    if threads is not None:
        options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(os.fspath(target), options, providers=["CPUExecutionProvider"])
    names = [output.name for output in outputs]
    return lambda values: dict(zip(names, session.run(names, {images.name: values}), strict=True))
