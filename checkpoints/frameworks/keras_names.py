"""Converts weights between slim's ResNets and those of ``keras.applications``, which compute the same functions.

Keras' version 1 has biases before its batch norms and takes images as BGR; Keras' epsilon is 1.001e-5, and slim's 1e-5.
A bias is folded into the moving mean, and the difference of the epsilons into the moving variance; the input channels
of the first kernel are reversed.
"""

import re
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

from checkpoints.errors import CheckpointError
from checkpoints.files.notes import LARGEST_SIZE
from checkpoints.frameworks.keras_files import KerasFile
from checkpoints.frameworks.layer_pairs import LayerPair, unit_names
from nets.nets_factory import NETWORKS, Network

__all__ = [
    "APPLICATIONS",
    "PREPROCESSING",
    "SLIM_EPSILON",
    "FromKeras",
    "epsilons_of",
    "from_keras",
    "keras_image_size",
    "keras_pool1_padding",
    "layer_pairs",
    "to_keras",
    "top_of",
]

# The functions of keras.applications, by our networks.
APPLICATIONS = {
    **{f"resnet_v1_{depth}": f"ResNet{depth}" for depth in (50, 101, 152)},
    **{f"resnet_v2_{depth}": f"ResNet{depth}V2" for depth in (50, 101, 152)},
}

# The preprocessing of slim that equals Keras' own, by our families.
PREPROCESSING = {"resnet_v1": "vgg", "resnet_v2": "inception"}

SLIM_EPSILON = 1e-5
_KERAS_EPSILON = 1.001e-5

# Names of the classifying layer: in Keras today, and in its hosted files.
_TOPS = ("predictions", "probs", "fc1000")

# The variables of a batch norm, which have the same names in Keras and slim.
_NORM = ("gamma", "beta", "moving_mean", "moving_variance")

_UNIT = re.compile(r"conv(?P<block>\d+)_block(?P<unit>\d+)_1_conv")

# The beginning of a layer's name in a network that was exported to Keras.
_SLIM_UNIT = re.compile(r"block\d+_unit_\d+_|unit_\d+_\d+_sub\d_")


class FromKeras(NamedTuple):
    """Weights converted from Keras.

    network: network of the table.
    num_classes: number of classes; 0 without the top.
    channels: channels of the images.
    values: values by slim's names, relative to the network's scope.
    folded: names of the values into which another variable was folded.
    """

    network: Network
    num_classes: int
    channels: int
    values: dict[str, np.ndarray]
    folded: tuple[str, ...]


def layer_pairs(network: Network, top: str | None = "predictions") -> Iterator[LayerPair]:
    """Yields the layers of a network in the order of its graph; ``top`` is the classifying layer's name, or None."""
    preactivation = network.family == "resnet_v2"
    yield LayerPair("conv1", "conv1_conv", None if preactivation else "conv1_bn")
    for block, unit, scope in unit_names(network):
        name = f"conv{block + 1}_block{unit}"
        if preactivation:
            yield LayerPair(f"{scope}/preact", None, f"{name}_preact_bn")
        if unit == 1:
            yield LayerPair(f"{scope}/shortcut", f"{name}_0_conv", None if preactivation else f"{name}_0_bn")
        yield LayerPair(f"{scope}/conv1", f"{name}_1_conv", f"{name}_1_bn")
        yield LayerPair(f"{scope}/conv2", f"{name}_2_conv", f"{name}_2_bn")
        yield LayerPair(f"{scope}/conv3", f"{name}_3_conv", None if preactivation else f"{name}_3_bn")
    if preactivation:
        yield LayerPair("postnorm", None, "post_bn")
    if top:
        yield LayerPair("logits", top, None)


def from_keras(file: KerasFile) -> FromKeras:
    """Converts the weights of one of the six ResNets of ``keras.applications`` to slim's.

    Raises:
      CheckpointError: if the file holds another network.
    """
    network, top = _network(file), top_of(file)
    application = APPLICATIONS[network.name]
    pairs = list(layer_pairs(network, top))
    expected = {name for pair in pairs for name in (pair.theirs, pair.norm) if name}
    if lacking := sorted(expected - set(file.variables)):
        raise _another(file, f"is no {application}: it has no layer {lacking[0]!r}")
    if others := sorted(set(file.variables) - expected):
        raise _another(file, f"is more than a {application}: it has a layer {others[0]!r} besides")
    epsilons = epsilons_of(file)
    values, folded = {}, []
    for pair in pairs:
        bias = None
        if pair.theirs:
            values[f"{pair.ours}/weights"] = _our_kernel(file, pair, network)
            if "bias" in file.variables[pair.theirs] or not pair.norm:
                bias = _value(file, pair.theirs, "bias")
        if not pair.norm:
            values[f"{pair.ours}/biases"] = bias
            continue
        norm = {leaf: _value(file, pair.norm, leaf) for leaf in _NORM}
        if bias is not None and bias.shape != norm["moving_mean"].shape:
            raise _another(file, f"has the layers {pair.theirs!r} and {pair.norm!r} in other shapes than each other's")
        if bias is not None and np.any(bias):
            folded.append(f"{pair.our_norm}/moving_mean")
            norm["moving_mean"] = norm["moving_mean"] - bias
        if more := epsilons.get(pair.norm, _KERAS_EPSILON) - SLIM_EPSILON:
            folded.append(f"{pair.our_norm}/moving_variance")
            norm["moving_variance"] = _plus(norm["moving_variance"], more)
        values |= {f"{pair.our_norm}/{leaf}": value for leaf, value in norm.items()}
    num_classes = values["logits/biases"].size if top else 0
    return FromKeras(network, num_classes, values["conv1/weights"].shape[2], values, tuple(folded))


