"""Freezes a network: its weights become constants, and only the part of the graph for the requested tensors stays.

Then batch norms fold into the convolutions before them, and TensorFlow's optimizer fuses more operations. The optimizer
takes time at the first run, a second or two for a ResNet-50, so freezing pays for many images.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import tensorflow as tf

from nets.building import one_at_a_time
from tools.runtime.folding import fold_batch_norms
from tools.runtime.machine import cores
from tools.runtime.sessions import has_gpu, without_deprecation_notices

__all__ = [
    "FrozenNetwork",
    "arithmetic",
    "freeze",
    "freeze_for",
    "import_frozen",
    "import_unchanged",
    "is_optimized",
    "worth_freezing",
    "worth_splitting",
]

v1 = tf.compat.v1

# Optimizing the graph takes TensorFlow a third of a second, which pays off from _FEW images of a ResNet-50. Freezing
# takes some three seconds and saves 5 ms an image, which pays off from _MANY.
_FEW, _MANY = 200, 1000

# The largest size of a protocol buffer, and so of a graph that TensorFlow accepts.
_LARGEST = 2**31 - 1

# The smallest batch for which two halves were measured to be faster than the whole.
_WORTH_SPLITTING = 8


class FrozenNetwork(NamedTuple):
    """A network whose weights are constants.

    graph_def: the graph, with slim's names.
    images: the tensor that the graph has a placeholder for: float32 [N, size, size, channels].
    outputs: names of the end points → names of their tensors.
    """

    graph_def: v1.GraphDef
    images: tf.Tensor
    outputs: dict[str, str]


def freeze(session: v1.Session, outputs: Sequence[tf.Tensor], inputs: Sequence[tf.Tensor] = ()) -> v1.GraphDef:
    """Extracts the part of a session's graph on which ``outputs`` depend, with constants in place of variables.

    Args:
      session: session whose variables have values.
      outputs: tensors of its graph.
      inputs: tensors of its graph that become placeholders. The operations before them are left out. Only the first
        output of an operation can be an input, which matters for a dataset's ``get_next``.

    Returns:
      A graph for ``tf.graph_util.import_graph_def``, with the names of the session's graph.

    Raises:
      ValueError: if the weights take more than 2 GiB, which a graph cannot hold, or a placeholder cannot replace an
        input.
    """
    with session.graph.as_default():
        size = sum(v.shape.num_elements() * v.dtype.base_dtype.size for v in v1.global_variables())
    if size >= _LARGEST:
        raise ValueError(
            f"Weights of {size / 1e9:.1f} GB are more than the 2 GiB that a graph can hold as constants: they cannot "
            "be exported, and features require freeze=False."
        )
    graph_def = session.graph.as_graph_def()
    by_name = {_checked_input(tensor, session.graph).op.name: tensor for tensor in inputs}
    for node in graph_def.node:
        if node.name in by_name:
            node.CopyFrom(_placeholder(by_name[node.name], node.device))
        # A colocation constraint would keep another operation in the graph.
        node.attr.pop("_class", None)
    # One thread at a time, because the first to finish switches the notices on again for all threads.
    with one_at_a_time(), without_deprecation_notices():
        frozen = v1.graph_util.convert_variables_to_constants(
            session, graph_def, [tensor.op.name for tensor in outputs]
        )
    _check_placeholders(frozen, by_name, outputs)
    return frozen


def _checked_input(tensor: tf.Tensor, graph: tf.Graph) -> tf.Tensor:
    if tensor.graph is not graph:
        raise ValueError(
            f"The input {tensor.name} belongs to another graph than the session: give the session's tensor."
        )
    if tensor.value_index:
        raise ValueError(
            f"The input {tensor.name} is not the first output of its operation, and a placeholder has only one: build "
            "the network on tf.identity of the tensor, and give the identity."
        )
    return tensor


def _placeholder(tensor: tf.Tensor, device: str) -> v1.NodeDef:
    """Returns a placeholder with the name of a tensor's operation, and nothing else of the operation."""
    node = v1.NodeDef(name=tensor.op.name, op="Placeholder", device=device)
    node.attr["dtype"].type = tensor.dtype.base_dtype.as_datatype_enum
    node.attr["shape"].shape.CopyFrom(tensor.shape.as_proto())
    return node


def _check_placeholders(graph_def: v1.GraphDef, inputs: Mapping[str, tf.Tensor], outputs: Sequence[tf.Tensor]) -> None:
    """Raises ValueError if the graph uses an output that a placeholder does not have."""
    needed = {name for node in graph_def.node for name in node.input} | {tensor.name for tensor in outputs}
    for name in sorted(needed):
        op_name, _, index = name.partition(":")
        if op_name in inputs and index not in ("", "0"):
            raise ValueError(
                f"The graph also uses {name}, which is lost if {op_name}:0 becomes a placeholder: build the network on "
                f"tf.identity of {op_name}:0, and give the identity."
            )


