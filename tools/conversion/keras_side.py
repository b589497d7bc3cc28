"""Keras' half of a conversion: its own networks, with the weights of a file or of ours."""

import functools
import gc
import json
import re
import shutil
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from checkpoints.files import CheckpointError
from checkpoints.keras_files import KerasFile, open_keras
from checkpoints.keras_weights import (
    APPLICATIONS,
    PREPROCESSING,
    SLIM_EPSILON,
    epsilons_of,
    keras_pool1_padding,
    layer_pairs,
    to_keras,
    top_of,
)
from checkpoints.layer_pairs import unit_names
from checkpoints.tensor_files import writing
from checkpoints.weights import Weights
from nets.nets_factory import Network
from tools.conversion.pictures import NORMALIZED, preprocessing_for
from tools.startup import import_tensorflow

import_tensorflow()

import keras  # noqa: E402

__all__ = ["end_point_names", "outputs", "write_model"]

# Of Keras' own networks, where the top is left out and they ask for it all the same.
_CLASSES = 1000

# What has to be as in Keras' own network; what is not here does not change what an inference computes.
_ARGUMENTS = (
    "activation",
    "axis",
    "data_format",
    "dilation_rate",
    "filters",
    "groups",
    "kernel_size",
    "padding",
    "pool_size",
    "strides",
    "units",
)
# What a network without a top may end in.
_ENDS = {"avg_pool": "GlobalAveragePooling2D", "max_pool": "GlobalMaxPooling2D"}
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
            _check_layers(file, model.get_config()["layers"], network)
        for name in file.variables:
            layer = model.get_layer("predictions" if name == top else name)
            for variable in layer.weights:
                shape = file.variables[name][variable.name].shape if variable.name in file.variables[name] else None
                if shape != variable.shape:
                    raise _unlike(file, f"has {variable.name} of {name!r} in another shape, {shape}")
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


def _check_layers(file: KerasFile, own: Sequence[Mapping[str, Any]], network: Network) -> None:
    """Compares the layers of a file's model with those of Keras' own network.

    Raises:
      CheckpointError: if the model has a layer, an argument or a connection that Keras' own network does not have. It
        is read and compared, and never made: what it would run is not run.
    """
    theirs, ours = _described(file.layers), _described(own)
    if len(theirs) != len(file.layers):
        raise _unlike(file, "has several layers of one name, or several inputs")
    for name, kind in _ENDS.items():
        if name in theirs and name not in ours and theirs[name].kind == kind:
            del theirs[name]
    application = APPLICATIONS[network.name]
    for name, layer in theirs.items():
        if name not in ours:
            raise _unlike(file, f"has a layer {name!r} ({layer.kind}), which {application} has not")
        if not layer.is_as(ours[name]):
            what = f"has a layer {name!r} ({layer.kind}) that is not as {application} has it"
            raise _unlike(file, what + layer.difference_from(ours[name]))
    if lacking := [name for name in ours if name not in theirs]:
        raise _unlike(file, f"has no layer {lacking[0]!r}, which {application} has")


class _Described(NamedTuple):
    """A layer of a configuration: its class, what it is connected to, and the arguments that matter."""

    kind: str
    inputs: tuple[str, ...]
    arguments: dict[str, Any]

    def is_as(self, other: "_Described") -> bool:
        """Whether they are the same; an argument that one version of Keras does not write has its default."""
        both = self.arguments.keys() & other.arguments.keys()
        same = all(self.arguments[name] == other.arguments[name] for name in both)
        return same and (self.kind, self.inputs) == (other.kind, other.inputs)

    def difference_from(self, other: "_Described") -> str:
        """The first argument that differs, in parentheses; '' where it is something else that does."""
        for name in sorted(self.arguments.keys() & other.arguments.keys()):
            if self.arguments[name] != other.arguments[name]:
                return f" ({name} {self.arguments[name]!r} and not {other.arguments[name]!r})"
        return ""


def _described(layers: Sequence[Mapping[str, Any]]) -> dict[str, _Described]:
    """Layers as Keras 2 or 3 has them in a configuration, by name; the input's is of no consequence."""
    names = _lasting_names(layers)
    return {
        names[layer["config"]["name"]]: _Described(
            layer["class_name"],
            tuple(sorted(names.get(name, name) for name in _connections(layer.get("inbound_nodes", [])))),
            {key: _argument(layer["config"][key]) for key in _ARGUMENTS if key in layer["config"]},
        )
        for layer in layers
    }


def _lasting_names(layers: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """From layers' names to those that do not depend on how many models were made before.

    Keras calls a layer without a name after its class and counts on: the first 'max_pooling2d' of a second model is
    'max_pooling2d_3'.
    """
    counts: Counter[str] = Counter()
    names = {}
    for layer in layers:
        name, kind = layer["config"]["name"], layer["class_name"]
        own = re.sub(r"_\d+$", "", name).replace("_", "") == kind.lower()
        if kind == "InputLayer":
            names[name] = "input"
        else:
            names[name] = f"{kind} {counts[kind]}" if own else name
            counts[kind] += own
    return names


def _argument(value: Any) -> Any:
    """Without tuples, as JSON has it, and as one number where Keras 2 wrote a list of one: the axis [3]."""
    value = json.loads(json.dumps(value))
    return value[0] if isinstance(value, list) and len(value) == 1 else value


def _connections(node: Any) -> Iterator[str]:
    """The names in ['conv1_pad', 0, 0], which is how Keras writes one of a layer's inputs, wherever that stands."""
    if isinstance(node, Mapping):
        node = list(node.values())
    if not isinstance(node, list | tuple):
        return
    if len(node) >= 3 and isinstance(node[0], str) and isinstance(node[1], int) and isinstance(node[2], int):
        yield node[0]
        return
    for inner in node:
        yield from _connections(inner)


def _unlike(file: KerasFile, what: str) -> CheckpointError:
    return CheckpointError(
        f"{file.path} {what}: what can be converted are Keras' own networks; nothing of this one was run.",
        "unknown network",
    )
