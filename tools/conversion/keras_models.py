"""Keras' half of a conversion: its own networks, with the weights of a file or of ours."""

import functools
import gc
import shutil
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from checkpoints.errors import CheckpointError
from checkpoints.frameworks import Weights
from checkpoints.frameworks.keras_files import open_keras
from checkpoints.frameworks.keras_names import (
    APPLICATIONS,
    PREPROCESSING,
    SLIM_EPSILON,
    epsilons_of,
    keras_pool1_padding,
    layer_pairs,
    to_keras,
    top_of,
)
from checkpoints.frameworks.layer_pairs import unit_names
from checkpoints.frameworks.tensor_files import writing
from nets.nets_factory import Network
from tools.conversion.keras_layers import check_layers, unlike
from tools.conversion.proof_images import NORMALIZED, preprocessing_for
from tools.runtime.importing import import_tensorflow

import_tensorflow()

import keras  # noqa: E402

__all__ = ["end_point_names", "outputs", "write_model"]

# Of Keras' own networks, where the top is left out and they ask for it all the same.
_CLASSES = 1000

# How a model whose first pooling is slim's differs from Keras' own.
_SLIM_POOLING = {"pool1_pad": {"padding": ((0, 0), (0, 0))}, "pool1_pool": {"padding": "same"}}


def write_model(path: Path, weights: Weights) -> None:
    """Writes weights as a Keras model, which pools as they want it.

    Raises:
      OSError: if it cannot be written.
    """
    network = weights.network
    changes = {} if weights.pool1_padding == "PAD1" else _SLIM_POOLING
    epsilons = {pair.norm: SLIM_EPSILON for pair in layer_pairs(network) if pair.norm}
    model = _model(network, weights.num_classes, weights.image_size, weights.channels, changes, epsilons)
    for name, variables in to_keras(weights.value, network, bool(weights.num_classes), _takes_bgr(weights)):
        layer = model.get_layer(name)
        for variable in layer.weights:
            shape = variables[variable.name].shape
            if shape != variable.shape:
                raise CheckpointError(
                    f"{weights.path} has the {variable.name} of what is {name!r} to Keras in the shape {list(shape)} "
                    f"and not {list(variable.shape)}: take the original file.",
                    "unknown network",
                )
        _set_weights(layer, variables.__getitem__)
    # Not the archive itself, which Keras makes up in memory, of three times the weights.
    unpacked = path.with_name(f"{path.name}.d")
    with writing(path):
        keras.saving.save_model(model, unpacked, zipped=False)
    del model
    _forget()
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for file in sorted(unpacked.iterdir()):
            archive.write(file, file.name)
    shutil.rmtree(unpacked)


def end_point_names(weights: Weights) -> list[str]:
    """Aliases of the end points that both have, in the order of the graph."""
    return list(_layers_by_alias(weights))


def outputs(path: Path, weights: Weights, pixels: np.ndarray) -> dict[str, np.ndarray]:
    """The end points of Keras' own network with the weights of a file, by our aliases.

    Args:
      path: Keras' file.
      weights: what is known of them.
      pixels: uint8 [N, size, size, 3], RGB.

    Raises:
      CheckpointError: if the file's configuration is of another network than its names.
    """
    names = _layers_by_alias(weights)
    model = _model_of(path, weights)
    fetched = keras.Model(model.inputs[0], [model.get_layer(name).output for name in names.values()])
    computed = fetched(_input(weights, pixels), training=False)
    results = dict(zip(names, map(np.array, computed), strict=True))
    del model, fetched, computed
    _forget()
    return results


