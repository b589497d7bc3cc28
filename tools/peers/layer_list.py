"""Reads a frozen graph as a list of layers, from which the networks of other libraries are built.

| kind | attributes | weights |
|---|---|---|
| `input` | `shape` [N or None, height, width, channels] | |
| `conv`, `depthwise_conv` | `strides`, `padding`, `dilation` | `kernel` as TensorFlow has it, optional `bias` |
| `dense` | | `kernel` [inputs, outputs], optional `bias` |
| `batch_norm` | `epsilon` | optional `gamma`, optional `beta`, `mean`, `variance` |
| `max_pool` | `size`, `strides`, `padding` (with -inf; zeros do as well unless it is SAME's) | |
| `average_pool` (of the input without its padding) | `size`, `strides`, `padding` | |
| `pad`, with zeros | `padding`, `channels` (before, after) | |
| `leaky_relu` | `slope` | |
| `global_mean`, over height and width | `keep_dims` | |
| `relu`, `add`, `concat` of the channels, `flatten`, `sigmoid`, and `softmax` over the channels | | |

A batch norm without `gamma` multiplies by 1, and one without `beta` adds 0. `padding` is ((top, bottom), (left,
right)): TensorFlow's SAME means other numbers for every size. Everything else is refused.
"""

import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from tools.errors import PeerError

__all__ = ["Layer", "UntranslatedError", "dilated_size", "layers_of", "same_padding"]

v1 = tf.compat.v1

Padding = tuple[tuple[int, int], tuple[int, int]]

_NO_PADDING = ((0, 0), (0, 0))
_CONVOLUTIONS = ("conv", "depthwise_conv")

# The optional weights, and the values that change nothing.
_NEUTRAL = {"gamma": 1.0, "beta": 0.0}

_ADVICE = ", which is not translated for other engines: compare a network without it, or compare with tf_slim alone."


class UntranslatedError(PeerError):
    """Raised for a part of a graph that the module's table does not have.

    reason: the part of the message that names the op, a clause.
    """

    def __init__(self, reason: str, advice: str = _ADVICE) -> None:
        super().__init__(reason + advice)
        self.reason = reason


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
    weights: constants that it takes.
    inputs: tensors of other layers that it takes.
    """

    kind: str | None
    inputs: Sequence[tf.Tensor]
    attributes: Mapping[str, Any] = MappingProxyType({})
    weights: Mapping[str, tf.Tensor] = MappingProxyType({})


def layers_of(
    graph_def: v1.GraphDef, images_name: str, output_names: Iterable[str]
) -> tuple[list[Layer], dict[str, str]]:
    """Reads the layers of a graph.

    Args:
      graph_def: graph with weights as constants, and a placeholder of fixed height, width and channels.
      images_name, output_names: names of its tensors.

    Returns:
      layers: the layers in an order in which they can be computed. The last one computes one of the outputs.
      outputs: name of an output → name of the layer that computes it.

    Raises:
      UntranslatedError: for an op, or an attribute of an op, that is not in the module's table.
    """
    skeleton, constants = _without_weights(graph_def)
    with tf.Graph().as_default() as graph:
        tf.graph_util.import_graph_def(skeleton, name="")
        for op in graph.get_operations():
            if op.type == "Placeholder" and op.name not in constants:
                _read(op)  # an unknown size is its fault, not that of the layers after it
        outputs = {name: _source(graph.get_tensor_by_name(name)).op for name in output_names}
        read, waiting = {}, list(outputs.values())
        while waiting:
            op = waiting.pop()
            if op.name in constants:
                raise UntranslatedError(f"{op.name} is a Const")
            if op.name not in read:
                read[op.name] = _read(op)
                waiting += [_source(tensor).op for tensor in read[op.name].inputs]
        layers, alias = [], {}
        for op in graph.get_operations():
            if op.name not in read:
                continue
            layer = read[op.name]
            inputs = tuple(alias[_source(tensor).op.name] for tensor in layer.inputs)
            alias[op.name] = op.name if layer.kind else inputs[0]
            if layer.kind:
                values = _values(op, layer, constants)
                layers.append(Layer(layer.kind, op.name, inputs, dict(layer.attributes), values))
    if [layer.name for layer in layers if layer.kind == "input"] != [images_name.rpartition(":")[0]]:
        names = ", ".join(outputs)
        raise UntranslatedError(f"{names} must be computed from {images_name} alone", ": make the problem again.")
    return _folded(layers, {name: alias[op.name] for name, op in outputs.items()})


def _without_weights(graph_def: v1.GraphDef) -> tuple[v1.GraphDef, dict[str, Any]]:
    """Returns the graph with placeholders for its constants of float32, and these constants by name.

    TensorFlow would keep two further copies of the weights of an imported graph.
    """
    skeleton = v1.GraphDef(versions=graph_def.versions, library=graph_def.library)
    weights = {}
    for node in graph_def.node:
        if node.op == "Const" and node.attr["dtype"].type == tf.float32.as_datatype_enum:
            weights[node.name] = tensor = node.attr["value"].tensor
            placeholder = skeleton.node.add(name=node.name, op="Placeholder")
            placeholder.attr["dtype"].CopyFrom(node.attr["dtype"])
            placeholder.attr["shape"].shape.CopyFrom(tensor.tensor_shape)
        else:
            skeleton.node.add().CopyFrom(node)
    return skeleton, weights


def same_padding(size: int, kernel: int, stride: int) -> tuple[int, int]:
    """Returns the padding (before, after) of TensorFlow's SAME for an axis of that size. The odd one comes last."""
    total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
    return total // 2, total - total // 2


