"""Computes networks in float64, and compares float32 results with it.

The distance of two float32 results depends on the processor, which decides the order of the sums, and on the values,
which may cancel. So the results are not compared with each other, but both with float64, which rounds half a billion
times less. The distance of ours may be a small multiple of the reference's.
"""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.core.framework import attr_value_pb2, function_pb2, graph_pb2, node_def_pb2

from tools.runtime.sessions import session_config, without_deprecation_notices

v1 = tf.compat.v1

# Our distance from float64 may be this many times the reference's. Another order of sums, or folded weights, make up to
# twice; another function makes thousands.
FACTOR = 4

# Units in the last place of the largest value, always allowed: a reference may be closer to float64 than necessary.
ULPS = 8

# Largest distance of a reference from float64, as a share of the largest value. A wrong reference would allow anything.
NEAR = 1e-4

# Fewer values than this may be close to float64 by chance, so their scale must be given.
FEW = 8

_FLOAT, _DOUBLE = tf.float32.as_datatype_enum, tf.float64.as_datatype_enum


@dataclass(frozen=True)
class Reference:
    """Values of a reference, computed in float32 and in float64."""

    single: np.ndarray
    double: np.ndarray

    def __getitem__(self, index: Any) -> Reference:
        return Reference(self.single[index], self.double[index])

    @property
    def shape(self) -> tuple[int, ...]:
        return self.double.shape

    def reshape(self, shape: Sequence[int]) -> Reference:
        return Reference(self.single.reshape(shape), self.double.reshape(shape))

    def map(self, function: Callable[[np.ndarray], np.ndarray]) -> Reference:
        return Reference(function(self.single), function(self.double))


def assert_as_exact(
    result: np.ndarray, reference: Reference, *, scale: float | None = None, near: float = NEAR
) -> None:
    """Asserts that a float32 result is about as close to float64 as the reference's own float32.

    Args:
      result: our values.
      reference: the reference's values.
      scale: size of the terms of the values, if these are sums that may cancel; None for the largest value.
      near: largest distance of the reference from float64, as a share of the scale.
    """
    result = np.asarray(result)
    assert result.dtype == np.float32
    assert result.shape == reference.double.shape
    assert np.isfinite(reference.double).all()
    assert scale is not None or result.size >= FEW, "give the scale of so few values"
    scale = np.abs(reference.double).max() if scale is None else scale
    ours, theirs = (_rms(values - reference.double) for values in (result, reference.single))
    assert theirs <= near * scale, f"the reference itself is {theirs / scale:.3g} of the scale from float64"
    allowed = FACTOR * theirs + ULPS * float(np.finfo(np.float32).eps) * scale
    assert ours <= allowed, f"{ours:.3g} from float64, where the reference is {theirs:.3g} and {allowed:.3g} is allowed"


def _rms(values: np.ndarray) -> float:
    return float(np.sqrt(np.mean(np.square(values, dtype=np.float64))))


def references(
    session: v1.Session, tensors: Mapping[str, tf.Tensor], feeds: Mapping[tf.Tensor, np.ndarray]
) -> dict[str, Reference]:
    """Returns the values of a session's tensors in float32, and in float64 from the same variables."""
    variables = session.graph.get_collection(v1.GraphKeys.GLOBAL_VARIABLES)
    single = session.run(dict(tensors), dict(feeds))
    values = session.run({variable.op.name: variable for variable in variables})
    with session_in_float64(session.graph, values, list(tensors.values())) as exact:
        double = exact.run(
            {key: tensor.name for key, tensor in tensors.items()},
            {tensor.name: value for tensor, value in feeds.items()},
        )
    return {key: Reference(single[key], double[key]) for key in tensors}


@contextmanager
def session_in_float64(
    graph: tf.Graph, values: Mapping[str, np.ndarray], needed: Sequence[tf.Tensor | tf.Operation]
) -> Iterator[v1.Session]:
    """Yields a session of the graph in float64, with the same names of tensors and operations.

    Args:
      graph: graph in float32, which stays unchanged.
      values: values of the variables by their names.
      needed: tensors and operations that will be run.
    """
    variables = graph.get_collection(v1.GraphKeys.GLOBAL_VARIABLES)
    names = [variable.initializer.name for variable in variables]
    names += [one.op.name if isinstance(one, tf.Tensor) else one.name for one in needed]
    with without_deprecation_notices():
        graph_def = v1.graph_util.extract_sub_graph(graph.as_graph_def(), names)
    with tf.Graph().as_default() as double, v1.Session(config=session_config(optimize_graph=False)) as session:
        tf.graph_util.import_graph_def(_in_float64(graph_def), name="")
        initializers = {v.op.name: double.get_operation_by_name(v.initializer.name) for v in variables}
        session.run(list(initializers.values()), {op.inputs[1]: values[name] for name, op in initializers.items()})
        yield session