def _model_of(path: Path, weights: Weights) -> keras.Model:
    """Keras' own network with the weights of a file, once its configuration was seen to be that network's."""
    network = weights.network
    with open_keras(path) as file:
        top = top_of(file)
        changes = _SLIM_POOLING if keras_pool1_padding(file) == "SAME" else {}
        # Of a network without a top a file of weights does not tell how it ended; nor does it matter to the rest.
        num_classes = file.variables[top]["bias"].size if top else 0
        model = _model(network, num_classes, None, weights.channels, changes, epsilons_of(file))
        if file.layers is not None:
            check_layers(file, model.get_config()["layers"], network)
        for name in file.variables:
            layer = model.get_layer("predictions" if name == top else name)
            for variable in layer.weights:
                shape = file.variables[name][variable.name].shape if variable.name in file.variables[name] else None
                if shape != variable.shape:
                    raise unlike(file, f"has {variable.name} of {name!r} in another shape, {shape}")
            _set_weights(layer, functools.partial(file.read, name))
    return model


def _model(
    network: Network,
    num_classes: int,
    size: int | None,
    channels: int,
    changes: Mapping[str, dict[str, Any]],
    epsilons: Mapping[str, float],
) -> keras.Model:
    """Keras' own network, with other arguments of some layers.

    Args:
      network: one of ``APPLICATIONS``.
      num_classes: 0 for no top.
      size: of its images; None for any.
      channels: likewise.
      changes: from layers' names to what their arguments are changed to.
      epsilons: of the batch norms, likewise.
    """
    keras.backend.clear_session()
    application = getattr(keras.applications, APPLICATIONS[network.name])
    images = keras.Input((size, size, channels))
    model = application(
        weights=None, include_top=bool(num_classes), input_tensor=images, classes=num_classes or _CLASSES
    )
    # A layer reads its arguments when it is called or saved; making it anew from a configuration would be a second one.
    for name, arguments in ({name: {"epsilon": value} for name, value in epsilons.items()} | dict(changes)).items():
        for argument, value in arguments.items():
            setattr(model.get_layer(name), argument, value)
    return model


def _forget() -> None:
    """Frees the models that nobody has a name for any more: they refer to themselves in circles."""
    keras.backend.clear_session()
    gc.collect()


def _set_weights(layer: keras.Layer, read: Callable[[str], np.ndarray]) -> None:
    for variable in layer.weights:
        variable.assign(read(variable.name))


def _layers_by_alias(weights: Weights) -> dict[str, str]:
    """From our end points to Keras' layers whose outputs they are."""
    network = weights.network
    preactivation = network.family == "resnet_v2"
    # Of a unit, what follows its convolutions before the next thing happens.
    suffixes = {"conv1": "1_relu", "conv2": "2_relu", "conv3": "3_conv" if preactivation else "3_bn"}
    shortcut = "0_conv" if preactivation else "0_bn"
    names = {"conv1": "conv1_conv" if preactivation else "conv1_relu", "pool1": "pool1_pool"}
    for block, unit, _ in unit_names(network):
        ours, theirs = f"block{block}/unit_{unit}", f"conv{block + 1}_block{unit}"
        if unit == 1:
            names[f"{ours}/shortcut"] = f"{theirs}_{shortcut}"
        names |= {f"{ours}/{layer}": f"{theirs}_{suffix}" for layer, suffix in suffixes.items()}
        names[ours] = f"{theirs}_out"
    if preactivation:
        names["postnorm"] = "post_relu"
    if weights.num_classes:
        names |= {"global_pool": "avg_pool", "predictions": "predictions"}
    return names


def _takes_bgr(weights: Weights) -> bool:
    """Whether the model takes its images as ``keras.applications.resnet.preprocess_input`` makes them."""
    of_keras = weights.preprocessing == PREPROCESSING["resnet_v1"] and weights.channels == 3
    return weights.network.family == "resnet_v1" and of_keras


def _input(weights: Weights, pixels: np.ndarray) -> np.ndarray:
    family = weights.network.family
    if (preprocessing := preprocessing_for(weights)) != PREPROCESSING[family]:
        return NORMALIZED[preprocessing](pixels.astype(np.float32))
    own = keras.applications.resnet if family == "resnet_v1" else keras.applications.resnet_v2
    return own.preprocess_input(pixels.astype(np.float32))
