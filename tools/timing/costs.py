"""Computes a graph's arithmetic and memory from its operations, and counts what the optimizer made of it."""

from collections import Counter
from collections.abc import Iterable, Sequence

import tensorflow as tf

__all__ = ["flops", "least_memory", "new_kinds"]

v1 = tf.compat.v1


def flops(operations: Iterable[tf.Operation]) -> int:
    """Counts the floating point operations of convolutions, matrix products and their gradients: two a multiply-add.

    Papers count these operations, though many count a multiply-add as one. Products with the padding count too.

    Args:
      operations: operations of a graph whose shapes are known.
    """
    operations = set(operations)
    total = 0
    for op in operations:
        if op.type == "Conv2D":
            total += op.outputs[0].shape.num_elements() * op.inputs[1].shape[:-1].num_elements()
        elif op.type == "Conv2DBackpropInput":
            # A training graph holds the unused gradient of the images, which is removed before it runs.
            if operations.intersection(op.outputs[0].consumers()):
                total += op.inputs[2].shape.num_elements() * op.inputs[1].shape[:-1].num_elements()
        elif op.type == "Conv2DBackpropFilter":
            total += op.inputs[2].shape.num_elements() * op.outputs[0].shape[:-1].num_elements()
        elif op.type == "MatMul":
            inner = op.inputs[0].shape[0 if op.get_attr("transpose_a") else 1]
            total += op.outputs[0].shape.num_elements() * inner
    return 2 * total


# Operations that overwrite their input, or become a part of the operation before them.
_IN_PLACE = {"BiasAdd", "Cast", "Identity", "IdentityN", "ReadVariableOp", "Relu", "ReluGrad", "Reshape", "Squeeze"}


def least_memory(operations: Sequence[tf.Operation]) -> int:
    """Returns the peak of the bytes of the tensors that exist at the same time, if the operations run in this order.

    This is a lower bound: it leaves out the weights, and the memory that kernels take themselves.

    Args:
      operations: operations in the order of the graph. Tensors of unknown shape do not count.
    """
    # Tensor → the tensor that holds its memory; None for memory that exists anyway, such as a variable's.
    held_in: dict[object, tf.Tensor | None] = {}
    last_use: dict[object, int] = {}
    for i, op in enumerate(operations):
        in_place = bool(op.inputs) and _in_place(op)
        for tensor in op.outputs:
            held_in[tensor.ref()] = held_in.get(op.inputs[0].ref()) if in_place else tensor
        for tensor in op.inputs:
            if (holder := held_in.get(tensor.ref())) is not None:
                last_use[holder.ref()] = i
    freed = Counter()
    for reference, i in last_use.items():
        freed[i] += _bytes(reference.deref())
    now = peak = 0
    for i, op in enumerate(operations):
        now += sum(_bytes(tensor) for tensor in op.outputs if tensor.ref() in last_use)
        peak = max(peak, now)
        now -= freed[i]
    return peak


def _in_place(op: tf.Operation) -> bool:
    return op.type in _IN_PLACE or (op.type == "FusedBatchNormV3" and not op.get_attr("is_training"))


def _bytes(tensor: tf.Tensor) -> int:
    if not tensor.shape.is_fully_defined() or tensor.dtype in (tf.resource, tf.string, tf.variant):
        return 0
    return tensor.shape.num_elements() * tensor.dtype.size


def new_kinds(before: Counter[str], partition_graphs: Iterable[v1.GraphDef]) -> tuple[int, Counter[str]]:
    """Counts the operations that a session made of a graph.

    Args:
      before: number of operations by type in the original graph.
      partition_graphs: the graphs that ran, from ``RunMetadata``.

    Returns:
      The number of operations that ran, and the counts of the types that are new: fused, compiled, in a lower
      precision, sent between devices.
    """
    after = Counter(node.op for graph in partition_graphs for node in graph.node)
    made = Counter({kind: count for kind, count in after.items() if kind not in before})
    return after.total(), made
