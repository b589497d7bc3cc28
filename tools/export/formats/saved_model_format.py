"""A SavedModel, a folder for TensorFlow's servers: the signature is ``serving_default``, and the labels an asset.

The weights are variables, under slim's names. As constants they would take those who load the folder ten times the
memory of the weights.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from tools.export.description import Description
from tools.export.staging import GRAPH
from tools.runtime.importing import import_tensorflow, import_tensorflow_alone

__all__ = ["load", "write"]


def write(folder: Path, description: Description, target: Path) -> None:
    """Writes the folder, with the labels as an asset."""
    import_tensorflow()
    import tensorflow as tf

    from checkpoints.restoring.assignment import assign
    from tools.runtime.freezing import import_thawed

    v1 = tf.compat.v1
    with tf.Graph().as_default() as graph, v1.Session() as session:
        assign(session, import_thawed(v1.GraphDef.FromString((folder / GRAPH).read_bytes())))
        assets = None
        if description.labels is not None:
            labels = folder / "labels.txt"
            labels.write_text("".join(f"{label}\n" for label in description.labels), encoding="utf-8")
            v1.add_to_collection(v1.GraphKeys.ASSET_FILEPATHS, tf.constant(str(labels), name="labels_file"))
            assets = v1.get_collection(v1.GraphKeys.ASSET_FILEPATHS)

        def info(tensor: str) -> v1.TensorInfo:
            return v1.saved_model.build_tensor_info(graph.get_tensor_by_name(tensor))

        signature = v1.saved_model.build_signature_def(
            {description.images.name: info(description.images.tensor)},
            {output.name: info(output.tensor) for output in description.outputs},
            v1.saved_model.signature_constants.PREDICT_METHOD_NAME,
        )
        builder = v1.saved_model.Builder(str(target))
        builder.add_meta_graph_and_variables(
            session,
            [v1.saved_model.tag_constants.SERVING],
            {v1.saved_model.signature_constants.DEFAULT_SERVING_SIGNATURE_DEF_KEY: signature},
            assets_collection=assets,
            clear_devices=True,
        )
        builder.save()


def load(target: Path, description: Description) -> Callable[[np.ndarray], dict[str, np.ndarray]]:
    """Loads the folder as a program of TensorFlow 2 does, without the optimizer, which takes ten times the weights."""
    import_tensorflow_alone()
    import tensorflow as tf

    tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": True})
    loaded = tf.saved_model.load(str(target))

    def run(images: np.ndarray) -> dict[str, np.ndarray]:
        computed = loaded.signatures["serving_default"](**{description.images.name: tf.constant(images)})
        return {name: value.numpy() for name, value in computed.items()}

    return run
