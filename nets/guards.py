"""Checks for graphs with wrong results: training mode at inference, updates that no training step runs."""

import warnings
from collections.abc import Iterable, Sequence

import tensorflow as tf

__all__ = ["InferenceWarning", "ancestors", "check_train_op", "training_mode"]

v1 = tf.compat.v1

# Types of the operations that change a variable, and of those that draw dropout's mask.
_ASSIGNMENTS = frozenset(
    ("Assign", "AssignAdd", "AssignSub", "AssignVariableOp", "AssignAddVariableOp", "AssignSubVariableOp")
)
_RANDOM = frozenset(("RandomUniform", "StatelessRandomUniform", "StatelessRandomUniformV2"))


class InferenceWarning(UserWarning):
    """Warning that a network's results are probably wrong because of its mode, its statistics or its input."""


def ancestors(targets: Iterable[tf.Operation | tf.Tensor]) -> set[tf.Operation]:
    """Returns the operations that run when the targets run, the targets included."""
    waiting = [_operation(target) for target in targets]
    found = set(waiting)
    while waiting:
        op = waiting.pop()
        for source in (*(tensor.op for tensor in op.inputs), *op.control_inputs):
            if source not in found:
                found.add(source)
                waiting.append(source)
    return found


def _descendants(tensor: tf.Tensor) -> set[tf.Operation]:
    """Returns the operations that depend on a tensor."""
    waiting, found = list(tensor.consumers()), set(tensor.consumers())
    while waiting:
        for output in waiting.pop().outputs:
            new = set(output.consumers()) - found
            found |= new
            waiting.extend(new)
    return found


def training_mode(inputs: tf.Tensor, outputs: Sequence[tf.Tensor]) -> str | None:
    """Returns a sentence that names an operation in training mode between inputs and outputs, or None.

    Three kinds are found: batch norms that normalize by the statistics of the batch, so that the result of an image
    depends on the other images in its batch; updates of moving statistics; and dropout.
    """
    ops = ancestors(outputs) - ancestors([inputs])
    norms = [op for op in ops if op.type.startswith("FusedBatchNorm") and op.get_attr("is_training")]
    collected = inputs.graph.get_collection(v1.GraphKeys.UPDATE_OPS)
    # Another network in the same graph may be in training, which is no fault.
    depending = _descendants(inputs) if collected else set()
    updates = [
        update for update in collected if _operation(update) in depending and ancestors([update]) & ops & depending
    ]
    assignments = [op for op in ops if op.type in _ASSIGNMENTS]
    if norms or updates or assignments:
        example = min(op.name for op in (norms or assignments or [_operation(updates[0])]))
        return (
            f"The network was built in training mode ({example}): batch norms use the statistics of each batch "
            "instead of the trained ones, and an image's result depends on the others in its batch; build it with "
            "is_training=False."
        )
    if dropout := sorted(op.name for op in ops if op.type in _RANDOM):
        return f"The network draws random numbers ({dropout[0]}), as dropout does in training: switch it off."
    return None


def _operation(target: tf.Operation | tf.Tensor) -> tf.Operation:
    return target if isinstance(target, tf.Operation) else target.op


def check_train_op(train_op: tf.Operation | tf.Tensor | Sequence[tf.Operation | tf.Tensor]) -> None:
    """Warns if a training step does not run the updates of the batch norms' moving statistics.

    Args:
      train_op: operation, tensor or list of them that the training loop runs in each step.

    Raises:
      TypeError: for anything else.
    """
    targets = list(train_op) if isinstance(train_op, list | tuple) else [train_op]
    for target in targets:
        if not isinstance(target, tf.Operation | tf.Tensor):
            raise TypeError(f"train_op must be an operation, a tensor or a list of them, and has {target!r}.")
    collected = targets[0].graph.get_collection(v1.GraphKeys.UPDATE_OPS) if targets else []
    updates = {_operation(update) for update in collected}
    if idle := updates - ancestors(targets):
        message = (
            f"{len(idle)} of {len(updates)} updates in tf.GraphKeys.UPDATE_OPS, of moving statistics such as "
            f"{min(op.name for op in idle)}, are not run by the training step: the statistics keep their initial "
            "values, and inference fails; make the step with slim.learning.create_train_op(loss, optimizer), or under "
            "tf.control_dependencies(tf.get_collection(tf.GraphKeys.UPDATE_OPS))."
        )
        warnings.warn(message, InferenceWarning, stacklevel=2)
