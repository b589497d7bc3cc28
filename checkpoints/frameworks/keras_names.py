"""Converts weights between slim's networks and those of ``keras.applications``, which compute the same functions.

Keras' ResNets of version 1 have biases before their batch norms, and the epsilon of Keras' ResNets is 1.001e-5, slim's
1e-5. A bias is folded into the moving mean, and the difference of the epsilons into the moving variance. ResNets of
version 1 and the VGGs take images as BGR: the input channels of the first kernel are reversed. The fully connected
layers of slim's VGGs are convolutions, and Keras' are matrices. The rows of a matrix are the positions and channels of
the kernel in their order.
"""

import re
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

from checkpoints.diagnosis import default_pool1_padding
from checkpoints.errors import CheckpointError
from checkpoints.files.identifying import SLIM_LAYER
from checkpoints.files.notes import LARGEST_SIZE
from checkpoints.frameworks.keras_applications import (
    APPLICATIONS,
    CONVERTIBLE,
    layer_pairs,
    names_in,
    network_of,
    top_of,
)
from checkpoints.frameworks.keras_files import KerasFile
from checkpoints.frameworks.layer_pairs import LayerPair
from nets.nets_factory import Network

__all__ = ["FromKeras", "epsilons_of", "from_keras", "keras_image_size", "keras_pool1_padding", "pairs_in", "to_keras"]


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


def pairs_in(file: KerasFile, network: Network) -> list[LayerPair]:
    """Returns the layers of a network in the order of its graph, by the names that the file has for them."""
    names = names_in(file.variables)
    return [
        pair._replace(theirs=names.get(pair.theirs, pair.theirs), norm=names.get(pair.norm, pair.norm))
        for pair in layer_pairs(network, top_of(file.variables) is not None)
    ]


def from_keras(file: KerasFile) -> FromKeras:
    """Converts the weights of one of ``APPLICATIONS`` to slim's.

    Raises:
      CheckpointError: if the file holds another network.
    """
    network = _network(file)
    application, pairs = APPLICATIONS[network.name], pairs_in(file, network)
    _check_layers(file, pairs, application.function, application.norm)
    epsilons = epsilons_of(file)
    values, folded = {}, []
    for pair in pairs:
        bias = None
        if pair.theirs:
            reverse = pair is pairs[0] and application.takes_bgr
            values[f"{pair.ours}/weights"] = _our_kernel(file, pair, reverse)
            if "bias" in file.variables[pair.theirs] or not pair.norm:
                bias = _value(file, pair.theirs, "bias")
        if not pair.norm:
            values[f"{pair.ours}/biases"] = bias
            continue
        norm = {leaf: _value(file, pair.norm, leaf) for leaf in application.norm}
        if bias is not None and bias.shape != norm["moving_mean"].shape:
            raise _another(file, f"has the layers {pair.theirs!r} and {pair.norm!r} in other shapes than each other's")
        if bias is not None and np.any(bias):
            folded.append(f"{pair.our_norm}/moving_mean")
            norm["moving_mean"] = norm["moving_mean"] - bias
        if more := epsilons.get(pair.norm, application.epsilon) - application.slim_epsilon:
            folded.append(f"{pair.our_norm}/moving_variance")
            norm["moving_variance"] = _plus(norm["moving_variance"], more)
        values |= {f"{pair.our_norm}/{leaf}": value for leaf, value in norm.items()}
    channels = values[f"{pairs[0].ours}/weights"].shape[2]
    num_classes = values[f"{pairs[-1].ours}/biases"].size if top_of(file.variables) else 0
    return FromKeras(network, num_classes, channels, values, tuple(folded))


