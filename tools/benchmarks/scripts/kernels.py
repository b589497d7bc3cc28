"""Tells which operations of the networks have no kernel for a device in the installed TensorFlow, without the device.

``python -m tools.benchmarks.scripts.kernels [DEVICE [NETWORK ...]]`` builds networks, for inference and with a training
step, and asks TensorFlow's registry for a kernel of each operation in float32 and in float16. Without arguments the
device is GPU, and the networks are all of the table, which takes two to three minutes.

The answer is about the installed build: TensorFlow without CUDA (tensorflow-cpu) registers none of the GPU's kernels
for convolutions, whatever the machine.
"""

import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

from tools.runtime.importing import import_tensorflow

import_tensorflow()

import tensorflow as tf  # noqa: E402
from tensorflow.core.framework import kernel_def_pb2, node_def_pb2  # noqa: E402
from tensorflow.python.framework import kernels  # noqa: E402

from nets import guards, nets_factory  # noqa: E402
from nets.nets_factory import NETWORKS  # noqa: E402

__all__ = ["Missing", "main", "missing_kernels", "operations", "without_kernels"]

v1 = tf.compat.v1

# Operations that the runtime removes or replaces, so that they need no kernel.
_WITHOUT = {"NoOp", "Placeholder", "_Arg", "_Retval"}

# Kernels of this device serve every device that has none of its own for the operation.
_EVERY_DEVICE = "DEFAULT"

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
    """Returns the operations that a network of the table runs, in training with the step of an optimizer.

    They include the initializers of its variables, but not summaries, which only the processor has.
    """
    network = NETWORKS[name]
    with tf.Graph().as_default() as graph:
        size = network.image_size
        images = v1.placeholder(tf.float32, [2, size, size, network.channels])
        target, _ = nets_factory.get_network_fn(name, network.num_classes, is_training=is_training)(images)
        if is_training:
            labels = tf.zeros([2], tf.int32)
            loss = v1.losses.sparse_softmax_cross_entropy(labels, tf.reshape(target, [2, -1]))
            updates = v1.get_collection(v1.GraphKeys.UPDATE_OPS)
            with tf.control_dependencies(updates):
                optimizer = v1.train.MomentumOptimizer(0.1, 0.9)
                target = optimizer.minimize(loss + v1.losses.get_regularization_loss())
        needed = {op.name for op in guards.ancestors([target, v1.global_variables_initializer()])}
        return [node for node in graph.as_graph_def().node if node.name in needed]


def missing_kernels(
    device: str, networks: Sequence[str], advance: Callable[[str], None] = lambda name: None
) -> list[Missing]:
    """Returns the operations of networks for which TensorFlow has no kernel on a device.

    Args:
      device: 'CPU' or 'GPU'.
      networks: names of networks.
      advance: called with the name of each network before it is built.
    """
    users: dict[tuple[str, str], list[str]] = {}
    for name in networks:
        advance(name)
        nodes = [node for is_training in (False, True) for node in operations(name, is_training=is_training)]
        for key in without_kernels(nodes, device):
            users.setdefault(key, []).append(name)
    return [Missing(op, dtype, tuple(names)) for (op, dtype), names in sorted(users.items())]


def without_kernels(nodes: Iterable[node_def_pb2.NodeDef], device: str) -> set[tuple[str, str]]:
    """Returns the types of operations, each with 'float32' or 'float16', that have no kernel on a device."""
    different = {(node.op, str(sorted(_types(node).items()))): node for node in nodes}
    return {key for node in different.values() for key in _without_kernel(node, device)}


def _without_kernel(node: node_def_pb2.NodeDef, device: str) -> Iterator[tuple[str, str]]:
    if node.op in _WITHOUT:
        return
    types = _types(node)
    variants = {"float32": types}
    # What holds a variable stays in float32, as mixed precision leaves it.
    if types.get("T") == {FLOAT}:
        variants["float16"] = types | {"T": {HALF}}
    registered = kernels.get_registered_kernels_for_op(node.op).kernel
    for dtype, wanted in variants.items():
        if not any(kernel.device_type in (device, _EVERY_DEVICE) and _fits(kernel, wanted) for kernel in registered):
            yield node.op, dtype


def _types(node: node_def_pb2.NodeDef) -> dict[str, set[int]]:
    """Returns the types that an operation's attributes name, by the attributes' names."""
    found = {}
    for name, value in node.attr.items():
        kind = value.WhichOneof("value")
        if kind == "type":
            found[name] = {value.type}
        elif kind == "list" and value.list.type:
            found[name] = set(value.list.type)
    return found


def _fits(kernel: kernel_def_pb2.KernelDef, types: dict[str, set[int]]) -> bool:
    # TensorFlow takes a kernel with a label only for an operation that asks for it.
    return not kernel.label and all(
        types[constraint.name] <= set(constraint.allowed_values.list.type)
        for constraint in kernel.constraint
        if constraint.name in types
    )


def main(argv: Sequence[str]) -> int:
    """Prints the operations without a kernel, and returns the exit status: 0 if there are none, 2 for wrong usage."""
    device, *networks = argv or ["GPU"]
    if unknown := [name for name in networks if name not in NETWORKS]:
        print(f"There is no network {unknown[0]}: choose from {', '.join(NETWORKS)}.", file=sys.stderr)
        return 2
    networks = networks or list(NETWORKS)
    if not any(kernel.device_type == device for kernel in kernels.get_registered_kernels_for_op("Conv2D").kernel):
        print(f"TensorFlow {tf.__version__} is a build without kernels for {device}: install tensorflow[and-cuda].")
        return 1
    found = missing_kernels(device, networks, lambda name: print(f"{name} ...", file=sys.stderr, flush=True))
    for one in found:
        print(f"{one.op} in {one.dtype} has no kernel for {device}: {', '.join(one.networks)}")
    print(f"TensorFlow {tf.__version__}: {len(networks)} networks, {len(found)} operations without a kernel")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
