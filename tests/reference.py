"""Weights for networks, and how far results are apart."""

from collections.abc import Mapping, Sequence

import numpy as np
import tensorflow as tf

v1 = tf.compat.v1


def random_values(variables: list[tf.Variable], seed: int = 0) -> dict[str, np.ndarray]:
    """``random_values_of_shapes`` for variables."""
    return random_values_of_shapes({variable.op.name: variable.shape.as_list() for variable in variables}, seed)


def random_values_of_shapes(
    shapes: Mapping[str, Sequence[int]], seed: int = 0, gain: float = 1.0
) -> dict[str, np.ndarray]:
    """Values by the names of variables: of a size that keeps all activations finite, with moving statistics that are
    neither 0 nor 1. ``gain`` is the variance of a kernel's output over its input's."""
    generator = np.random.default_rng(seed)
    values = {}
    for name, shape in shapes.items():
        kind = name.rpartition("/")[2]
        if kind in ("DW", "weights"):
            value = generator.normal(0, np.sqrt(gain / np.prod(shape[:-1])), shape)
        elif kind in ("gamma", "moving_variance"):
            value = generator.uniform(0.5, 1.5, shape)
        else:
            value = generator.normal(0, 0.1, shape)
        values[name] = value.astype(np.float32)
    return values


def assign(session: v1.Session, values: Mapping[str, np.ndarray]) -> None:
    """Gives the global variables of the session's graph their values."""
    variables = session.graph.get_collection(v1.GraphKeys.GLOBAL_VARIABLES)
    feeds = {variable.initializer.inputs[1]: values[variable.op.name] for variable in variables}
    session.run([variable.initializer for variable in variables], feeds)


def relative_difference(result: np.ndarray, expected: np.ndarray) -> float:
    """Norm of the difference over the norm of what is expected."""
    return float(np.linalg.norm(result - expected) / np.linalg.norm(expected))
