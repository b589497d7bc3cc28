"""The ResNets of ``keras.applications`` and slim's: the same functions, whose weights differ by names and folding.

Keras' convolutions of version 1 have biases in front of their batch norms, its epsilon is 1.001e-5 where slim's is
1e-5, and version 1 takes its images as BGR. A bias is folded into the moving mean and the epsilon's difference into the
moving variance; the first kernel's input channels are put in the other order.
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

# From our networks to the functions of keras.applications.
APPLICATIONS = {
    **{f"resnet_v1_{depth}": f"ResNet{depth}" for depth in (50, 101, 152)},
    **{f"resnet_v2_{depth}": f"ResNet{depth}V2" for depth in (50, 101, 152)},
}

# From our families to the preprocessing of slim's that is the same as Keras' own.
PREPROCESSING = {"resnet_v1": "vgg", "resnet_v2": "inception"}

SLIM_EPSILON = 1e-5
_KERAS_EPSILON = 1.001e-5

# What the classifying layer is called: by Keras today, and in its hosted files.
_TOPS = ("predictions", "probs", "fc1000")

# The variables of a batch norm, which Keras and slim call alike.
_NORM = ("gamma", "beta", "moving_mean", "moving_variance")

_UNIT = re.compile(r"conv(?P<block>\d+)_block(?P<unit>\d+)_1_conv")


class FromKeras(NamedTuple):
    """Weights that were Keras'.

    network: of the table.
    num_classes: 0 without the top.
    channels: of the images.
    values: by slim's names, relative to the network's scope.
    folded: those of the names whose values another variable of Keras' went into.
    """

    network: Network
    num_classes: int
    channels: int
    values: dict[str, np.ndarray]
    folded: tuple[str, ...]


def layer_pairs(network: Network, top: str | None = "predictions") -> Iterator[LayerPair]:
    """The layers of a network, in the order of its graph; ``top`` is the classifying layer's name, or None."""
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
    """Weights of one of the six networks of ``keras.applications``, as slim's.

    Raises:
      CheckpointError: if it holds another network.
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
    """Weights of slim's names as Keras' layers have them, for batch norms of slim's epsilon.

    Args:
      values: gives a value by its name, relative to the network's scope.
      network: one of ``APPLICATIONS``.
      with_top: whether there are logits.
      reverse_channels: whether the images come as BGR.

    Yields:
      The layers' names and variables, one by one; biases of zeros where Keras has them and slim has none.
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
    """How the file's network pads its first pooling: as ``keras.applications`` does, unless its configuration says
    'same', which is what ``to_keras``' models have of slim."""
    return "SAME" if _configured(file, "padding").get("pool1_pool") == "same" else "PAD1"


def keras_image_size(file: KerasFile) -> int | None:
    """Returns the height and width of a model's images; None where it takes any, or they are not square."""
    shapes = _configured(file, "batch_shape") | _configured(file, "batch_input_shape")  # of Keras 3 and 2
    for shape in shapes.values():
        if isinstance(shape, list) and len(shape) == 4 and type(shape[1]) is int and shape[1] == shape[2] > 0:
            return min(shape[1], LARGEST_SIZE)
    return None


def top_of(file: KerasFile) -> str | None:
    """The name of the classifying layer; None without one."""
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
    # Colours come as BGR to version 1, and other channels as they are.
    if pair.ours == "conv1" and network.family == "resnet_v1" and kernel.shape[2] == 3:
        return kernel[:, :, ::-1]
    return kernel


def _plus(variance: np.ndarray, more: float) -> np.ndarray:
    return (variance.astype(np.float64) + more).astype(variance.dtype)


def epsilons_of(file: KerasFile) -> dict[str, float]:
    """From batch norms to what a model's configuration says of their epsilons; none of weights alone."""
    found = _configured(file, "epsilon")
    if strange := [name for name, value in found.items() if not (isinstance(value, float) and 0 < value < 1)]:
        raise _another(file, f"has {found[strange[0]]!r} for the epsilon of its layer {strange[0]!r}")
    return {name: float(value) for name, value in found.items()}


def _configured(file: KerasFile, key: str) -> dict[str, Any]:
    """From layers' names to what the model's configuration says of one of their arguments."""
    return {layer["config"]["name"]: layer["config"][key] for layer in file.layers or () if key in layer["config"]}
