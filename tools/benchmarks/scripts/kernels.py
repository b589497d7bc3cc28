"""Tells which operations of the networks have no kernel for a device in the installed TensorFlow, without the device.

``python -m tools.benchmarks.scripts.kernels [GPU]`` builds every network of the table, for inference and with a
training step, and asks TensorFlow's registry for a kernel of each operation in float32 and in float16.
"""

import sys
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from tools.runtime.importing import import_tensorflow

import_tensorflow()

import tensorflow as tf  # noqa: E402
from tensorflow.core.framework import kernel_def_pb2, node_def_pb2  # noqa: E402
from tensorflow.python.framework import kernels  # noqa: E402

from nets import nets_factory  # noqa: E402
from nets.nets_factory import NETWORKS  # noqa: E402

__all__ = ["Missing", "main", "missing_kernels", "operations"]

v1 = tf.compat.v1

# Operations that the runtime removes or replaces, so that they need no kernel.
_WITHOUT = {"NoOp", "Placeholder", "_Arg", "_Retval"}

FLOAT, HALF = tf.float32.as_datatype_enum, tf.float16.as_datatype_enum


class Missing(NamedTuple):
    """An operation without a kernel.

    op: type of the operation.
    dtype: 'float32' or 'float16'.
    networks: names of the networks that use it.
    """

    op: str
    dtype: str
    networks: tuple[str, ...]


def operations(name: str, *, is_training: bool) -> list[node_def_pb2.NodeDef]:
    """Returns the operations of a network of the table, in training with the step of an optimizer."""
    network = NETWORKS[name]
    with tf.Graph().as_default() as graph:
        size = network.image_size
        images = v1.placeholder(tf.float32, [2, size, size, network.channels])
        logits, _ = nets_factory.get_network_fn(name, network.num_classes, is_training=is_training)(images)
        if is_training:
            labels = tf.zeros([2], tf.int32)
            loss = v1.losses.sparse_softmax_cross_entropy(labels, tf.reshape(logits, [2, -1]))
            updates = v1.get_collection(v1.GraphKeys.UPDATE_OPS)
            with tf.control_dependencies(updates):
                v1.train.MomentumOptimizer(0.1, 0.9).minimize(loss + v1.losses.get_regularization_loss())
        return list(graph.as_graph_def().node)


def missing_kernels(device: str, networks: Sequence[str]) -> list[Missing]:
    """Returns the operations of networks for which TensorFlow has no kernel on a device, 'CPU' or 'GPU'."""
    users: dict[tuple[str, str], list[str]] = {}
    for name in networks:
        nodes = {
            (node.op, str(sorted(_types(node).items()))): node
            for is_training in (False, True)
            for node in operations(name, is_training=is_training)
        }
        for key in {key for node in nodes.values() for key in _without_kernel(node, device)}:
            users.setdefault(key, []).append(name)
    return [Missing(op, dtype, tuple(names)) for (op, dtype), names in sorted(users.items())]


def _without_kernel(node: node_def_pb2.NodeDef, device: str) -> Iterator[tuple[str, str]]:
    if node.op in _WITHOUT:
        return
    types = _types(node)
    variants = {"float32": types}
    # What holds a variable stays in float32, as mixed precision leaves it.
    if types.get("T") == FLOAT:
        variants["float16"] = types | {"T": HALF}
    registered = kernels.get_registered_kernels_for_op(node.op).kernel
    for dtype, wanted in variants.items():
        if not any(kernel.device_type == device and _fits(kernel, wanted) for kernel in registered):
            yield node.op, dtype


def _types(node: node_def_pb2.NodeDef) -> dict[str, int]:
    return {name: value.type for name, value in node.attr.items() if value.WhichOneof("value") == "type"}


def _fits(kernel: kernel_def_pb2.KernelDef, types: dict[str, int]) -> bool:
    return all(
        types[constraint.name] in constraint.allowed_values.list.type
        for constraint in kernel.constraint
        if constraint.name in types
    )


def main(argv: Sequence[str]) -> int:
    """Prints the operations without a kernel, and returns the exit status: 0 if there are none."""
    (device,) = argv or ["GPU"]
    if not any(kernel.device_type == device for kernel in kernels.get_registered_kernels_for_op("Conv2D").kernel):
        print(f"TensorFlow {tf.__version__} is a build without kernels for {device}: install tensorflow[and-cuda].")
        return 1
    found = missing_kernels(device, list(NETWORKS))
    for one in found:
        print(f"{one.op} in {one.dtype} has no kernel for {device}: {', '.join(one.networks)}")
    print(f"TensorFlow {tf.__version__}: {len(NETWORKS)} networks, {len(found)} operations without a kernel")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
