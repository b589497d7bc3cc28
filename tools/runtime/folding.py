"""Folds the batch norms of a frozen graph: each is only a factor and an offset for each channel.

After a convolution, its kernel takes the factor; TensorFlow's optimizer does that only in float32. After any other
operation, such as the addition before a pre-activation unit, a depthwise 1x1 convolution replaces the batch norm.
oneDNN fuses it with the following ReLU, which takes less than half the time.
"""

from collections import Counter
from collections.abc import Iterable

import numpy as np
import tensorflow as tf

__all__ = ["fold_batch_norms"]

v1 = tf.compat.v1


def fold_batch_norms(graph_def: v1.GraphDef, outputs: Iterable[str], *, depthwise: bool = True) -> v1.GraphDef:
    """Folds the batch norms of a graph. Those in training mode, or with channels first, stay as they are.

    Args:
      graph_def: graph with float32 weights as constants.
      outputs: names of tensors, which keep their values up to rounding.
      depthwise: whether batch norms that do not follow a convolution become depthwise convolutions.

    Returns:
      The part of the graph on which the outputs depend.
    """
    outputs = list(outputs)
    folding = _Folding(graph_def, outputs)
    for node in graph_def.node:
        if folding.is_affine(node):
            folding.fold(node, depthwise)
    return folding.needed(outputs)


class _Folding:
    """The nodes of a graph by name, some of them replaced, and the number of uses of each tensor."""

    def __init__(self, graph_def: v1.GraphDef, outputs: list[str]):
        self._nodes = {node.name: node for node in graph_def.node}
        self._versions = graph_def.versions
        names = [*outputs, *(name for node in graph_def.node for name in node.input)]
        self._uses = Counter(name.removesuffix(":0") for name in names)

    def is_affine(self, node: v1.NodeDef) -> bool:
        """Returns whether a node is a batch norm with constant statistics."""
        return (
            node.op.startswith("FusedBatchNorm")
            and not node.attr["is_training"].b
            and node.attr["data_format"].s == b"NHWC"
            and node.attr["T"].type == tf.float32.as_datatype_enum
            and all(self._is_constant(name) for name in node.input[1:5])
            and not any(self._uses[f"{node.name}:{i}"] for i in range(1, 6))
        )

    def fold(self, norm: v1.NodeDef, depthwise: bool) -> None:
        """Replaces a batch norm by the addition of its offset, and moves its factor into the operation before it."""
        gamma, beta, mean, variance = (self._value(name).astype(np.float64) for name in norm.input[1:5])
        factor = gamma / np.sqrt(variance + norm.attr["epsilon"].f)
        offset = beta - mean * factor
        conv, bias = self._convolution_before(norm)
        if conv is not None:
            scaled = self._put(conv.name, "Conv2D", [conv.input[0], self._value(conv.input[1]) * factor])
            scaled.attr.MergeFrom(conv.attr)
            offset += bias * factor
        elif depthwise:
            scaled = self._put(
                f"{norm.name}/factor", "DepthwiseConv2dNative", [norm.input[0], factor[None, None, :, None]]
            )
            scaled.attr["strides"].list.i.extend([1, 1, 1, 1])
            scaled.attr["padding"].s = b"VALID"
        else:
            return
        self._put(norm.name, "BiasAdd", [scaled.name, offset])

    def needed(self, outputs: list[str]) -> v1.GraphDef:
        """Returns the part of the current graph on which the outputs depend."""
        needed, waiting = set(), [name.partition(":")[0] for name in outputs]
        while waiting:
            name = waiting.pop()
            if name not in needed:
                needed.add(name)
                waiting += (name.removeprefix("^").partition(":")[0] for name in self._nodes[name].input)
        return v1.GraphDef(versions=self._versions, node=[node for name, node in self._nodes.items() if name in needed])

    def _convolution_before(self, norm: v1.NodeDef) -> tuple[v1.NodeDef | None, np.ndarray | float]:
        """Returns the convolution whose output only the batch norm uses, and its bias; None and 0 otherwise."""
        node, bias = self._only_used_here(norm.input[0]), 0.0
        if node is not None and node.op == "BiasAdd" and self._is_constant(node.input[1]):
            node, bias = self._only_used_here(node.input[0]), self._value(node.input[1])
        if node is None or node.op != "Conv2D" or not self._is_constant(node.input[1]):
            return None, 0.0
        return node, bias

    def _only_used_here(self, name: str) -> v1.NodeDef | None:
        return self._nodes.get(name) if self._uses[name] == 1 else None

    def _is_constant(self, name: str) -> bool:
        return self._source(name).op == "Const"

    def _value(self, name: str) -> np.ndarray:
        return tf.make_ndarray(self._source(name).attr["value"].tensor)

    def _source(self, name: str) -> v1.NodeDef:
        """Returns the node of a tensor behind any identities."""
        node = self._nodes[name.partition(":")[0]]
        return self._source(node.input[0]) if node.op == "Identity" else node

    def _put(self, name: str, op: str, inputs: list[str | np.ndarray]) -> v1.NodeDef:
        """Adds a float32 node, or replaces the one of the same name. Arrays become constants."""
        node = v1.NodeDef(name=name, op=op)
        node.attr["T"].type = tf.float32.as_datatype_enum
        for i, value in enumerate(inputs):
            if isinstance(value, np.ndarray):
                constant = v1.NodeDef(name=f"{name}/folded_{i}", op="Const")
                constant.attr["dtype"].type = tf.float32.as_datatype_enum
                constant.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(value, tf.float32))
                self._nodes[constant.name] = constant
                value = constant.name
            node.input.append(value)
        self._nodes[name] = node
        return node
