"""Makes random weights for networks, and measures differences of results."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import tensorflow as tf

from nets import nets_factory

v1 = tf.compat.v1


def random_values(variables: list[tf.Variable], seed: int = 0) -> dict[str, np.ndarray]:
    """Returns ``random_values_of_shapes`` for variables."""
    return random_values_of_shapes({variable.op.name: variable.shape.as_list() for variable in variables}, seed)


def random_values_of_shapes(
    shapes: Mapping[str, Sequence[int]], seed: int = 0, gain: float = 1.0
) -> dict[str, np.ndarray]:
    """Returns random values by the names of variables, which keep all activations finite.

    No moving statistics are 0 or 1. ``gain`` is the variance of a kernel's output divided by its input's.
    """
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
    """Assigns values to the global variables of the session's graph."""
    variables = session.graph.get_collection(v1.GraphKeys.GLOBAL_VARIABLES)
    feeds = {variable.initializer.inputs[1]: values[variable.op.name] for variable in variables}
    session.run([variable.initializer for variable in variables], feeds)


def relative_difference(result: np.ndarray, expected: np.ndarray) -> float:
    """Returns the norm of the difference divided by the norm of the expected values."""
    return float(np.linalg.norm(result - expected) / np.linalg.norm(expected))


def slim_checkpoint(path: Path, name: str, num_classes: int) -> dict[str, np.ndarray]:
    """Saves random weights of one of our networks by TensorFlow's own saver, and returns them."""
    with tf.Graph().as_default(), v1.Session() as session:
        images = v1.placeholder(tf.float32, [1, 64, 64, 3])
        nets_factory.get_network_fn(name, num_classes)(images)
        variables = v1.global_variables()
        values = random_values_of_shapes({each.op.name: each.shape.as_list() for each in variables})
        session.run(
            [each.initializer for each in variables],
            {each.initializer.inputs[1]: values[each.op.name] for each in variables},
        )
        v1.train.Saver(variables).save(session, str(path), write_meta_graph=False, write_state=False)
    return values
