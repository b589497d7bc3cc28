"""Reads a frozen graph as a list of layers, from which the networks of other libraries are built.

| kind | attributes | weights |
|---|---|---|
| `input` | `shape` [N, height, width, channels] | |
| `conv` | `strides`, `padding` | `kernel` [height, width, inputs, outputs], optional `bias` |
| `dense` | | `kernel` [inputs, outputs], optional `bias` |
| `batch_norm` | `epsilon` | `gamma`, `beta`, `mean`, `variance` |
| `max_pool` | `size`, `strides`, `padding` (with -inf) | |
| `average_pool` | `size`, `strides` | |
| `pad`, with zeros | `padding`, `channels` (before, after) | |
| `leaky_relu` | `slope` | |
| `global_mean`, over height and width | `keep_dims` | |
| `relu`, `add`, `flatten`, `softmax` and `sigmoid` | | |

`padding` is ((top, bottom), (left, right)): TensorFlow's SAME means other numbers for every size. Everything else is
refused.
"""

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from tools.errors import PeerError

__all__ = ["Layer", "layers_of", "same_padding"]

v1 = tf.compat.v1

Padding = tuple[tuple[int, int], tuple[int, int]]

_NO_PADDING = ((0, 0), (0, 0))


class Layer(NamedTuple):
    """One layer.

    kind: kind in the module's table, which lists the attributes and weights.
    name: name of the graph's op.
    inputs: names of the layers whose outputs it takes.
    """

    kind: str
    name: str
    inputs: tuple[str, ...]
    attributes: dict[str, Any]
    weights: dict[str, np.ndarray]


class _Read(NamedTuple):
    """An op as a layer.

    kind: None if the op only passes on its input.
    inputs: number of the inputs that are other layers' outputs.
    """

    kind: str | None
    attributes: dict[str, Any]
    weights: dict[str, np.ndarray]
    inputs: int = 1


def layers_of(graph_def: v1.GraphDef, images_name: str, output_name: str) -> list[Layer]:
    """Returns the layers of a graph, in an order in which they can be computed. The last one is the output.

    Args:
      graph_def: graph with weights as constants, and a placeholder of a fixed shape.
      images_name, output_name: names of its tensors.

    Raises:
      PeerError: for an op, or an attribute of an op, that is not in the module's table.
    """
    with tf.Graph().as_default() as graph:
        tf.graph_util.import_graph_def(graph_def, name="")
        output = graph.get_tensor_by_name(output_name)
        read, waiting = {}, [_source(output).op]
        while waiting:
            op = waiting.pop()
            if op.name not in read:
                read[op.name] = _read(op)
                waiting += [_source(tensor).op for tensor in op.inputs[: read[op.name].inputs]]
        layers, alias = [], {}
        for op in graph.get_operations():
            if op.name not in read:
                continue
            layer = read[op.name]
            inputs = tuple(alias[_source(tensor).op.name] for tensor in op.inputs[: layer.inputs])
            alias[op.name] = op.name if layer.kind else inputs[0]
            if layer.kind:
                layers.append(Layer(layer.kind, op.name, inputs, layer.attributes, layer.weights))
    if [layer.name for layer in layers if layer.kind == "input"] != [images_name.rpartition(":")[0]]:
        raise PeerError(f"{output_name} must be computed from {images_name} alone: make the problem again.")
    return _folded(layers)


def same_padding(size: int, kernel: int, stride: int) -> tuple[int, int]:
    """Returns the padding (before, after) of TensorFlow's SAME for an axis of that size. The odd one comes last."""
    total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
    return total // 2, total - total // 2


def _source(tensor: tf.Tensor) -> tf.Tensor:
    """Returns the tensor behind any identities."""
    while tensor.op.type == "Identity":
        tensor = tensor.op.inputs[0]
    if tensor.value_index:
        raise PeerError(f"{tensor.name} is the {tensor.op.type}'s output {tensor.value_index}, not its first.")
    return tensor


def _refusal(op: tf.Operation, what: str) -> PeerError:
    return _unknown(op, f" with {what}")


