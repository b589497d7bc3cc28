"""Random weights and images whose activations are about as large as in a trained network."""

from collections.abc import Mapping

import numpy as np
import tensorflow as tf

from tools.runtime.freezing import freeze
from tools.runtime.sessions import assign, session_config

__all__ = ["assign_random_weights", "random_images"]

v1 = tf.compat.v1

# Preprocessing → bounds of its values.
_BOUNDS = {"vgg": (-120.0, 140.0), "inception": (-1.0, 1.0), "cifar": (-2.0, 2.0), "grayscale": (0.0, 1.0)}


def assign_random_weights(
    session: v1.Session,
    images_tensor: tf.Tensor,
    output_tensor: tf.Tensor,
    images: np.ndarray,
    seed: int = 0,
    scales: Mapping[str, float] | None = None,
) -> None:
    """Gives every variable a random value, and the moving statistics those of the images under these values.

    This is how training would leave them. With random statistics activations would vanish or overflow.

    Args:
      session: session of the network; its variables may lack values.
      images_tensor, output_tensor: tensors of its graph. The batch norms between them get their statistics.
      images: float32 [N, height, width, channels].
      seed: seed of the values.
      scales: name of a variable → factor of its value.
    """
    generator = np.random.default_rng(seed)
    with session.graph.as_default():
        variables = v1.global_variables()
    values = {v.op.name: _random_value(generator, v.op.name, v.shape.as_list()) for v in variables}
    if not any(name.endswith("moving_variance") for name in values):
        # Nothing else than the first kernel brings the range of the images down.
        values[variables[0].op.name] /= np.float32(images.std())
    for name, scale in (scales or {}).items():
        values[name] *= np.float32(scale)
    assign(session, variables, values)
    values |= _statistics(freeze(session, [output_tensor]), images_tensor.name, images)
    assign(session, variables, values)


def random_images(shape: tuple[int, ...] | list[int], preprocessing: str, seed: int = 0) -> np.ndarray:
    """Returns images of random patches in the range of a preprocessing's values, float32 [N, H, W, C]."""
    count, height, width, channels = shape
    generator = np.random.default_rng(seed)
    patches = generator.uniform(size=(count, -(-height // 8), -(-width // 8), channels))
    smooth = np.repeat(np.repeat(patches, 8, axis=1), 8, axis=2)[:, :height, :width]
    unit = 0.8 * smooth + 0.2 * generator.uniform(size=smooth.shape)
    low, high = _BOUNDS.get(preprocessing, (-1.0, 1.0))
    return (low + (high - low) * unit).astype(np.float32)


def _random_value(generator: np.random.Generator, name: str, shape: list[int]) -> np.ndarray:
    if len(shape) > 1:
        # He et al., arXiv:1502.01852, for layers before a ReLU.
        value = generator.normal(0, np.sqrt(2 / np.prod(shape[:-1])), shape)
    elif name.endswith(("gamma", "variance")):
        value = generator.uniform(0.5, 1.5, shape)
    else:
        value = generator.normal(0, 0.1, shape)
    return value.astype(np.float32)


def _statistics(graph_def: v1.GraphDef, images_name: str, images: np.ndarray) -> dict[str, np.ndarray]:
    """Returns the mean and variance of every batch norm's inputs, by the names of its moving statistics."""
    constants = {}
    for node in graph_def.node:
        if node.op == "FusedBatchNormV3":
            node.attr["is_training"].b = True
            for output, given in enumerate(node.input[3:5], start=1):
                constants[f"{node.name}:{output}"] = given
    with tf.Graph().as_default() as graph, v1.Session(config=session_config(optimize_graph=False)) as session:
        tf.graph_util.import_graph_def(graph_def, name="")
        fetches = {}
        for tensor, given in constants.items():
            source = graph.get_operation_by_name(given)
            while source.type == "Identity":
                source = source.inputs[0].op
            fetches[source.name] = tensor
        return session.run(fetches, {images_name: images})
