"""A frozen graph of TensorFlow, ``.pb``: one GraphDef with the weights as constants."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np

from tools.export.description import Description
from tools.export.staging import GRAPH
from tools.runtime.importing import import_tensorflow_alone

__all__ = ["load", "write"]


def write(folder: Path, description: Description, target: Path) -> None:
    """Copies the frozen graph."""
    shutil.copyfile(folder / GRAPH, target)


def load(target: Path, description: Description) -> Callable[[np.ndarray], dict[str, np.ndarray]]:
    """Imports the graph into a session without copies of the weights that it can do without.

    Its optimizer would take ten times the memory of the weights, and the whole graph beside the part that is run once.
    """
    import_tensorflow_alone()
    import tensorflow as tf

    v1 = tf.compat.v1
    with tf.Graph().as_default() as graph:
        tf.graph_util.import_graph_def(v1.GraphDef.FromString(target.read_bytes()), name="")
    config = v1.ConfigProto()
    config.graph_options.rewrite_options.disable_meta_optimizer = True
    config.graph_options.place_pruned_graph = True
    session = v1.Session(graph=graph, config=config)
    outputs = {output.name: output.tensor for output in description.outputs}
    return lambda images: session.run(outputs, {description.images.tensor: images})
