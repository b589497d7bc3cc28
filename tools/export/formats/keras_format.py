"""A model of Keras' own layers, ``.keras``, from the network's input to a dict of outputs."""

import functools
from collections.abc import Callable
from pathlib import Path

import numpy as np
import tensorflow as tf

from tools.export.description import Description
from tools.export.staging import GRAPH

__all__ = ["load", "write"]


def write(folder: Path, description: Description, target: Path) -> None:
    """Writes the layers of the frozen graph, which can be trained."""
    from tools.conversion.keras_writing import write_keras

    graph_def = tf.compat.v1.GraphDef.FromString((folder / GRAPH).read_bytes())
    outputs = {output.name: output.tensor for output in description.outputs}
    write_keras(target, graph_def, description.images.tensor, outputs, description.network)


def load(target: Path, description: Description) -> Callable[[np.ndarray], dict[str, np.ndarray]]:
    """Loads the model as a program of Keras does, and computes in a graph: a plain call keeps every layer's output."""
    import keras

    compute = tf.function(functools.partial(keras.models.load_model(target), training=False))
    return lambda images: {name: np.array(value) for name, value in compute(images).items()}
