"""Checks for graphs with wrong results: training mode at inference, updates that no training step runs."""

import math
import warnings
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import tensorflow as tf

from nets.arguments import whole_number

__all__ = [
    "LARGEST_INITIAL_WEIGHT",
    "InferenceWarning",
    "ancestors",
    "batch_norm_decay_for",
    "check_train_op",
    "training_mode",
]

v1 = tf.compat.v1

# Types of the operations that change a variable, and of those that draw dropout's mask.
_ASSIGNMENTS = frozenset(
    ("Assign", "AssignAdd", "AssignSub", "AssignVariableOp", "AssignAddVariableOp", "AssignSubVariableOp")
)
_SUBTRACTIONS = frozenset(("AssignSub", "AssignSubVariableOp"))
_STATISTICS = ("moving_mean", "moving_variance")
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


# Weight of the initial statistics after training above which inference gets visibly worse.
LARGEST_INITIAL_WEIGHT = 0.05
_LEAST_DECAY, _MOST_DECAY = 0.5, 0.997


def batch_norm_decay_for(number_of_steps: int) -> float:
    """Returns the decay of the moving statistics that suits a training of this many steps.

    It is 1 - 20 / number_of_steps, so that the statistics are those of the last twentieth of the training and the
    initial ones weigh nothing; at least 0.5 and at most slim's 0.997, which it reaches at 6667 steps.

    Raises:
      ValueError: unless ``number_of_steps`` is a whole number of at least 1.
    """
    number_of_steps = whole_number("number_of_steps", number_of_steps, least=1)
    return min(max(1 - 20 / number_of_steps, _LEAST_DECAY), _MOST_DECAY)


def check_train_op(
    train_op: tf.Operation | tf.Tensor | Sequence[tf.Operation | tf.Tensor], number_of_steps: int | None = None
) -> None:
    """Warns if a training leaves the batch norms with moving statistics that fail in inference.

    There are two reasons: the training step does not run the updates of the statistics, or there are so few steps for
    the decay of the statistics that the initial ones still weigh more than 5 % in the end.

    Args:
      train_op: operation, tensor or list of them that the training loop runs in each step.
      number_of_steps: number of steps of the training; None if it is not known. Decays that are computed in the graph
        are not checked.

    Raises:
      TypeError: for another ``train_op``.
      ValueError: for a number of steps that is not a whole number of at least 1.
    """
    targets = list(train_op) if isinstance(train_op, list | tuple) else [train_op]
    for target in targets:
        if not isinstance(target, tf.Operation | tf.Tensor):
            raise TypeError(f"train_op must be an operation, a tensor or a list of them, and has {target!r}.")
    if number_of_steps is not None:
        number_of_steps = whole_number("number_of_steps", number_of_steps, least=1)
    run = ancestors(targets)
    sentences = [_idle_updates(targets, run), number_of_steps and _slow_statistics(run, number_of_steps)]
    for sentence in filter(None, sentences):
        warnings.warn(sentence, InferenceWarning, stacklevel=2)


def _idle_updates(targets: Sequence[tf.Operation | tf.Tensor], run: set[tf.Operation]) -> str | None:
    """Returns a sentence on updates that are not among the operations that run; None if all are."""
    collected = targets[0].graph.get_collection(v1.GraphKeys.UPDATE_OPS) if targets else []
    updates = {_operation(update) for update in collected}
    if idle := updates - run:
        return (
            f"{len(idle)} of {len(updates)} updates in tf.GraphKeys.UPDATE_OPS, of moving statistics such as "
            f"{min(op.name for op in idle)}, are not run by the training step: the statistics keep their initial "
            "values, and inference fails; make the step with slim.learning.create_train_op(loss, optimizer), or under "
            "tf.control_dependencies(tf.get_collection(tf.GraphKeys.UPDATE_OPS))."
        )
    return None


def _slow_statistics(run: set[tf.Operation], number_of_steps: int) -> str | None:
    """Returns a sentence on statistics in which the initial ones would weigh too much; None if there are none."""
    decay, name = min(_decays(run), key=lambda found: (-found[0], found[1]), default=(0.0, ""))
    weight = decay**number_of_steps
    if weight <= LARGEST_INITIAL_WEIGHT:
        return None
    fitting = batch_norm_decay_for(number_of_steps)
    advice = []
    if fitting**number_of_steps <= LARGEST_INITIAL_WEIGHT:
        advice.append(f"use batch_norm_decay={fitting:.4g}")
    if decay < 1:
        least = math.ceil(math.log(LARGEST_INITIAL_WEIGHT) / math.log(decay))
        advice.append(f"train for at least {least} steps")
    return (
        f"The decay of the moving statistics is {decay:g} (such as {name}): after {number_of_steps} steps their "
        f"initial values still weigh {weight:.1%}, and inference will be worse than training; {', or '.join(advice)}."
    )


def _decays(run: set[tf.Operation]) -> Iterator[tuple[float, str]]:
    """Yields (decay, name of the variable) of each update of moving statistics whose decay is a constant.

    An update subtracts (moving - value) * (1 - decay) from the variable, in our layers and in those of tf_slim.
    """
    for op in run:
        if op.type in _SUBTRACTIONS:
            variable, change = op.inputs[0].op, op.inputs[1].op
            if variable.name.endswith(_STATISTICS) and change.type == "Mul":
                for factor in map(_static_scalar, change.inputs):
                    if factor is not None:
                        # The graph holds 1 - decay in float32, which is 1 - 0.997 to seven digits.
                        yield round(1 - factor, 7), variable.name


def _static_scalar(tensor: tf.Tensor) -> Any:
    """Returns the value of a scalar constant, or None."""
    return float(value) if tensor.shape.rank == 0 and (value := tf.get_static_value(tensor)) is not None else None
