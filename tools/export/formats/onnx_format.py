"""An ONNX file, ``.onnx``, converted by tf2onnx; int8 as QDQ, pairs of operations around those with whole numbers."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import onnx
import onnxruntime

from tools.export.description import PREPROCESSING, Description
from tools.export.staging import CALIBRATION, GRAPH, read_batches

__all__ = ["load", "write"]

# The version of ONNX' operations: old enough for the runtimes of several years.
_OPSET = 17

# The operations that take most of the time, and those between them.
_QUANTIZED = ["Conv", "MatMul", "Gemm", "Add", "MaxPool"]


def write(folder: Path, description: Description, target: Path) -> None:
    """Converts the graph."""
    if description.dtype == "int8":
        converted = folder / "float32.onnx"
        _convert(folder, description, converted)
        _quantize(folder, description, converted, target)
    else:
        _convert(folder, description, target)
    onnx.checker.check_model(os.fspath(target))


def _convert(folder: Path, description: Description, target: Path) -> None:
    from tools.runtime.importing import import_tensorflow

    import_tensorflow()
    import tensorflow as tf
    from tf2onnx import optimizer, tfonnx

    names = {info.tensor: info.name for info in (description.images, *description.outputs)}
    first, *others = names
    with tf.Graph().as_default() as graph:
        tf.graph_util.import_graph_def(tf.compat.v1.GraphDef.FromString((folder / GRAPH).read_bytes()), name="")
        converted = tfonnx.process_tf_graph(graph, opset=_OPSET, input_names=[first], output_names=others)
    # ``tf2onnx.convert`` catches errors here, and for that copies the graph with its weights before every step.
    model = optimizer.optimize_graph(converted, catch_errors=False).make_model(description.network)
    for node in model.graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]
        node.output[:] = [names.get(name, name) for name in node.output]
    for value in (*model.graph.input, *model.graph.output, *model.graph.value_info):
        value.name = names.get(value.name, value.name)
    onnx.save(model, target)


class _Images:
    """The images to calibrate with, as ONNX Runtime's ``CalibrationDataReader`` gives them."""

    def __init__(self, folder: Path, name: str) -> None:
        self._batches: Iterator[np.ndarray] = read_batches(folder / CALIBRATION)
        self._name = name

    def get_next(self) -> dict[str, np.ndarray] | None:
        batch = next(self._batches, None)
        return None if batch is None else {self._name: batch}


def _quantize(folder: Path, description: Description, converted: Path, target: Path) -> None:
    from onnxruntime import quantization
    from onnxruntime.quantization.shape_inference import quant_pre_process

    folded = folder / "folded.onnx"
    quant_pre_process(os.fspath(converted), os.fspath(folded), skip_symbolic_shape=True)
    nodes = [node.name for node in onnx.load(folded, load_external_data=False).graph.node]
    quantization.quantize_static(
        os.fspath(folded),
        os.fspath(target),
        _Images(folder, description.images.name),
        quant_format=quantization.QuantFormat.QDQ,
        op_types_to_quantize=_QUANTIZED,
        nodes_to_exclude=[name for name in nodes if name.startswith(PREPROCESSING)],
        per_channel=True,
        # Weights of 7 bits: products of 8 and 8 bits overflow on processors without VNNI.
        reduce_range=True,
        activation_type=quantization.QuantType.QUInt8,
        weight_type=quantization.QuantType.QInt8,
    )


def load(target: Path, description: Description) -> Callable[[np.ndarray], dict[str, np.ndarray]]:
    """Opens a session of ONNX Runtime on the processor."""
    session = onnxruntime.InferenceSession(os.fspath(target), providers=["CPUExecutionProvider"])
    names = [output.name for output in description.outputs]
    return lambda images: dict(zip(names, session.run(names, {description.images.name: images}), strict=True))
