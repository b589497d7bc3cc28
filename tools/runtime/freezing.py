"""A network with its weights as constants: the part of its graph that the asked tensors need, and nothing else.

With constants batch norms fold into the convolutions before them, and TensorFlow's optimizer fuses what follows, once
for all; the price is its time at the first run, a second or two for a ResNet-50. Pays for many images.
"""

from collections.abc import Mapping, Sequence

import tensorflow as tf

from nets.building import one_at_a_time
from tools.runtime.folding import fold_batch_norms
from tools.runtime.machine import cores
from tools.runtime.sessions import has_gpu, without_deprecation_notices

__all__ = ["freeze", "import_frozen", "worth_splitting"]

v1 = tf.compat.v1

# What a protocol buffer can hold, which a graph is handed over as.
_LARGEST = 2**31 - 1

# The smallest batch for which two halves were seen to be faster than the whole.
_WORTH_SPLITTING = 8


def freeze(session: v1.Session, outputs: Sequence[tf.Tensor], inputs: Sequence[tf.Tensor] = ()) -> v1.GraphDef:
    """The part of a session's graph that ``outputs`` need, its variables replaced by their values as constants.

    Args:
      session: its variables have values.
      outputs: tensors of its graph.
      inputs: tensors of its graph that become placeholders, where they are none: what they are made from is left out.
        Of an operation with several outputs, such as a dataset's ``get_next``, only the first can be one.

    Returns:
      The graph, to be imported with ``tf.graph_util.import_graph_def``; its names are those of the session's graph.

    Raises:
      ValueError: if a graph cannot hold the weights, of more than 2 GiB, or a placeholder cannot take an input's place.
    """
    with session.graph.as_default():
        size = sum(v.shape.num_elements() * v.dtype.base_dtype.size for v in v1.global_variables())
    if size >= _LARGEST:
        raise ValueError(f"Weights of {size / 1e9:.1f} GB are more than a graph can hold as constants: leave them out.")
    graph_def = session.graph.as_graph_def()
    by_name = {_checked_input(tensor, session.graph).op.name: tensor for tensor in inputs}
    for node in graph_def.node:
        if node.name in by_name:
            node.CopyFrom(_placeholder(by_name[node.name], node.device))
        # The wish to be placed beside another operation, which would keep that one in the graph.
        node.attr.pop("_class", None)
    # One at a time: the notices are switched off for all threads, and on again by the first that is done.
    with one_at_a_time(), without_deprecation_notices():
        frozen = v1.graph_util.convert_variables_to_constants(
            session, graph_def, [tensor.op.name for tensor in outputs]
        )
    _check_placeholders(frozen, by_name, outputs)
    return frozen


def _checked_input(tensor: tf.Tensor, graph: tf.Graph) -> tf.Tensor:
    if tensor.graph is not graph:
        raise ValueError(f"The input {tensor.name} is of another graph than the session's: give the session's tensor.")
    if tensor.value_index:
        raise ValueError(
            f"The input {tensor.name} is not the first output of its operation, and a placeholder has only one: build "
            "the network on tf.identity of the tensor, and give that."
        )
    return tensor


def _placeholder(tensor: tf.Tensor, device: str) -> v1.NodeDef:
    """A placeholder under the name of a tensor's operation; nothing else that the operation had is left."""
    node = v1.NodeDef(name=tensor.op.name, op="Placeholder", device=device)
    node.attr["dtype"].type = tensor.dtype.base_dtype.as_datatype_enum
    node.attr["shape"].shape.CopyFrom(tensor.shape.as_proto())
    return node


def _check_placeholders(graph_def: v1.GraphDef, inputs: Mapping[str, tf.Tensor], outputs: Sequence[tf.Tensor]) -> None:
    """Raises ValueError if the graph needs an output that a placeholder does not have."""
    needed = {name for node in graph_def.node for name in node.input} | {tensor.name for tensor in outputs}
    for name in sorted(needed):
        op_name, _, index = name.partition(":")
        if op_name in inputs and index not in ("", "0"):
            raise ValueError(
                f"The graph also needs {name}, which is lost where {op_name}:0 becomes a placeholder: build the "
                f"network on tf.identity of {op_name}:0, and give that."
            )


def import_frozen(
    graph_def: v1.GraphDef, inputs: Mapping[str, tf.Tensor], outputs: Sequence[str], *, split: bool = False
) -> list[tf.Tensor]:
    """Imports what ``freeze`` returned into the current graph, its batch norms folded.

    Args:
      graph_def: the graph.
      inputs: from names of tensors of the frozen graph, with a batch as first axis, to what takes their place.
      outputs: names of tensors of the frozen graph, likewise.
      split: whether each half of the batch is computed by itself, side by side with the other: fewer threads wait for
        one another at the end of each op. The weights are shared.

    Returns:
      The outputs here.
    """
    graph_def = fold_batch_norms(graph_def, outputs, depthwise=not has_gpu())
    replaced = {name.partition(":")[0] for name in inputs}
    for node in [node for node in graph_def.node if node.name in replaced]:
        graph_def.node.remove(node)  # XLA would compile it too.
    if not split:
        return tf.graph_util.import_graph_def(graph_def, inputs, outputs, name="")
    half = tf.shape(next(iter(inputs.values())))[0] // 2
    # TensorFlow's convolutions fail on an empty batch: of one image the first half is that image too, and dropped.
    first_half = {name: batch[: tf.maximum(half, 1)] for name, batch in inputs.items()}
    second_half = {name: batch[half:] for name, batch in inputs.items()}
    constants = [f"{node.name}:0" for node in graph_def.node if node.op == "Const"]
    tensors = tf.graph_util.import_graph_def(graph_def, first_half, [*outputs, *constants], name="first_half")
    first, weights = tensors[: len(outputs)], tensors[len(outputs) :]
    others = v1.GraphDef(versions=graph_def.versions, node=[node for node in graph_def.node if node.op != "Const"])
    inputs = second_half | dict(zip(constants, weights, strict=True))
    second = tf.graph_util.import_graph_def(others, inputs, outputs, name="second_half")
    return [tf.concat([one[:half], other], axis=0) for one, other in zip(first, second, strict=True)]


def worth_splitting(batch_size: int, threads: int | None = None) -> bool:
    """Whether halves are faster: on a processor of several cores, and large enough to keep one of them busy.

    Args:
      batch_size: of the whole.
      threads: that the session may use; None for one a core.
    """
    several = (threads or cores()) > 1
    return batch_size >= _WORTH_SPLITTING and several and not has_gpu()
