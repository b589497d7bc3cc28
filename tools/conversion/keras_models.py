"""Keras' half of a conversion: its own networks, with the weights of a file or with ours."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from checkpoints.errors import CheckpointError
from checkpoints.frameworks import Weights
from checkpoints.frameworks.keras_applications import APPLICATIONS, layer_pairs, top_of
from checkpoints.frameworks.keras_files import open_keras
from checkpoints.frameworks.keras_names import epsilons_of, keras_pool1_padding, pairs_in, to_keras
from nets.nets_factory import Network
from tools.conversion.keras_layers import check_layers, unlike
from tools.conversion.keras_points import layers_by_alias
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
    changes = {} if network.variant is None or weights.pool1_padding == "PAD1" else _SLIM_POOLING
    epsilons = {pair.norm: APPLICATIONS[network.name].slim_epsilon for pair in layer_pairs(network) if pair.norm}
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
            variable.assign(variables[variable.name])
    write_archive(path, model)
    del model
    forget_models()


def end_point_names(weights: Weights) -> list[str]:
    """Returns the aliases of the shared end points, in the order of the graph."""
    return list(layers_by_alias(weights))


def outputs(path: Path, weights: Weights, pixels: np.ndarray) -> dict[str, np.ndarray]:
    """Returns the end points of Keras' own network with the weights of a file, by our aliases.

    Args:
      path: Keras' file.
      weights: description of the weights; the values are not used.
      pixels: uint8 [N, size, size, 3], RGB. The size is one that the network can be built for.

    Raises:
      CheckpointError: if the file's configuration and its names belong to different networks.
    """
    names = layers_by_alias(weights)
    model = _model_of(path, weights, pixels.shape[1])
    fetched = keras.Model(model.inputs[0], [model.get_layer(name).output for name in names.values()])
    computed = fetched(_input(weights, pixels), training=False)
    results = dict(zip(names, map(np.array, computed), strict=True))
    del model, fetched, computed
    forget_models()
    return results


def _model_of(path: Path, weights: Weights, size: int) -> keras.Model:
    """Returns Keras' own network with the weights of a file, after checking that the file's configuration equals it."""
    network = weights.network
    with open_keras(path) as file:
        top, pairs = top_of(file.variables), pairs_in(file, network)
        slim_pooling = network.variant is not None and keras_pool1_padding(file, network) == "SAME"
        changes = _SLIM_POOLING if slim_pooling else {}
        # Without a top, a file of weights does not tell how its network ended, and the rest does not depend on it.
        num_classes = file.variables[top]["bias"].size if top else 0
        own = {
            there: ours
            for pair, here in zip(pairs, layer_pairs(network, top is not None), strict=True)
            for there, ours in ((pair.theirs, here.theirs), (pair.norm, here.norm))
            if there
        }
        epsilons = {own[name]: value for name, value in epsilons_of(file).items() if name in own}
        model = _model(network, num_classes, size, weights.channels, changes, epsilons)
        if file.layers is not None:
            check_layers(file, model.get_config()["layers"], network)
        for name in file.variables:
            layer = model.get_layer(own[name])
            for variable in layer.weights:
                shape = file.variables[name][variable.name].shape if variable.name in file.variables[name] else None
                if shape != variable.shape:
                    raise unlike(file, f"has {variable.name} of {name!r} in another shape, {shape}")
            for variable in layer.weights:
                variable.assign(file.read(name, variable.name))
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
    application = getattr(keras.applications, APPLICATIONS[network.name].function)
    images = keras.Input((size, size, channels))
    model = application(
        weights=None, include_top=bool(num_classes), input_tensor=images, classes=num_classes or _CLASSES
    )
    # A layer reads its arguments when it is called or saved, so they can be set on the finished model.
    for name, arguments in ({name: {"epsilon": value} for name, value in epsilons.items()} | dict(changes)).items():
        for argument, value in arguments.items():
            setattr(model.get_layer(name), argument, value)
    return model


def _takes_bgr(weights: Weights) -> bool:
    """Returns whether the model expects images from Keras' own preprocessing, which reverses their colours."""
    application = APPLICATIONS[weights.network.name]
    return application.takes_bgr and weights.preprocessing == application.preprocessing and weights.channels == 3


def _input(weights: Weights, pixels: np.ndarray) -> np.ndarray:
    application = APPLICATIONS[weights.network.name]
    if (preprocessing := preprocessing_for(weights)) != application.preprocessing:
        return NORMALIZED[preprocessing](pixels.astype(np.float32))
    return getattr(keras.applications, application.module).preprocess_input(pixels.astype(np.float32))