def import_frozen(
    graph_def: v1.GraphDef, inputs: Mapping[str, tf.Tensor], outputs: Sequence[str], *, split: bool = False
) -> list[tf.Tensor]:
    """Imports a frozen graph into the current graph, and folds its batch norms.

    Args:
      graph_def: the graph that ``freeze`` returned.
      inputs: name of a tensor of the frozen graph → the tensor that replaces it. The first axis is the batch.
      outputs: names of tensors of the frozen graph. Their first axis is the batch too.
      split: whether the halves of the batch are computed side by side. Then fewer threads wait for one another at the
        end of each op. The halves share the weights.

    Returns:
      The outputs in the current graph.
    """
    graph_def = fold_batch_norms(graph_def, outputs, depthwise=not has_gpu())
    _remove_replaced(graph_def, inputs)
    if not split:
        return tf.graph_util.import_graph_def(graph_def, inputs, outputs, name="")
    half = tf.shape(next(iter(inputs.values())))[0] // 2
    # TensorFlow's convolutions fail on an empty batch. A single image is in both halves, and dropped from the first.
    first_half = {name: batch[: tf.maximum(half, 1)] for name, batch in inputs.items()}
    second_half = {name: batch[half:] for name, batch in inputs.items()}
    constants = [f"{node.name}:0" for node in graph_def.node if node.op == "Const"]
    tensors = tf.graph_util.import_graph_def(graph_def, first_half, [*outputs, *constants], name="first_half")
    first, weights = tensors[: len(outputs)], tensors[len(outputs) :]
    others = v1.GraphDef(versions=graph_def.versions, node=[node for node in graph_def.node if node.op != "Const"])
    inputs = second_half | dict(zip(constants, weights, strict=True))
    second = tf.graph_util.import_graph_def(others, inputs, outputs, name="second_half")
    return [tf.concat([one[:half], other], axis=0) for one, other in zip(first, second, strict=True)]


def import_unchanged(
    graph_def: v1.GraphDef, inputs: Mapping[str, tf.Tensor], outputs: Sequence[str]
) -> list[tf.Tensor]:
    """Imports a frozen graph, which loses its placeholders, into the current graph as it is; see ``import_frozen``."""
    _remove_replaced(graph_def, inputs)
    return tf.graph_util.import_graph_def(graph_def, inputs, outputs, name="")


def _remove_replaced(graph_def: v1.GraphDef, inputs: Mapping[str, tf.Tensor]) -> None:
    """Removes the placeholders of replaced tensors in place, as a copy would take the memory of the weights again.

    Their names are then free in the graph of the import, and XLA does not compile them too.
    """
    replaced = {name.partition(":")[0] for name in inputs}
    for node in [node for node in graph_def.node if node.name in replaced]:
        graph_def.node.remove(node)


def worth_splitting(batch_size: int, threads: int | None = None) -> bool:
    """Returns whether two halves are faster than the whole: on a processor with several threads, for larger batches.

    Args:
      batch_size: number of images in the whole batch.
      threads: threads that the session may use; None for one a core.
    """
    several = (threads or cores()) > 1
    return batch_size >= _WORTH_SPLITTING and several and not has_gpu()


def is_optimized(precision: str, freeze: bool | None) -> bool:
    """Returns whether an extractor that is made with these arguments has TensorFlow optimize its graph."""
    return freeze is not False or precision != "float32"


def arithmetic(
    num_images: int, batch_size: int, precision: str, freeze: bool | None, engine: str = "tensorflow"
) -> tuple[int, int]:
    """Returns what determines the last bits of a row besides the image.

    Args:
      num_images: of the job.
      batch_size, precision, freeze, engine: of the extractor that computes the rows.

    Returns:
      The size of the batches; and 0 for a graph as it was built, 1 for an optimized one, 2 for a frozen one, 3 for
      another engine.
    """
    if engine != "tensorflow":
        return min(batch_size, num_images), 3
    frozen = freeze or (freeze is None and worth_freezing(num_images))
    return min(batch_size, num_images), 2 if frozen else int(is_optimized(precision, freeze))


def freeze_for(num_images: int, engine: str = "tensorflow") -> bool | None:
    """Returns the best ``freeze`` of an extractor for a number of images and an engine."""
    if num_images < _FEW or engine not in ("tensorflow", "auto"):
        return False
    # 'auto' may leave TensorFlow before anything is frozen.
    return True if worth_freezing(num_images) and engine == "tensorflow" else None


def worth_freezing(num_images: int) -> bool:
    """Returns whether freezing pays off for that number of images."""
    return num_images >= _MANY