def _unknown(op: tf.Operation, detail: str) -> PeerError:
    return PeerError(
        f"{op.name} is a {op.type}{detail}, which is not translated for other engines: "
        "compare a network without it, or compare with tf_slim alone."
    )


def _constant(op: tf.Operation, index: int) -> np.ndarray:
    """Returns the value of a constant input."""
    value = tf.get_static_value(_source(op.inputs[index]))
    if value is None:
        raise _refusal(op, f"an input {index} that is not a constant")
    return value


def _check(op: tf.Operation, **expected: Any) -> None:
    """Raises PeerError if an attribute of the op has another value."""
    for name, value in expected.items():
        if (found := op.get_attr(name)) != value:
            raise _refusal(op, f"{name} {found}")


def _fixed_shape(tensor: tf.Tensor) -> list[int]:
    if not tensor.shape.is_fully_defined():
        raise PeerError(
            f"{tensor.name} has the shape {tensor.shape}, but must have a fixed one: fix the images' shape."
        )
    return tensor.shape.as_list()


def _window(op: tf.Operation, size: Iterable[int]) -> dict[str, Any]:
    """Returns the size, strides and padding of a convolution or a pooling."""
    _check(op, data_format=b"NHWC")
    batch, *strides, channels = op.get_attr("strides")
    if (batch, channels) != (1, 1):
        raise _refusal(op, f"strides {op.get_attr('strides')}")
    size, kind = tuple(size), op.get_attr("padding")
    if kind == b"VALID":
        padding = _NO_PADDING
    elif kind == b"SAME":
        axes = zip(_fixed_shape(op.inputs[0])[1:3], size, strides, strict=True)
        padding = tuple(same_padding(*axis) for axis in axes)
    else:
        raise _refusal(op, f"padding {kind.decode()}")
    return {"size": size, "strides": tuple(strides), "padding": padding}


def _read_conv(op: tf.Operation) -> _Read:
    _check(op, dilations=[1, 1, 1, 1])
    kernel = _constant(op, 1)
    if kernel.shape[2] != _fixed_shape(op.inputs[0])[3]:
        raise _refusal(op, "groups")
    window = _window(op, kernel.shape[:2])
    del window["size"]
    return _Read("conv", window, {"kernel": kernel})


def _read_pool(op: tf.Operation) -> _Read:
    batch, *size, channels = op.get_attr("ksize")
    if (batch, channels) != (1, 1):
        raise _refusal(op, f"ksize {op.get_attr('ksize')}")
    window = _window(op, size)
    if op.type == "MaxPool":
        return _Read("max_pool", window, {})
    # TensorFlow leaves the padding out of the mean, which not every library can do.
    if window.pop("padding") != _NO_PADDING:
        raise _refusal(op, "padding")
    return _Read("average_pool", window, {})


def _read_pad(op: tf.Operation) -> _Read:
    paddings = _constant(op, 1).tolist()
    if len(paddings) != 4 or paddings[0] != [0, 0]:
        raise _refusal(op, f"paddings {paddings}")
    _, height, width, channels = (tuple(pair) for pair in paddings)
    return _Read("pad", {"padding": (height, width), "channels": channels}, {})


def _read_batch_norm(op: tf.Operation) -> _Read:
    _check(op, is_training=False, data_format=b"NHWC")
    names = ("gamma", "beta", "mean", "variance")
    weights = {name: _constant(op, i) for i, name in enumerate(names, start=1)}
    return _Read("batch_norm", {"epsilon": op.get_attr("epsilon")}, weights)


def _read_bias(op: tf.Operation) -> _Read:
    _check(op, data_format=b"NHWC")
    return _Read("bias", {}, {"bias": _constant(op, 1)})


def _read_add(op: tf.Operation) -> _Read:
    one, other = (_fixed_shape(tensor) for tensor in op.inputs)
    if one != other:
        raise _refusal(op, f"shapes {one} and {other}")
    return _Read("add", {}, {}, inputs=2)


def _read_matmul(op: tf.Operation) -> _Read:
    _check(op, transpose_a=False, transpose_b=False)
    return _Read("dense", {}, {"kernel": _constant(op, 1)})


