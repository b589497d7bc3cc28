"""Builds a model of Keras' own layers from a list of layers, with names made of slim's scopes."""

import itertools
import posixpath
import re
from collections.abc import Iterable, Mapping, Sequence

from nets.endpoint_info import alias
from tools.errors import PeerError
from tools.peers.layer_list import Layer, dilated_size, same_padding
from tools.runtime.importing import import_tensorflow

import_tensorflow()

import keras  # noqa: E402
from keras import KerasTensor, layers  # noqa: E402

__all__ = ["build_model"]

# The last parts of an op's name that only tell its type.
_TYPES = re.compile(
    r"(?:/(?:AvgPool|BatchToSpaceND|Conv2D|FusedBatchNormV3|MatMul|MaxPool|Reshape_1|Softmax|convolution))+$"
)


def build_model(
    listed: Iterable[Layer], outputs: Mapping[str, str], *, squeeze: bool = False, name: str | None = None
) -> keras.Model:
    """Builds a functional model of the layers, with their weights.

    Args:
      listed: the layers, in an order in which they can be computed.
      outputs: name of an output → name of the layer in the list that computes it.
      squeeze: whether an output of height and width 1 becomes [N, channels].
      name: name of the model.

    Returns:
      The model, from images to a dict of the outputs by their names.

    Raises:
      PeerError: if the kind of a layer is not translated.
    """
    listed = list(listed)
    names = _names(listed, outputs)
    tensors: dict[str, KerasTensor] = {}
    for layer in listed:
        tensors[layer.name] = _apply(layer, [tensors[each] for each in layer.inputs], names[layer.name])
    results = {output: tensors[layer] for output, layer in outputs.items()}
    if squeeze:
        taken = {*names.values()}
        for output, tensor in results.items():
            if tuple(tensor.shape[1:-1]) == (1, 1):
                results[output] = layers.Flatten(name=_unique(output, "flatten", taken))(tensor)
    return keras.Model(tensors[listed[0].name], results, name=name)


def _names(listed: Sequence[Layer], outputs: Mapping[str, str]) -> dict[str, str]:
    """Returns a name in Keras for each layer: slim's scope, and what distinguishes the layers of one scope.

    The network's own scope and the units' kinds are left out. For example, ``resnet_v2_50/block1/unit_1/bottleneck_v2/
    conv1/BatchNorm/FusedBatchNormV3`` becomes ``block1_unit_1_conv1_batch_norm``.
    """
    parents = [posixpath.dirname(_TYPES.sub("", layer.name)) for layer in listed if layer.weights]
    network = posixpath.commonpath(parents) if parents else ""
    # The layer that drops an output's height and width may stand outside of the network.
    chosen = {layer: output for output, layer in outputs.items()}
    names, taken = {}, set()
    for layer in listed:
        wanted = chosen.get(layer.name) if layer.kind == "flatten" else None
        names[layer.name] = _unique(wanted or alias(_TYPES.sub("", layer.name), network), layer.kind, taken)
    return names


def _unique(name: str, kind: str, taken: set[str]) -> str:
    """Returns a valid name that is not taken yet, and takes it."""
    # Keras separates scopes by slashes.
    name = re.sub(r"[^A-Za-z0-9_]+", "_", re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name)).lower()
    more = (f"{name}_{kind}_{i}" for i in itertools.count(1))
    # A padding layer may come before it.
    groups = ({each, f"{each}_pad"} for each in itertools.chain((name, f"{name}_{kind}"), more))
    group = next(group for group in groups if group.isdisjoint(taken))
    taken |= group
    return min(group, key=len)


