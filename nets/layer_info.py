"""The layers of a network as Keras lists them: names, kinds, shapes and parameters, read from the graph.

A network can thus be compared with ``model.summary()`` of its Keras original, row by row.
"""

import math
import re
from collections import Counter
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from nets.arguments import shown

__all__ = ["Layer", "describe_layers"]

v1 = tf.compat.v1

_KINDS = {
    "Add": "Add",
    "AddV2": "Add",
    "AvgPool": "AveragePooling2D",
    "ConcatV2": "Concatenate",
    "Elu": "Activation",
    "LeakyRelu": "Activation",
    "MaxPool": "MaxPooling2D",
    "Mean": "GlobalAveragePooling2D",
    "Pad": "ZeroPadding2D",
    "Relu": "Activation",
    "Relu6": "Activation",
    "Sigmoid": "Activation",
    "Softmax": "Softmax",
    "Squeeze": "Flatten",
    "Tanh": "Activation",
}
# Layers whose op differs from others of its type only by its name.
_KINDS_BY_NAME = {"dropout": "Dropout", "flatten": "Flatten"}


class Layer(NamedTuple):
    """One layer.

    name: automatic name in Keras, such as 'conv2d_3': layers of a kind are counted in the order of their creation.
    kind: class in Keras.
    scope: scope of its variables; for a layer without variables, the name of its op.
    shape: shape of its output, without the batch; None for an unknown size.
    parameters: number of elements of its variables, moving statistics included.
    """

    name: str
    kind: str
    scope: str
    shape: tuple[int | None, ...]
    parameters: int


class _Node:
    """A layer during the walk through the graph."""

    def __init__(self, kind: str, scope: str) -> None:
        self.kind, self.scope = kind, scope
        self.output: tf.Tensor | None = None
        self.variables: set[str] = set()
        self.sources: set[_Node] = set()


def describe_layers(inputs: tf.Tensor, outputs: tf.Tensor) -> list[Layer]:
    """Describes the layers between two tensors of a network built for inference.

    They are sorted by the longest path to the outputs, the farthest first, then by their creation. For the networks of
    ``resnet_keras`` this is the order of Keras' summary.

    Args:
      inputs: input of the network.
      outputs: last tensor of the network, usually ``end_points["predictions"]``.

    Returns:
      A list of layers, the input first.

    Raises:
      ValueError: if the outputs do not depend on the inputs, or one of them is not a tensor of a graph.
    """
    for name, tensor in (("inputs", inputs), ("outputs", outputs)):
        if not tf.is_symbolic_tensor(tensor):
            raise ValueError(f"{name} must be a tensor of the network's graph, and is {shown(tensor)}.")
    nodes = _nodes(inputs, outputs)
    counts: Counter[str] = Counter()
    names = {}
    for node in nodes:
        number = counts[node.kind]
        counts[node.kind] += 1
        names[node] = _snake_case(node.kind) + (f"_{number}" if number else "")
    distances = _distances(nodes)
    sizes = {variable.op.name: math.prod(variable.shape.as_list()) for variable in v1.global_variables()}
    return [
        Layer(
            names[node],
            node.kind,
            node.scope,
            tuple(node.output.shape.as_list()[1:]),
            sum(sizes[name] for name in node.variables),
        )
        for node in sorted(distances, key=lambda node: -distances[node])
    ]


def _nodes(inputs: tf.Tensor, outputs: tf.Tensor) -> list[_Node]:
    """Returns the layers in the order of their creation, each with the layers that its inputs come from."""
    first = _Node("InputLayer", inputs.op.name)
    first.output = inputs
    layers = {"": first}
    made_by: dict[str, set[_Node]] = {inputs.name: {first}}  # tensors that depend on the inputs
    variables: dict[str, set[str]] = {}  # tensors that depend on variables, and not on the inputs
    wanted = _ancestors(outputs)
    if inputs.op.name not in wanted:
        raise ValueError(f"{outputs.name} does not depend on {inputs.name}.")
    for op in inputs.graph.get_operations():
        if op is inputs.op or op.name not in wanted:
            continue
        sources = [made_by[tensor.name] for tensor in op.inputs if tensor.name in made_by]
        read = set().union(*(variables.get(tensor.name, ()) for tensor in op.inputs))
        if not sources:
            if op.type in ("VarHandleOp", "VariableV2"):
                read = {op.name}
            variables.update((tensor.name, read) for tensor in op.outputs if read)
            continue
        makers = set().union(*sources)
        kind = _kind(op, len(sources), read)
        if kind is not None:
            scope = min(read).rpartition("/")[0] if read else op.name
            layer = layers.setdefault(scope, _Node(kind, scope))
            layer.output = op.outputs[0]
            layer.variables |= {name for name in read if name.rpartition("/")[0] == scope}
            layer.sources |= makers - {layer}
            makers = {layer}
        made_by.update((tensor.name, makers) for tensor in op.outputs)
    return list(layers.values())


def _ancestors(tensor: tf.Tensor) -> set[str]:
    """Returns the names of the ops that a tensor depends on."""
    found, waiting = {tensor.op.name}, [tensor.op]
    while waiting:
        for source in waiting.pop().inputs:
            if source.op.name not in found:
                found.add(source.op.name)
                waiting.append(source.op)
    return found


def _kind(op: tf.Operation, inputs: int, variables: set[str]) -> str | None:
    """Returns the kind of layer that an op belongs to; None for an op that only passes a tensor on."""
    if variables:
        if any(name.endswith("/moving_mean") for name in variables):
            return "BatchNormalization"
        return "Dense" if op.type == "MatMul" else "Conv2D"
    if op.type in ("Identity", "Reshape"):
        return _KINDS_BY_NAME.get(op.name.rpartition("/")[2])
    if op.type in ("Add", "AddV2") and inputs < 2:
        return None
    if op.type == "Pad" and np.any(tf.get_static_value(op.inputs[1])[3]):
        return "Lambda"  # channels of zeros, for which Keras has no layer
    return _KINDS.get(op.type)


def _distances(nodes: list[_Node]) -> dict[_Node, int]:
    """Returns the number of layers on the longest path to the last one, for each layer that it depends on."""
    distances = {nodes[-1]: 0}
    # Each layer comes after the layers that it depends on.
    for node in reversed(nodes):
        if node in distances:
            for source in node.sources:
                distances[source] = max(distances.get(source, 0), distances[node] + 1)
    return {node: distances[node] for node in nodes if node in distances}


def _snake_case(name: str) -> str:
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower()