def dilated_size(size: int, dilation: int) -> int:
    """Returns the size of a kernel's axis with the gaps of the dilation."""
    return (size - 1) * dilation + 1


def _source(tensor: tf.Tensor) -> tf.Tensor:
    """Returns the tensor behind any identities."""
    while tensor.op.type == "Identity":
        tensor = tensor.op.inputs[0]
    if tensor.value_index:
        raise UntranslatedError(
            f"{tensor.name} is the {tensor.op.type}'s output {tensor.value_index}, not its first", ": take the first."
        )
    return tensor


def _refusal(op: tf.Operation, what: str) -> UntranslatedError:
    return UntranslatedError(f"{op.name} is a {op.type} with {what}")


def _values(op: tf.Operation, layer: _Read, constants: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Returns the values of a layer's weights, without those that no variable holds and that change nothing."""
    values = {}
    for key, tensor in layer.weights.items():
        name = _source(tensor).op.name
        if name not in constants:
            raise _refusal(op, f"a {key} that is not a constant")
        value = tf.make_ndarray(constants[name])
        # A variable's value comes through an identity.
        if name != tensor.op.name or key not in _NEUTRAL or np.any(value != _NEUTRAL[key]):
            values[key] = value
    return values


def _constant(op: tf.Operation, index: int) -> np.ndarray:
    """Returns the value of a constant input of whole numbers."""
    value = tf.get_static_value(_source(op.inputs[index]))
    if value is None:
        raise _refusal(op, f"an input {index} that is not a constant")
    return value


def _check(op: tf.Operation, **expected: Any) -> None:
    """Raises UntranslatedError if an attribute of the op has another value."""
    for name, value in expected.items():
        if (found := op.get_attr(name)) != value:
            raise _refusal(op, f"{name} {found}")


def _shape(tensor: tf.Tensor) -> list[int | None]:
    """Returns the shape of a tensor, of which only the number of images may be unknown."""
    shape = tensor.shape
    if shape.rank is None or not shape[1:].is_fully_defined():
        raise UntranslatedError(f"{tensor.name} has the shape {shape}", ", but must have a fixed one: fix the images'.")
    return shape.as_list()


def _window(op: tf.Operation, size: Iterable[int], dilation: Iterable[int] = (1, 1)) -> dict[str, Any]:
    """Returns the size, strides and padding of a convolution or a pooling."""
    _check(op, data_format=b"NHWC")
    batch, *strides, channels = op.get_attr("strides")
    if (batch, channels) != (1, 1):
        raise _refusal(op, f"strides {op.get_attr('strides')}")
    size, kind = tuple(size), op.get_attr("padding")
    if kind == b"VALID":
        padding = _NO_PADDING
    elif kind == b"SAME":
        sizes = itertools.starmap(dilated_size, zip(size, dilation, strict=True))
        axes = zip(_shape(op.inputs[0])[1:3], sizes, strides, strict=True)
        padding = tuple(itertools.starmap(same_padding, axes))
    else:
        raise _refusal(op, f"padding {kind.decode()}")
    return {"size": size, "strides": tuple(strides), "padding": padding}


def _read_conv(op: tf.Operation) -> _Read:
    dilation = tuple(op.get_attr("dilations")[1:3])
    height, width, channels, _ = _shape(op.inputs[1])
    if channels != _shape(op.inputs[0])[3]:
        raise _refusal(op, "groups")
    window = _window(op, (height, width), dilation)
    del window["size"]
    if dilation != (1, 1) != window["strides"]:
        raise _refusal(op, f"strides {op.get_attr('strides')} and dilations {op.get_attr('dilations')}")
    kind = "conv" if op.type == "Conv2D" else "depthwise_conv"
    return _Read(kind, op.inputs[:1], {**window, "dilation": dilation}, {"kernel": op.inputs[1]})


def _read_batch_to_space(op: tf.Operation) -> _Read:
    """Reads a dilated convolution: a convolution of every n-th pixel, for each of the first n pixels."""
    inner = _source(op.inputs[0]).op
    outer = _source(inner.inputs[0]).op if inner.type == "Conv2D" else None
    if outer is None or outer.type != "SpaceToBatchND":
        raise UntranslatedError(f"{op.name} is a {op.type}")
    conv, rate, paddings, crops = _read_conv(inner), _constant(op, 1), _constant(outer, 2), _constant(op, 2)
    plain = {"strides": (1, 1), "padding": _NO_PADDING, "dilation": (1, 1)}
    padding = paddings - crops
    if conv.attributes != plain or len(rate) != 2 or np.any(rate != _constant(outer, 1)) or np.any(padding < 0):
        raise _refusal(op, "another convolution than a dilated one")
    attributes = {**plain, "padding": tuple(map(tuple, padding.tolist())), "dilation": tuple(rate.tolist())}
    return _Read("conv", outer.inputs[:1], attributes, conv.weights)


def _read_pool(op: tf.Operation) -> _Read:
    batch, *size, channels = op.get_attr("ksize")
    if (batch, channels) != (1, 1):
        raise _refusal(op, f"ksize {op.get_attr('ksize')}")
    window, is_mean = _window(op, size), op.type == "AvgPool"
    # TensorFlow leaves the padding out of the mean, which other libraries can do if it is the same on both sides.
    if is_mean and any(before != after for before, after in window["padding"]):
        raise _refusal(op, "uneven padding")
    return _Read("average_pool" if is_mean else "max_pool", op.inputs, window)


def _read_concat(op: tf.Operation) -> _Read:
    axis, rank = int(_constant(op, len(op.inputs) - 1)), len(_shape(op.outputs[0]))
    if axis % rank != rank - 1:
        raise _refusal(op, f"axis {axis}")
    return _Read("concat", op.inputs[:-1])


def _read_pad(op: tf.Operation) -> _Read:
    paddings = _constant(op, 1).tolist()
    if len(paddings) != 4 or paddings[0] != [0, 0]:
        raise _refusal(op, f"paddings {paddings}")
    _, height, width, channels = (tuple(pair) for pair in paddings)
    return _Read("pad", op.inputs[:1], {"padding": (height, width), "channels": channels})


def _read_batch_norm(op: tf.Operation) -> _Read:
    _check(op, is_training=False, data_format=b"NHWC")
    weights = dict(zip(("gamma", "beta", "mean", "variance"), op.inputs[1:], strict=True))
    # The attribute is a float32; Python's number nearest to it has many more digits.
    epsilon = float(str(np.float32(op.get_attr("epsilon"))))
    return _Read("batch_norm", op.inputs[:1], {"epsilon": epsilon}, weights)


def _read_bias(op: tf.Operation) -> _Read:
    _check(op, data_format=b"NHWC")
    return _Read("bias", op.inputs[:1], weights={"bias": op.inputs[1]})


def _read_add(op: tf.Operation) -> _Read:
    one, other = (_shape(tensor) for tensor in op.inputs)
    if one != other:
        raise _refusal(op, f"shapes {one} and {other}")
    return _Read("add", op.inputs)


def _read_matmul(op: tf.Operation) -> _Read:
    _check(op, transpose_a=False, transpose_b=False)
    return _Read("dense", op.inputs[:1], weights={"kernel": op.inputs[1]})


def _read_mean(op: tf.Operation) -> _Read:
    axes, rank = np.ravel(_constant(op, 1)).tolist(), op.inputs[0].shape.rank
    if rank != 4 or sorted(axis % 4 for axis in axes) != [1, 2]:
        raise _refusal(op, f"axes {axes}")
    return _Read("global_mean", op.inputs[:1], {"keep_dims": op.get_attr("keep_dims")})


def _read_reshape(op: tf.Operation) -> _Read:
    before, after = _shape(op.inputs[0]), _shape(op.outputs[0])
    if before == after:
        return _Read(None, op.inputs[:1])
    inner = _source(op.inputs[0]).op
    outer = _source(inner.inputs[0]).op if inner.type == "Softmax" else op
    if outer.type == "Reshape" and _shape(outer.inputs[0]) == after and before[-1] == after[-1]:
        # The softmax of every pixel, for which slim puts the pixels of all images into one axis.
        return _Read("softmax", outer.inputs[:1])
    # If height and width are 1, the order in which a library keeps its axes does not matter.
    if len(before) != 4 or before[1:3] != [1, 1] or after != [before[0], before[3]]:
        raise _refusal(op, f"shapes {before} to {after}")
    return _Read("flatten", op.inputs[:1])


def _read_input(op: tf.Operation) -> _Read:
    return _Read("input", (), {"shape": tuple(_shape(op.outputs[0]))})


_READERS: dict[str, Callable[[tf.Operation], _Read]] = {
    "AddV2": _read_add,
    "AvgPool": _read_pool,
    "BatchToSpaceND": _read_batch_to_space,
    "BiasAdd": _read_bias,
    "ConcatV2": _read_concat,
    "Conv2D": _read_conv,
    "DepthwiseConv2dNative": _read_conv,
    "FusedBatchNormV3": _read_batch_norm,
    "LeakyRelu": lambda op: _Read("leaky_relu", op.inputs, {"slope": op.get_attr("alpha")}),
    "MatMul": _read_matmul,
    "MaxPool": _read_pool,
    "Mean": _read_mean,
    "Pad": _read_pad,
    "Placeholder": _read_input,
    "Relu": lambda op: _Read("relu", op.inputs),
    "Reshape": _read_reshape,
    "Sigmoid": lambda op: _Read("sigmoid", op.inputs),
    "Softmax": lambda op: _Read("softmax", op.inputs),
    "Squeeze": _read_reshape,
}


def _read(op: tf.Operation) -> _Read:
    if op.type not in _READERS:
        raise UntranslatedError(f"{op.name} is a {op.type}")
    if op.outputs[0].dtype != tf.float32:
        raise _refusal(op, f"values of {op.outputs[0].dtype.name}")
    return _READERS[op.type](op)


def _folded(layers: list[Layer], outputs: Mapping[str, str]) -> tuple[list[Layer], dict[str, str]]:
    """Returns ``layers_of``'s results, with biases and paddings moved into the layers that they belong to."""
    users: dict[str, list[Layer | None]] = {name: [None] for name in outputs.values()}
    for layer in layers:
        for name in layer.inputs:
            users.setdefault(name, []).append(layer)
    result, alias = {}, {}
    for layer in layers:
        layer = layer._replace(inputs=tuple(alias.get(name, name) for name in layer.inputs))
        before = result.get(layer.inputs[0]) if layer.inputs else None
        if layer.kind == "bias":
            if before.kind not in (*_CONVOLUTIONS, "dense") or "bias" in before.weights or len(users[before.name]) != 1:
                raise UntranslatedError(f"{layer.name} is a BiasAdd after a {before.kind}")
            alias[layer.name] = before.name
            users[before.name] = users.get(layer.name, [])
            layer = before._replace(weights=before.weights | layer.weights)
        elif before and before.kind == "pad" and len(users[before.name]) == 1 and _takes_padding(layer, before, result):
            del result[before.name]
            layer = layer._replace(
                inputs=before.inputs, attributes=layer.attributes | {"padding": before.attributes["padding"]}
            )
        result[layer.name] = layer
    return list(result.values()), {name: alias.get(layer, layer) for name, layer in outputs.items()}


def _takes_padding(layer: Layer, pad: Layer, layers: dict[str, Layer]) -> bool:
    """Returns whether the layer's own padding can replace the zeros before it."""
    if pad.attributes["channels"] != (0, 0) or layer.attributes.get("padding") != _NO_PADDING:
        return False
    if layer.kind == "max_pool":
        # Zeros and -inf give the same maximum if no value is negative and every window holds a value.
        pairs = zip(pad.attributes["padding"], layer.attributes["size"], strict=True)
        return layers[pad.inputs[0]].kind == "relu" and all(2 * max(pair) <= size for pair, size in pairs)
    return layer.kind in _CONVOLUTIONS