def _check_layers(file: KerasFile, pairs: list[LayerPair], application: str, norm: tuple[str, ...]) -> None:
    """Raises CheckpointError if the file has other layers than these, or normalizations with other variables."""
    expected = {name for pair in pairs for name in (pair.theirs, pair.norm) if name}
    if lacking := sorted(expected - set(file.variables)):
        raise _another(file, f"is no {application}: it has no layer {lacking[0]!r}")
    if others := sorted(set(file.variables) - expected):
        raise _another(file, f"holds more than {application}: it has a layer {others[0]!r} besides")
    for layer in (pair.norm for pair in pairs if pair.norm):
        if others := sorted(file.variables[layer].keys() - set(norm)):
            raise _another(file, f"holds more than {application}: it has a {others[0]} in its layer {layer!r}")


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
    for i, pair in enumerate(layer_pairs(network, with_top)):
        if pair.theirs:
            kernel = values(f"{pair.ours}/weights")
            if pair.size:
                kernel = kernel.reshape(-1, kernel.shape[-1])
            elif i == 0 and reverse_channels:
                kernel = kernel[:, :, ::-1]
            bias = np.zeros(kernel.shape[-1], kernel.dtype) if pair.norm else values(f"{pair.ours}/biases")
            yield pair.theirs, {"kernel": kernel, "bias": bias}
        if pair.norm:
            yield pair.norm, {leaf: values(f"{pair.our_norm}/{leaf}") for leaf in APPLICATIONS[network.name].norm}


def keras_pool1_padding(file: KerasFile, network: Network) -> str:
    """Returns the padding of the network's first pooling.

    A ResNet's is that of ``keras.applications``, unless the configuration says 'same', as models converted from slim
    do.
    """
    if network.variant is None:
        return default_pool1_padding(network)
    return "SAME" if _configured(file, "padding").get("pool1_pool") == "same" else "PAD1"


def keras_image_size(file: KerasFile) -> int | None:
    """Returns the height and width of a model's images; None if it takes any size, or they are not square."""
    shapes = _configured(file, "batch_shape") | _configured(file, "batch_input_shape")  # of Keras 3 and 2
    for shape in shapes.values():
        if isinstance(shape, list) and len(shape) == 4 and type(shape[1]) is int and shape[1] == shape[2] > 0:
            return min(shape[1], LARGEST_SIZE)
    return None


def _network(file: KerasFile) -> Network:
    layers = file.variables
    if network := network_of(layers):
        return network
    if any(re.match(SLIM_LAYER, name) for name in layers):
        raise CheckpointError(
            f"{file.path} is a network with slim's names for its layers, as slimnets exports it, and not one of Keras' "
            "own: convert the checkpoint that it was made from.",
            "unknown network",
        )
    examples = ", ".join(list(layers)[:3]) or "none at all"
    raise _another(file, f"holds another network (its layers with weights are {examples}, ...)")


def _another(file: KerasFile, what: str) -> CheckpointError:
    return CheckpointError(
        f"{file.path} {what}: what can be converted are {CONVERTIBLE}, by the names that Keras gives their layers.",
        "unknown network",
    )


def _value(file: KerasFile, layer: str, name: str) -> np.ndarray:
    if name not in file.variables[layer]:
        raise _another(file, f"has no {name} in its layer {layer!r}")
    value = file.read(layer, name)
    if not isinstance(value, np.ndarray) or value.dtype.kind != "f":
        raise _another(file, f"has no numbers in the {name} of its layer {layer!r}")
    return value


def _our_kernel(file: KerasFile, pair: LayerPair, reverse_colours: bool) -> np.ndarray:
    kernel = _value(file, pair.theirs, "kernel")
    positions = np.prod(pair.size or (1, 1))
    if kernel.ndim != (2 if pair.size else 4) or 0 in kernel.shape or (pair.size and kernel.shape[0] % positions):
        raise _another(
            file, f"has its layers in other shapes: the kernel of {pair.theirs!r} is of shape {list(kernel.shape)}"
        )
    if pair.size:
        return kernel.reshape(*pair.size, -1, kernel.shape[1])
    # Other channels than three are no colours, and stay as they are.
    return kernel[:, :, ::-1] if reverse_colours and kernel.shape[2] == 3 else kernel


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