def to_keras(
    values: Callable[[str], np.ndarray], network: Network, with_top: bool, reverse_channels: bool
) -> Iterator[tuple[str, dict[str, np.ndarray]]]:
    """Converts slim's weights to Keras' layers, for batch norms with slim's epsilon.

    Args:
      values: returns a value by its name, relative to the network's scope.
      network: one of ``APPLICATIONS``.
      with_top: whether there are logits.
      reverse_channels: whether the images come as BGR.

    Yields:
      The name and variables of each layer; biases that slim does not have are zeros.
    """
    for pair in layer_pairs(network, "predictions" if with_top else None):
        if pair.theirs:
            kernel = values(f"{pair.ours}/weights")
            if pair.ours == "logits":
                kernel = kernel[0, 0]
            elif pair.ours == "conv1" and reverse_channels:
                kernel = kernel[:, :, ::-1]
            bias = np.zeros(kernel.shape[-1], kernel.dtype) if pair.norm else values(f"{pair.ours}/biases")
            yield pair.theirs, {"kernel": kernel, "bias": bias}
        if pair.norm:
            yield pair.norm, {leaf: values(f"{pair.our_norm}/{leaf}") for leaf in _NORM}


def keras_pool1_padding(file: KerasFile) -> str:
    """Returns the padding of the network's first pooling.

    It is that of ``keras.applications``, unless the configuration says 'same', as models converted from slim do.
    """
    return "SAME" if _configured(file, "padding").get("pool1_pool") == "same" else "PAD1"


def keras_image_size(file: KerasFile) -> int | None:
    """Returns the height and width of a model's images; None if it takes any size, or they are not square."""
    shapes = _configured(file, "batch_shape") | _configured(file, "batch_input_shape")  # of Keras 3 and 2
    for shape in shapes.values():
        if isinstance(shape, list) and len(shape) == 4 and type(shape[1]) is int and shape[1] == shape[2] > 0:
            return min(shape[1], LARGEST_SIZE)
    return None


def top_of(file: KerasFile) -> str | None:
    """Returns the name of the classifying layer; None without one."""
    return next((name for name in _TOPS if name in file.variables), None)


def _network(file: KerasFile) -> Network:
    layers = file.variables
    units: dict[int, int] = {}
    for name in layers:
        if match := _UNIT.fullmatch(name):
            block = int(match["block"]) - 1
            units[block] = max(units.get(block, 0), int(match["unit"]))
    family = "resnet_v2" if "conv2_block1_preact_bn" in layers else "resnet_v1"
    counts = tuple(units[block] for block in sorted(units))
    for name in APPLICATIONS:
        network = NETWORKS[name]
        if network.family == family and network.variant.units == counts:
            return network
    if any(_SLIM_UNIT.match(name) for name in layers):
        raise CheckpointError(
            f"{file.path} is a network with slim's names for its layers, as slimnets exports it, and not one of Keras' "
            "own: convert the checkpoint that it was made from.",
            "unknown network",
        )
    examples = ", ".join(list(layers)[:3]) or "none at all"
    raise _another(file, f"holds none of Keras' ResNets (its layers with weights are {examples}, ...)")


def _another(file: KerasFile, what: str) -> CheckpointError:
    return CheckpointError(
        f"{file.path} {what}: what can be converted are keras.applications' {', '.join(APPLICATIONS.values())}, by the "
        "names that Keras gives their layers.",
        "unknown network",
    )


def _value(file: KerasFile, layer: str, name: str) -> np.ndarray:
    if name not in file.variables[layer]:
        raise _another(file, f"has no {name} in its layer {layer!r}")
    value = file.read(layer, name)
    if not isinstance(value, np.ndarray) or value.dtype.kind != "f":
        raise _another(file, f"has no numbers in the {name} of its layer {layer!r}")
    return value


def _our_kernel(file: KerasFile, pair: LayerPair, network: Network) -> np.ndarray:
    kernel = _value(file, pair.theirs, "kernel")
    if kernel.ndim != (2 if pair.ours == "logits" else 4) or 0 in kernel.shape:
        raise _another(
            file, f"has its layers in other shapes: the kernel of {pair.theirs!r} is of shape {list(kernel.shape)}"
        )
    if pair.ours == "logits":
        return kernel[None, None]
    # Version 1 takes colours as BGR, and other channels unchanged.
    if pair.ours == "conv1" and network.family == "resnet_v1" and kernel.shape[2] == 3:
        return kernel[:, :, ::-1]
    return kernel


def _plus(variance: np.ndarray, more: float) -> np.ndarray:
    return (variance.astype(np.float64) + more).astype(variance.dtype)


def epsilons_of(file: KerasFile) -> dict[str, float]:
    """Returns the epsilons of the batch norms in a model's configuration; none for weights alone."""
    found = _configured(file, "epsilon")
    if strange := [name for name, value in found.items() if not (isinstance(value, float) and 0 < value < 1)]:
        raise _another(file, f"has {found[strange[0]]!r} for the epsilon of its layer {strange[0]!r}")
    return {name: float(value) for name, value in found.items()}


def _configured(file: KerasFile, key: str) -> dict[str, Any]:
    """Returns one argument of the layers in the model's configuration (name of the layer → value)."""
    return {layer["config"]["name"]: layer["config"][key] for layer in file.layers or () if key in layer["config"]}
