"""Freezes a network: its weights become constants, and only the part of the graph for the requested tensors stays.

Then batch norms fold into the convolutions before them, and TensorFlow's optimizer fuses more operations. The optimizer
takes time at the first run, a second or two for a ResNet-50, so freezing pays for many images.

Constants cost nine times the memory of the weights: the graph, the session, its optimizer and its kernels each keep
copies, and oneDNN one more for each convolution, in an order of its own. Folded weights in variables cost hardly more
than the weights, and the network takes 2 % longer in float32, and 4 % in bfloat16 (ResNet-50 v2, batch 32), where they
are converted in each step.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from nets.building import one_at_a_time
from tools.runtime.folding import fold_batch_norms
from tools.runtime.machine import cores
from tools.runtime.sessions import has_gpu, without_deprecation_notices

__all__ = [
    "FrozenNetwork",
    "Imported",
    "freeze",
    "import_frozen",
    "import_thawed",
    "import_unchanged",
    "import_with_variables",
    "worth_splitting",
]

v1 = tf.compat.v1

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


class Imported(NamedTuple):
    """A frozen network in the current graph.

    outputs: its outputs.
    variables: the weights that became variables, with their values, which a session must assign.
    """

    outputs: list[tf.Tensor]
    variables: list[tuple[tf.Variable, np.ndarray]]


def import_frozen(
    graph_def: v1.GraphDef, inputs: Mapping[str, tf.Tensor], outputs: Sequence[str], *, split: bool = False
) -> list[tf.Tensor]:
    """Imports a frozen graph into the current graph, and folds its batch norms. The weights stay constants.

    Args:
      graph_def: the graph that ``freeze`` returned.
      inputs: name of a tensor of the frozen graph → the tensor that replaces it. The first axis is the batch.
      outputs: names of tensors of the frozen graph. Their first axis is the batch too.
      split: whether the halves of the batch are computed side by side. Then fewer threads wait for one another at the
        end of each op. The halves share the weights.

    Returns:
      The outputs in the current graph.
    """
    graph_def = _folded(graph_def, inputs, outputs)
    if not split:
        return tf.graph_util.import_graph_def(graph_def, inputs, outputs, name="")
    constants = [f"{node.name}:0" for node in graph_def.node if node.op == "Const"]
    first_half, second_half = _halves(inputs)
    tensors = tf.graph_util.import_graph_def(graph_def, first_half, [*outputs, *constants], name="first_half")
    first, weights = tensors[: len(outputs)], tensors[len(outputs) :]
    others = v1.GraphDef(versions=graph_def.versions, node=[node for node in graph_def.node if node.op != "Const"])
    shared = dict(zip(constants, weights, strict=True))
    second = tf.graph_util.import_graph_def(others, second_half | shared, outputs, name="second_half")
    return _joined(first, second, inputs)


def import_with_variables(
    graph_def: v1.GraphDef, inputs: Mapping[str, tf.Tensor], outputs: Sequence[str], *, split: bool = False
) -> Imported:
    """Imports a frozen graph as ``import_frozen`` does, but for its weights, which become variables."""
    graph_def = _folded(graph_def, inputs, outputs)
    others = v1.GraphDef(versions=graph_def.versions)
    variables: list[tuple[tf.Variable, np.ndarray]] = []
    weights: dict[str, tf.Tensor] = {}
    for node in graph_def.node:
        if node.op != "Const" or node.attr["dtype"].type != tf.float32.as_datatype_enum:
            others.node.append(node)
            continue
        value = tf.make_ndarray(node.attr["value"].tensor)
        # The initial value is not an array, which the graph would hold.
        variable = v1.Variable(
            tf.zeros(value.shape), trainable=False, collections=[], use_resource=True, name=f"{node.name}/weights"
        )
        variables.append((variable, value))
        weights[f"{node.name}:0"] = variable.read_value()
    del graph_def
    if not split:
        return Imported(tf.graph_util.import_graph_def(others, {**inputs, **weights}, outputs, name=""), variables)
    first, second = (
        tf.graph_util.import_graph_def(others, half | weights, outputs, name=name)
        for half, name in zip(_halves(inputs), ("first_half", "second_half"), strict=True)
    )
    return Imported(_joined(first, second, inputs), variables)


def import_thawed(graph_def: v1.GraphDef) -> list[tuple[tf.Variable, np.ndarray]]:
    """Imports a frozen graph into the current graph, with variables again for those that ``freeze`` made constants.

    Args:
      graph_def: the graph that ``freeze`` returned.

    Returns:
      The variables, which have their old names, with their values, which a session must assign.
    """
    constants = {node.name: node for node in graph_def.node if node.op == "Const"}
    # What read a variable has become an identity.
    reading = {
        node.name: node.input[0].partition(":")[0]
        for node in graph_def.node
        if node.op == "Identity" and (node.name.endswith("/read") or "ReadVariableOp" in node.name.rpartition("/")[2])
    }
    variables: list[tuple[tf.Variable, np.ndarray]] = []
    values: dict[str, tf.Tensor] = {}
    for name in dict.fromkeys(reading.values()):
        if name in constants:
            value = tf.make_ndarray(constants[name].attr["value"].tensor)
            # The initial value is not an array, which the graph would hold.
            variable = v1.Variable(tf.zeros(value.shape, value.dtype), use_resource=True, name=name)
            variables.append((variable, value))
            values[name] = variable.read_value()
    others = v1.GraphDef(versions=graph_def.versions, library=graph_def.library)
    others.node.extend(node for node in graph_def.node if not {node.name, reading.get(node.name)} & values.keys())
    used = {name.partition(":")[0] for node in others.node for name in node.input}
    inputs = values | {reader: values[name] for reader, name in reading.items() if name in values}
    tf.graph_util.import_graph_def(
        others, {f"{name}:0": value for name, value in inputs.items() if name in used}, name=""
    )
    return variables


def _folded(graph_def: v1.GraphDef, inputs: Mapping[str, tf.Tensor], outputs: Sequence[str]) -> v1.GraphDef:
    """Returns a frozen graph with its batch norms folded, and without the placeholders that are replaced."""
    graph_def = fold_batch_norms(graph_def, outputs, depthwise=not has_gpu())
    _remove_replaced(graph_def, inputs)
    return graph_def


def _halves(inputs: Mapping[str, tf.Tensor]) -> tuple[dict[str, tf.Tensor], dict[str, tf.Tensor]]:
    """Returns the halves of a batch; the first one may have an image too many, see ``_joined``."""
    half = tf.shape(next(iter(inputs.values())))[0] // 2
    # TensorFlow's convolutions fail on an empty batch. A single image is in both halves, and dropped from the first.
    first = {name: batch[: tf.maximum(half, 1)] for name, batch in inputs.items()}
    return first, {name: batch[half:] for name, batch in inputs.items()}


def _joined(first: list[tf.Tensor], second: list[tf.Tensor], inputs: Mapping[str, tf.Tensor]) -> list[tf.Tensor]:
    half = tf.shape(next(iter(inputs.values())))[0] // 2
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