def _in_float64(graph_def: graph_pb2.GraphDef) -> graph_pb2.GraphDef:
    """Returns a graph in float64. Batch norms become functions, because they have no float64 kernel."""
    assert not graph_def.library.function, "only the nodes of a graph are made float64, not those of functions"
    found = graph_pb2.GraphDef()
    found.CopyFrom(graph_def)
    for node in found.node:
        if node.op in _BATCH_NORMS:
            _call(found, node)
            continue
        for attr in node.attr.values():
            _widen(attr)
    return found


def _widen(attr: attr_value_pb2.AttrValue) -> None:
    if attr.type == _FLOAT:
        attr.type = _DOUBLE
    if attr.HasField("list"):
        attr.list.type[:] = [_DOUBLE if one == _FLOAT else one for one in attr.list.type]
    if attr.HasField("tensor") and attr.tensor.dtype == _FLOAT:
        attr.tensor.CopyFrom(tf.make_tensor_proto(tf.make_ndarray(attr.tensor).astype(np.float64)))


def _batch_norm(
    x: tf.Tensor, scale: tf.Tensor, offset: tf.Tensor, *statistics: tf.Tensor, epsilon: float, training: bool
) -> tuple[tf.Tensor, ...]:
    """Returns the outputs of FusedBatchNormV3, the statistics for the moving averages, and the gradient's inputs."""
    mean, variance = tf.nn.moments(x, [0, 1, 2]) if training else statistics
    y = (x - mean) / tf.sqrt(variance + epsilon) * scale + offset
    count = tf.cast(tf.size(x) / tf.size(mean), tf.float64)
    unbiased = variance * count / (count - 1) if training else variance
    return y, mean, unbiased, mean, variance, variance


def _batch_norm_gradient(
    dy: tf.Tensor, x: tf.Tensor, scale: tf.Tensor, *statistics: tf.Tensor, epsilon: float, training: bool
) -> tuple[tf.Tensor, ...]:
    """Returns the outputs of FusedBatchNormGradV3: gradients of the inputs, the scale and the offset."""
    mean, variance, _ = statistics
    normalized = (x - mean) / tf.sqrt(variance + epsilon)
    dx = dy
    if training:
        axes = [0, 1, 2]
        dx = dy - tf.reduce_mean(dy, axes) - normalized * tf.reduce_mean(dy * normalized, axes)
    dscale, doffset = tf.reduce_sum(dy * normalized, [0, 1, 2]), tf.reduce_sum(dy, [0, 1, 2])
    unused = tf.zeros([0], tf.float64)
    return dx * scale / tf.sqrt(variance + epsilon), dscale, doffset, unused, unused


# Op → function, and ranks of its inputs.
_BATCH_NORMS = {
    "FusedBatchNormV3": (_batch_norm, (4, 1, 1, 1, 1)),
    "FusedBatchNormGradV3": (_batch_norm_gradient, (4, 4, 1, 1, 1, 1)),
}


def _call(graph_def: graph_pb2.GraphDef, node: node_def_pb2.NodeDef) -> None:
    """Turns a batch norm into the call of a function in float64, and adds the function to the graph's library."""
    assert node.attr["data_format"].s == b"NHWC"
    # The attribute is a float32, like the number that the kernels add.
    function = _function(node.op, float(np.float32(node.attr["epsilon"].f)), node.attr["is_training"].b)
    if function.signature.name not in {one.signature.name for one in graph_def.library.function}:
        graph_def.library.function.add().CopyFrom(function)
    node.op = function.signature.name
    node.attr.clear()


@functools.cache
def _function(op: str, epsilon: float, training: bool) -> function_pb2.FunctionDef:
    function, ranks = _BATCH_NORMS[op]
    with tf.Graph().as_default():
        traced = tf.function(functools.partial(function, epsilon=epsilon, training=training))
        arguments = [tf.TensorSpec([None] * rank, tf.float64) for rank in ranks]
        return traced.get_concrete_function(*arguments).function_def


def of_keras(model: Any, images: np.ndarray, *, training: bool = False) -> tuple[Reference, Any]:
    """Returns the outputs of a Keras model, and its copy in float64. In training both update their statistics."""
    import keras

    def widened(layer: Any) -> Any:
        return type(layer).from_config({**layer.get_config(), "dtype": "float64"})

    exact = keras.models.clone_model(model, clone_function=widened)
    exact.set_weights(model.get_weights())
    # New models of the same layers, because models with inputs in a list or a dict warn if they get an array.
    single, double = (
        keras.Model(one.inputs[0], one.outputs[0])(images.astype(dtype), training=training).numpy()
        for one, dtype in ((model, np.float32), (exact, np.float64))
    )
    return Reference(single, double), exact


def of_torch(module: Any, *inputs: Any, function: Callable | None = None) -> Reference:
    """Returns the outputs of a module in inference, or of a function of the module."""
    import torch

    function = function or (lambda module, *inputs: module(*inputs))
    with torch.inference_mode():
        single = function(module, *inputs)
        double = function(copy.deepcopy(module).double(), *(tensor.double() for tensor in inputs))
    return Reference(single.numpy(), double.numpy())
