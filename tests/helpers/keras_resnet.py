"""ResNets of Keras' functional API (after He et al., arXiv:1512.03385), a reference for tests.

They deviate from the paper: see `resnet` and `digits`.
"""

from __future__ import annotations

import keras
import numpy as np
from keras import KerasTensor, layers

UNITS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}


def _conv_norm(x: KerasTensor, filters: int, kernel: int, strides: int = 1) -> KerasTensor:
    x = layers.Conv2D(filters, kernel, strides=strides, padding="same")(x)
    return layers.BatchNormalization()(x)


def _conv_norm_relu(x: KerasTensor, filters: int, kernel: int, strides: int = 1) -> KerasTensor:
    return layers.Activation("relu")(_conv_norm(x, filters, kernel, strides))


def resnet(depth: int, num_classes: int = 1000, image_size: int = 224) -> keras.Model:
    """Returns the network with stem stride 1, stride 2 in all four stages, ReLU before but not after every addition."""
    keras.backend.clear_session()
    bottleneck = depth >= 50
    inputs = layers.Input((image_size, image_size, 3))
    x = _conv_norm_relu(inputs, 64, 7)
    x = layers.MaxPooling2D(3, strides=2, padding="same")(x)
    for stage, units in enumerate(UNITS[depth]):
        narrow = 64 * 2**stage
        wide = 4 * narrow if bottleneck else narrow
        convolutions = [(narrow, 1), (narrow, 3), (wide, 1)] if bottleneck else [(narrow, 3), (wide, 3)]
        for unit in range(units):
            shortcut, strides = x, 2 if unit == 0 else 1
            for i, (filters, kernel) in enumerate(convolutions):
                x = _conv_norm_relu(x, filters, kernel, strides if i == 0 else 1)
            if unit == 0:
                shortcut = _conv_norm_relu(shortcut, wide, 1, strides)
            x = layers.Add()([x, shortcut])
    x = layers.GlobalAveragePooling2D()(x)
    x = layers.Flatten()(x)
    x = layers.Dense(num_classes)(x)
    x = layers.Dropout(0.5)(x)
    return keras.Model(inputs, layers.Softmax(axis=-1)(x))


def digits(num_classes: int = 10, image_size: int = 28) -> keras.Model:
    """Returns the network for one channel: no pooling, plain convolutions between stages, ReLU after addition."""
    keras.backend.clear_session()

    def conv_norm_relu(x: KerasTensor, filters: int, strides: int = 1) -> KerasTensor:
        return layers.ReLU()(_conv_norm(x, filters, 3, strides))

    inputs = x = layers.Input((image_size, image_size, 1))
    for stage in range(4):
        filters = 64 * 2**stage
        x = conv_norm_relu(x, filters, strides=1 if stage == 0 else 2)
        for _ in range(2):
            residual = _conv_norm(conv_norm_relu(x, filters), filters, 3)
            x = layers.ReLU()(layers.Add()([x, residual]))
    x = layers.GlobalAveragePooling2D()(x)
    return keras.Model(inputs, layers.Dense(num_classes, activation="softmax")(x))


def _last_convolution(tensor: KerasTensor) -> layers.Conv2D | None:
    """Returns the convolution before the activation and batch norm of `tensor`; None if an addition comes first."""
    layer = tensor._keras_history.operation
    while isinstance(layer, layers.Activation | layers.ReLU | layers.BatchNormalization):
        layer = layer.input._keras_history.operation
    return layer if isinstance(layer, layers.Conv2D) else None


def randomize(model: keras.Model, seed: int) -> None:
    """Gives all variables random values that keep activations of order one."""
    generator = np.random.default_rng(seed)
    for variable in model.variables:
        name, shape = variable.path.rsplit("/", 1)[-1], variable.shape
        if name == "kernel":
            # 1.7 instead of He's 2: a batch norm with such random values multiplies the power by 1.19 on average.
            variable.assign(generator.normal(0, (1.7 / np.prod(shape[:-1])) ** 0.5, shape))
        elif name in ("gamma", "moving_variance"):
            variable.assign(generator.uniform(0.5, 1.5, shape))
        elif name in ("beta", "bias", "moving_mean"):
            variable.assign(generator.normal(0, 0.1, shape))
    additions = [layer for layer in model.layers if isinstance(layer, layers.Add)]
    for addition in additions:  # keeps the sums of the additions small
        sources = [_last_convolution(tensor) for tensor in addition.input]
        factor = 0.6 if None not in sources else 2 / len(additions)
        for convolution in sources:
            if convolution is not None:
                convolution.kernel.assign(factor * convolution.kernel)


def summary_rows(model: keras.Model) -> list[tuple[str, str, tuple[int | None, ...], int]]:
    """Returns every layer's name, class, output shape and number of parameters, in the order of `model.summary()`."""
    return [
        (layer.name, type(layer).__name__, tuple(layer.output.shape), layer.count_params()) for layer in model.layers
    ]


def slim_scopes(name: str) -> list[str]:
    """Returns the scopes of the convolutions of our network, in the order in which Keras numbers its own."""
    if name.endswith("_digits"):
        stages = [f"block{stage}/unit_{{}}/identity" for stage in range(1, 5)]
        inner = [[f"{stage.format(unit)}/conv{i}" for unit in (1, 2) for i in (1, 2)] for stage in stages]
        return [scope for i, scopes in enumerate(inner, start=1) for scope in (f"conv{i}", *scopes)]
    depth = int(name.rpartition("_")[2])
    kind, convolutions = ("bottleneck_keras", 3) if depth >= 50 else ("basic_keras", 2)
    scopes = ["conv1"]
    for stage, units in enumerate(UNITS[depth], start=1):
        for unit in range(1, units + 1):
            scope = f"block{stage}/unit_{unit}/{kind}"
            scopes += [f"{scope}/conv{i}" for i in range(1, convolutions + 1)]
            scopes += [f"{scope}/shortcut"] if unit == 1 else []
    return scopes


def number(layer: keras.Layer) -> int:
    """Returns the number in an automatic layer name: 0 for 'conv2d', 3 for 'conv2d_3'."""
    last = layer.name.rpartition("_")[2]
    return int(last) if last.isdigit() else 0


def values_by_slim_name(model: keras.Model, name: str) -> dict[str, np.ndarray]:
    """Returns the model's weights by the names of the variables of our network ``name``."""
    layers_of = {
        kind: sorted((layer for layer in model.layers if type(layer).__name__ == kind), key=number)
        for kind in ("Conv2D", "BatchNormalization")
    }
    values = {}
    for scope, convolution, norm in zip(slim_scopes(name), *layers_of.values(), strict=True):
        values[f"{name}/{scope}/weights"], values[f"{name}/{scope}/biases"] = convolution.get_weights()
        for variable in norm.variables:
            values[f"{name}/{scope}/BatchNorm/{variable.name}"] = keras.ops.convert_to_numpy(variable)
    (dense,) = (layer for layer in model.layers if isinstance(layer, layers.Dense))
    values[f"{name}/logits/weights"], values[f"{name}/logits/biases"] = dense.get_weights()
    return values
