"""Keras' half of a conversion: its own networks, with the weights of a file or with ours."""

import functools
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
from nets.nets_factory import Network
from tools.conversion.keras_layers import check_layers, unlike
from tools.conversion.keras_writing import forget_models, write_archive
from tools.conversion.proof_images import NORMALIZED, preprocessing_for
from tools.runtime.importing import import_tensorflow

import_tensorflow()

import keras  # noqa: E402

__all__ = ["end_point_names", "outputs", "write_model"]

# Classes of Keras' own networks. They require a number even without a top.
_CLASSES = 1000

# Arguments that turn Keras' first pooling into slim's.
_SLIM_POOLING = {"pool1_pad": {"padding": ((0, 0), (0, 0))}, "pool1_pool": {"padding": "same"}}


def write_model(path: Path, weights: Weights) -> None:
    """Writes weights as a Keras model with the pooling that they require.

    Raises:
      CheckpointError: if a value has another shape than in Keras' network.
      OSError: if the file cannot be written.
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
                    f"{weights.path} has the {variable.name} of Keras' layer {name!r} in the shape {list(shape)} and "
                    f"not {list(variable.shape)}: take the original file.",
                    "unknown network",
                )
        _set_weights(layer, variables.__getitem__)
    write_archive(path, model)
    del model
    forget_models()


def end_point_names(weights: Weights) -> list[str]:
    """Returns the aliases of the shared end points, in the order of the graph."""
    return list(_layers_by_alias(weights))


def outputs(path: Path, weights: Weights, pixels: np.ndarray) -> dict[str, np.ndarray]:
    """Returns the end points of Keras' own network with the weights of a file, by our aliases.

    Args:
      path: Keras' file.
      weights: description of the weights; the values are not used.
      pixels: uint8 [N, size, size, 3], RGB.

    Raises:
      CheckpointError: if the file's configuration and its names belong to different networks.
    """
    names = _layers_by_alias(weights)
    model = _model_of(path, weights)
    fetched = keras.Model(model.inputs[0], [model.get_layer(name).output for name in names.values()])
    computed = fetched(_input(weights, pixels), training=False)
    results = dict(zip(names, map(np.array, computed), strict=True))
    del model, fetched, computed
    forget_models()
    return results


def _model_of(path: Path, weights: Weights) -> keras.Model:
    """Returns Keras' own network with the weights of a file, after checking that the file's configuration equals it."""
    network = weights.network
    with open_keras(path) as file:
        top = top_of(file)
        changes = _SLIM_POOLING if keras_pool1_padding(file) == "SAME" else {}
        # Without a top, a file of weights does not tell how its network ended, and the rest does not depend on it.
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
    """Returns Keras' own network, with changed arguments of some layers.

    Args:
      network: one of ``APPLICATIONS``.
      num_classes: number of classes; 0 for no top.
      size: height and width of the images; None for any.
      channels: number of channels of the images.
      changes: layer's name → argument → new value.
      epsilons: batch norm's name → its epsilon.
    """
    keras.backend.clear_session()
    application = getattr(keras.applications, APPLICATIONS[network.name])
    images = keras.Input((size, size, channels))
    model = application(
        weights=None, include_top=bool(num_classes), input_tensor=images, classes=num_classes or _CLASSES
    )
    # A layer reads its arguments when it is called or saved, so they can be set on the finished model.
    for name, arguments in ({name: {"epsilon": value} for name, value in epsilons.items()} | dict(changes)).items():
        for argument, value in arguments.items():
            setattr(model.get_layer(name), argument, value)
    return model


def _set_weights(layer: keras.Layer, read: Callable[[str], np.ndarray]) -> None:
    for variable in layer.weights:
        variable.assign(read(variable.name))


def _layers_by_alias(weights: Weights) -> dict[str, str]:
    """Returns our end points → the layers of Keras that compute them."""
    network = weights.network
    preactivation = network.family == "resnet_v2"
    # The last layer that belongs to each convolution of a unit.
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
    """Returns whether the model expects images from ``keras.applications.resnet.preprocess_input``."""
    of_keras = weights.preprocessing == PREPROCESSING["resnet_v1"] and weights.channels == 3
    return weights.network.family == "resnet_v1" and of_keras


def _input(weights: Weights, pixels: np.ndarray) -> np.ndarray:
    family = weights.network.family
    if (preprocessing := preprocessing_for(weights)) != PREPROCESSING[family]:
        return NORMALIZED[preprocessing](pixels.astype(np.float32))
    own = keras.applications.resnet if family == "resnet_v1" else keras.applications.resnet_v2
    return own.preprocess_input(pixels.astype(np.float32))