def _apply(layer: Layer, inputs: list[KerasTensor], name: str) -> KerasTensor:
    attributes, weights = layer.attributes, layer.weights
    match layer.kind:
        case "input":
            return keras.Input(batch_shape=attributes["shape"], name=name)
        case "add":
            return layers.Add(name=name)(inputs)
        case "concat":
            return layers.Concatenate(name=name)(inputs)
        case "conv" | "depthwise_conv" | "max_pool":
            return _windowed(layer, *inputs, name)
        case "pad":
            return _padded(*inputs, attributes["padding"], attributes["channels"], name)
        case "batch_norm":
            given = {"scale": "gamma" in weights, "center": "beta" in weights}
            made = layers.BatchNormalization(epsilon=attributes["epsilon"], **given, name=name)
            return _with_weights(made, layer, *inputs)
        case "dense":
            made = layers.Dense(weights["kernel"].shape[-1], use_bias="bias" in weights, name=name)
            return _with_weights(made, layer, *inputs)
    made = {
        "average_pool": lambda: _average_pool(layer, name),
        "flatten": lambda: layers.Flatten(name=name),
        "global_mean": lambda: layers.GlobalAveragePooling2D(keepdims=attributes["keep_dims"], name=name),
        "leaky_relu": lambda: layers.LeakyReLU(negative_slope=attributes["slope"], name=name),
        "relu": lambda: layers.ReLU(name=name),
        "sigmoid": lambda: layers.Activation("sigmoid", name=name),
        "softmax": lambda: layers.Softmax(name=name),
    }
    if layer.kind not in made:
        raise PeerError(f"{layer.name} is a layer {layer.kind!r}, which is not translated to Keras.")
    return made[layer.kind]()(*inputs)


def _average_pool(layer: Layer, name: str) -> keras.Layer:
    """Returns an average pooling; Keras too leaves its padding out of the mean."""
    size, strides, padding = (layer.attributes[key] for key in ("size", "strides", "padding"))
    if not any(map(any, padding)):
        return layers.AveragePooling2D(size, strides, name=name)
    if strides != (1, 1) or padding != tuple(((side - 1) // 2, (side - 1) // 2) for side in size):
        raise PeerError(f"{layer.name} is an average pooling with padding {padding}, which is not translated to Keras.")
    return layers.AveragePooling2D(size, strides, padding="same", name=name)


def _windowed(layer: Layer, inputs: KerasTensor, name: str) -> KerasTensor:
    """Applies a convolution or max pooling, after a padding layer if Keras has no name for its padding."""
    attributes, kernel = layer.attributes, layer.weights.get("kernel")
    strides, padding = attributes["strides"], attributes["padding"]
    dilation = attributes.get("dilation", (1, 1))
    size = attributes["size"] if kernel is None else kernel.shape[:2]
    axes = zip(inputs.shape[1:3], map(dilated_size, size, dilation), strides, strict=True)
    word = "valid"
    if padding == tuple(itertools.starmap(same_padding, axes)) and any(map(any, padding)):
        word = "same"
    elif any(map(any, padding)):
        # Before a max pooling too, because the list has such a padding only where no value is negative.
        inputs = layers.ZeroPadding2D(padding, name=f"{name}_pad")(inputs)
    if kernel is None:
        return layers.MaxPooling2D(size, strides, padding=word, name=name)(inputs)
    given = {"strides": strides, "dilation_rate": dilation, "padding": word, "use_bias": "bias" in layer.weights}
    if layer.kind == "depthwise_conv":
        made = layers.DepthwiseConv2D(size, depth_multiplier=kernel.shape[-1], **given, name=name)
    else:
        made = layers.Conv2D(kernel.shape[-1], size, **given, name=name)
    return _with_weights(made, layer, inputs)


def _padded(
    inputs: KerasTensor, padding: tuple[tuple[int, int], ...], channels: tuple[int, int], name: str
) -> KerasTensor:
    """Pads with zeros: height and width by a layer of Keras, channels by an op, because Keras has no layer for them."""
    if any(map(any, padding)):
        inputs = layers.ZeroPadding2D(padding, name=name)(inputs)
    return keras.ops.pad(inputs, [[0, 0], [0, 0], [0, 0], channels]) if any(channels) else inputs


def _with_weights(made: keras.Layer, layer: Layer, inputs: KerasTensor) -> KerasTensor:
    outputs = made(inputs)
    made.set_weights(list(layer.weights.values()))
    return outputs