def _read_mean(op: tf.Operation) -> _Read:
    axes, rank = np.ravel(_constant(op, 1)).tolist(), op.inputs[0].shape.rank
    if rank != 4 or sorted(axis % 4 for axis in axes) != [1, 2]:
        raise _refusal(op, f"axes {axes}")
    return _Read("global_mean", {"keep_dims": op.get_attr("keep_dims")}, {})


def _read_reshape(op: tf.Operation) -> _Read:
    before, after = _fixed_shape(op.inputs[0]), _fixed_shape(op.outputs[0])
    if before == after:
        return _Read(None, {}, {})
    # If height and width are 1, the order in which a library keeps its axes does not matter.
    if len(before) != 4 or before[1:3] != [1, 1] or after != [before[0], before[3]]:
        raise _refusal(op, f"shapes {before} to {after}")
    return _Read("flatten", {}, {})


def _plain(kind: str) -> Callable[[tf.Operation], _Read]:
    return lambda op: _Read(kind, {}, {})


_READERS: dict[str, Callable[[tf.Operation], _Read]] = {
    "AddV2": _read_add,
    "AvgPool": _read_pool,
    "BiasAdd": _read_bias,
    "Conv2D": _read_conv,
    "FusedBatchNormV3": _read_batch_norm,
    "LeakyRelu": lambda op: _Read("leaky_relu", {"slope": op.get_attr("alpha")}, {}),
    "MatMul": _read_matmul,
    "MaxPool": _read_pool,
    "Mean": _read_mean,
    "Pad": _read_pad,
    "Placeholder": lambda op: _Read("input", {"shape": tuple(_fixed_shape(op.outputs[0]))}, {}, inputs=0),
    "Relu": _plain("relu"),
    "Reshape": _read_reshape,
    "Sigmoid": _plain("sigmoid"),
    "Softmax": _plain("softmax"),
    "Squeeze": _read_reshape,
}


def _read(op: tf.Operation) -> _Read:
    if op.type not in _READERS:
        raise _unknown(op, " (from an output_stride)" if op.type in ("SpaceToBatchND", "BatchToSpaceND") else "")
    if op.outputs[0].dtype != tf.float32:
        raise _refusal(op, f"values of {op.outputs[0].dtype.name}")
    return _READERS[op.type](op)


def _folded(layers: list[Layer]) -> list[Layer]:
    """Returns the list with biases and paddings moved into the layers that they belong to, as in other libraries."""
    users: dict[str, list[Layer]] = {}
    for layer in layers:
        for name in layer.inputs:
            users.setdefault(name, []).append(layer)
    result, alias = {}, {}
    for layer in layers:
        layer = layer._replace(inputs=tuple(alias.get(name, name) for name in layer.inputs))
        before = result.get(layer.inputs[0]) if layer.inputs else None
        if layer.kind == "bias":
            if before.kind not in ("conv", "dense") or "bias" in before.weights or len(users[before.name]) != 1:
                raise PeerError(
                    f"{layer.name} is a BiasAdd after a {before.kind}, which is not translated: leave it out."
                )
            alias[layer.name] = before.name
            users[before.name] = users.get(layer.name, [])
            layer = before._replace(weights=before.weights | layer.weights)
        elif before and before.kind == "pad" and len(users[before.name]) == 1 and _takes_padding(layer, before, result):
            del result[before.name]
            layer = layer._replace(
                inputs=before.inputs, attributes=layer.attributes | {"padding": before.attributes["padding"]}
            )
        result[layer.name] = layer
    return list(result.values())


def _takes_padding(layer: Layer, pad: Layer, layers: dict[str, Layer]) -> bool:
    """Returns whether the layer's own padding can replace the zeros before it."""
    if pad.attributes["channels"] != (0, 0) or layer.attributes.get("padding") != _NO_PADDING:
        return False
    if layer.kind == "max_pool":
        # Zeros and -inf give the same maximum if no value is negative and every window holds a value.
        pairs = zip(pad.attributes["padding"], layer.attributes["size"], strict=True)
        return layers[pad.inputs[0]].kind == "relu" and all(2 * max(pair) <= size for pair, size in pairs)
    return layer.kind == "conv"
