"""Writes Keras' archives: of any Keras model, and of a network that the layers of a frozen graph make up."""

import gc
import shutil
import zipfile
from collections.abc import Mapping
from pathlib import Path

import tensorflow as tf

from checkpoints.frameworks.tensor_files import writing
from tools.errors import InputError
from tools.peers.keras_model import build_model
from tools.peers.layer_list import UntranslatedError, layers_of
from tools.runtime.importing import import_tensorflow

import_tensorflow()

import keras  # noqa: E402

__all__ = ["forget_models", "write_archive", "write_keras"]


def write_keras(
    path: Path, graph_def: tf.compat.v1.GraphDef, images_name: str, outputs: Mapping[str, str], network: str
) -> None:
    """Writes a frozen graph as a Keras model of Keras' own layers, which ``keras.models.load_model`` opens.

    The model takes a batch of any number of images, float32 [N, height, width, channels], as the graph does after
    preprocessing. It returns a dict of the outputs; those of height and width 1 are [N, channels]. The layers have
    slim's names, such as 'block1_unit_1_conv1', and can be trained. Batch norms have Keras' momentum, because a frozen
    graph does not tell the decay, and dropout is left out.

    Args:
      path: file to write, which must end in '.keras' for Keras to open it.
      graph_def: graph with weights as constants, such as ``freezing.freeze`` returns, and a placeholder of fixed
        height, width and channels.
      images_name: name of the placeholder's tensor.
      outputs: name of an output of the model → name of the graph's tensor.
      network: name of the network, for messages and for the model.

    Raises:
      InputError: if Keras' layers cannot express the graph. The message names the network and the op.
      OSError: if the file cannot be written.
    """
    # Keras numbers unnamed ops from the last session's.
    keras.backend.clear_session()
    try:
        layers, computed = layers_of(graph_def, images_name, outputs.values())
    except UntranslatedError as error:
        raise InputError(
            f"{network} cannot be written for Keras, because {error.reason}: choose another format."
        ) from error
    names = {output: computed[tensor] for output, tensor in outputs.items()}
    model = build_model(layers, names, squeeze=True, name=network)
    del layers
    write_archive(path, model)
    del model
    forget_models()


def write_archive(path: Path, model: keras.Model) -> None:
    """Writes a model as Keras' archive.

    Raises:
      OSError: if the file cannot be written.
    """
    # Keras would make the archive in memory, which takes three times the weights.
    unpacked = path.with_name(f"{path.name}.d")
    try:
        with writing(path):
            keras.saving.save_model(model, unpacked, zipped=False)
        with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
            for file in sorted(unpacked.iterdir()):
                archive.write(file, file.name)
    finally:
        shutil.rmtree(unpacked, ignore_errors=True)


def forget_models() -> None:
    """Frees unused models, which the reference counts do not free because they refer to themselves."""
    keras.backend.clear_session()
    gc.collect()
