"""The layers of a network as Keras would list them: their names, kinds, shapes and parameters, read off the graph.

So a network here can be held against ``model.summary()`` of its Keras original, row by row.
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
# What only its name tells from other ops of its type.
_KINDS_BY_NAME = {"dropout": "Dropout", "flatten": "Flatten"}


class Layer(NamedTuple):
    """One layer.

    name: the one that Keras would give it by itself, such as 'conv2d_3': layers of a kind are counted as they are made.
    kind: its class in Keras.
    scope: of its variables; of a layer without, the name of its op.
    shape: of its output, without the batch; None for what is unknown.
    parameters: number of its variables' elements, moving statistics included.
    """

    name: str
    kind: str
    scope: str
    shape: tuple[int | None, ...]
    parameters: int


class _Node:
    """A layer while the graph is walked through."""

    def __init__(self, kind: str, scope: str) -> None:
        self.kind, self.scope = kind, scope
        self.output: tf.Tensor | None = None
        self.variables: set[str] = set()
        self.sources: set[_Node] = set()


def describe_layers(inputs: tf.Tensor, outputs: tf.Tensor) -> list[Layer]:
    """The layers between two tensors of a network built for inference.

    They come by the longest way to the outputs, the farthest first, and else as they were made: for the networks of
    ``resnet_keras`` that is the order of Keras' summary.

    Args:
      inputs: the network's input.
      outputs: its last tensor, as a rule ``end_points["predictions"]``.

    Returns:
      One Layer each, the input first.

    Raises:
      ValueError: if the outputs do not depend on the inputs, or are no tensors of a graph.
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
    """The layers in the order in which they were made, each with those that it takes its inputs from."""
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
    """The names of the ops that a tensor depends on."""
    found, waiting = {tensor.op.name}, [tensor.op]
    while waiting:
        for source in waiting.pop().inputs:
            if source.op.name not in found:
                found.add(source.op.name)
                waiting.append(source.op)
    return found


def _kind(op: tf.Operation, inputs: int, variables: set[str]) -> str | None:
    """The kind of layer that an op makes or is part of; None for one that only passes a tensor on."""
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
    """From each layer that the last one depends on to the number of layers on the longest way there."""
    distances = {nodes[-1]: 0}
    # A layer comes after those that it depends on.
    for node in reversed(nodes):
        if node in distances:
            for source in node.sources:
                distances[source] = max(distances.get(source, 0), distances[node] + 1)
    return {node: distances[node] for node in nodes if node in distances}


def _snake_case(name: str) -> str:
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower()
