"""Assigns values to the variables of a session, by the ops that the graph already has."""

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

__all__ = ["assign"]

v1 = tf.compat.v1

_ASSIGNMENTS = ("Assign", "AssignVariableOp")


class _Assignment(NamedTuple):
    """An op that assigns a variable its value, and the tensor that the value comes from."""

    run: tf.Operation
    value: tf.Tensor


def assign(session: v1.Session, values: Iterable[tuple[tf.Variable, np.ndarray]]) -> None:
    """Assigns values to variables by running the graph's own assignments, with the values fed as their inputs.

    Adds an op only for a variable that has no assignment with an input that can be fed.

    Raises:
      ValueError: if an op would have to be added to a finalized graph.
    """
    operations: list[tf.Operation] = []
    feeds: dict[Any, np.ndarray] = {}
    for variable, value in values:
        assignment = _assignment(session.graph, variable)
        # Variables that share one tensor as initial value cannot be fed together.
        if assignment.value.ref() in feeds:
            _run(session, operations, feeds)
            operations, feeds = [], {}
        operations.append(assignment.run)
        feeds[assignment.value.ref()] = value
    _run(session, operations, feeds)


def _run(session: v1.Session, operations: list[tf.Operation], feeds: dict[Any, np.ndarray]) -> None:
    session.run(operations, {reference.deref(): value for reference, value in feeds.items()})


def _assignment(graph: tf.Graph, variable: tf.Variable) -> _Assignment:
    holder = variable.handle if hasattr(variable, "handle") else variable._ref()
    for operation in _candidates(variable, holder):
        if operation.type in _ASSIGNMENTS and operation.inputs[0] is holder:
            value = operation.inputs[1]
            if graph.is_feedable(value) and value.shape.is_compatible_with(variable.shape):
                return _Assignment(operation, value)
    if graph.finalized:
        raise ValueError(
            f"{variable.op.name} has no initializer that can be fed a value, and the graph is finalized, so that no "
            "assignment can be added: restore it before the graph is finalized."
        )
    with graph.as_default(), tf.control_dependencies(None):
        value = v1.placeholder(variable.dtype.base_dtype, variable.shape, name="restored_value")
        operation = v1.assign(variable, value)
    return _assignment(graph, variable)


def _candidates(variable: tf.Variable, holder: tf.Tensor) -> Iterator[tf.Operation]:
    """Yields the variable's initializer, and then other ops that may assign it and depend on no other op."""
    # For a variable of TensorFlow 1's kind, tf.train.init_from_checkpoint leaves the output of an assignment here.
    initializer = variable.initializer
    if initializer is not None:
        yield getattr(initializer, "op", initializer)
    yield from (operation for operation in holder.consumers() if not operation.control_inputs)
