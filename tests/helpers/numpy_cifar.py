"""Pre-activation ResNets for small images (He et al., arXiv:1603.05027) in NumPy, forward only, for tests."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

EPSILON = 0.001
STEM_WIDTH = 16
# Units per stage and kind of unit: 6n + 2 and 9n + 2 layers.
SIZES = {f"resnet_cifar_{6 * n + 2}": (n, False) for n in (3, 5, 7, 9, 18)} | {"resnet_cifar_164": (18, True)}


class Forward(NamedTuple):
    """The results of `forward`."""

    logits: np.ndarray
    predictions: np.ndarray
    end_points: dict[str, np.ndarray]
    batch_statistics: dict[str, tuple[np.ndarray, np.ndarray]]


class Unit(NamedTuple):
    """Computes one residual unit; with `shared` its shortcut branches off after the first activation."""

    scope: str
    inputs: int
    outputs: int
    stride: int
    shared: bool


def _units(n: int, bottleneck: bool, activate_before_residual: Sequence[bool]) -> Iterator[Unit]:
    inputs = STEM_WIDTH
    for stage, outputs in enumerate((64, 128, 256) if bottleneck else (16, 32, 64)):
        for i in range(n):
            first = i == 0
            stride = 2 if first and stage > 0 else 1
            yield Unit(f"unit_{stage + 1}_{i}", inputs, outputs, stride, first and activate_before_residual[stage])
            inputs = outputs


def _activation_scope(bottleneck: bool, shared: bool) -> str:
    if bottleneck:
        return "common_bn_relu" if shared else "residual_bn_relu"
    return "shared_activation" if shared else "residual_only_activation"


def same_padding(size: int, kernel: int, stride: int) -> tuple[int, int]:
    """Returns the zeros before and after, as TensorFlow's padding SAME adds them: an odd one goes after."""
    outputs = -(-size // stride)
    total = max((outputs - 1) * stride + kernel - size, 0)
    return total // 2, total - total // 2


def convolution(x: np.ndarray, kernel: np.ndarray, stride: int = 1) -> np.ndarray:
    """Convolves images NHWC with a kernel HWIO and padding SAME."""
    (height, width), (rows, columns) = x.shape[1:3], kernel.shape[:2]
    x = np.pad(x, ((0, 0), same_padding(height, rows, stride), same_padding(width, columns, stride), (0, 0)))
    height, width = (-(-size // stride) for size in (height, width))
    return sum(
        x[:, i : i + stride * height : stride, j : j + stride * width : stride][:, :height, :width] @ kernel[i, j]
        for i in range(rows)
        for j in range(columns)
    )


def padded_pooling(x: np.ndarray, extra: int, stride: int) -> np.ndarray:
    """Averages over windows of stride x stride without overlap or padding, between two halves of `extra` zeros."""
    batch, height, width, channels = x.shape
    height, width = height // stride, width // stride
    x = x[:, : height * stride, : width * stride].reshape(batch, height, stride, width, stride, channels)
    return np.pad(x.mean(axis=(2, 4)), ((0, 0), (0, 0), (0, 0), (extra // 2, extra - extra // 2)))


def forward(
    values: Mapping[str, np.ndarray],
    images: np.ndarray,
    n: int,
    bottleneck: bool,
    leakiness: float = 0.1,
    training: bool = False,
    activate_before_residual: Sequence[bool] = (True, False, False),
    dtype: type = np.float64,
) -> Forward:
    """Runs the network of 3n units on images NHWC; `values` are by variable name without a network scope."""
    values = {name: np.asarray(value, dtype) for name, value in values.items()}
    end_points, statistics = {}, {}

    def norm_relu(x: np.ndarray, scope: str) -> np.ndarray:
        if training:
            mean, variance = statistics[scope] = x.mean(axis=(0, 1, 2)), x.var(axis=(0, 1, 2))
        else:
            mean, variance = values[f"{scope}/moving_mean"], values[f"{scope}/moving_variance"]
        x = values[f"{scope}/gamma"] * (x - mean) / np.sqrt(variance + EPSILON) + values[f"{scope}/beta"]
        return np.where(x >= 0, x, leakiness * x)

    x = convolution(np.asarray(images, dtype), values["init/init_conv/DW"])
    for scope, inputs, outputs, stride, shared in _units(n, bottleneck, activate_before_residual):
        activated = norm_relu(x, f"{scope}/{_activation_scope(bottleneck, shared)}/init_bn")
        shortcut = activated if shared else x
        x = convolution(activated, values[f"{scope}/sub1/conv1/DW"], stride)
        for i in (2, 3) if bottleneck else (2,):
            x = convolution(norm_relu(x, f"{scope}/sub{i}/bn{i}"), values[f"{scope}/sub{i}/conv{i}/DW"])
        if inputs != outputs and bottleneck:
            shortcut = convolution(shortcut, values[f"{scope}/sub_add/project/DW"], stride)
        elif inputs != outputs:
            shortcut = padded_pooling(shortcut, outputs - inputs, stride)
        x = end_points[scope] = x + shortcut
    x = end_points["unit_last"] = norm_relu(x, "unit_last/final_bn")
    x = end_points["global_pool"] = x.mean(axis=(1, 2))
    logits = x @ values["logit/DW"] + values["logit/biases"]
    exponentials = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return Forward(logits, exponentials / exponentials.sum(axis=-1, keepdims=True), end_points, statistics)


def variable_shapes(
    n: int, bottleneck: bool, num_classes: int = 10, activate_before_residual: Sequence[bool] = (True, False, False)
) -> dict[str, tuple[int, ...]]:
    """Returns the shapes of all variables by name, in order of creation."""
    shapes: dict[str, tuple[int, ...]] = {"init/init_conv/DW": (3, 3, 3, STEM_WIDTH)}

    def norm(scope: str, width: int) -> None:
        for name in ("beta", "gamma", "moving_mean", "moving_variance"):
            shapes[f"{scope}/{name}"] = (width,)

    outputs = STEM_WIDTH
    for scope, inputs, outputs, _, shared in _units(n, bottleneck, activate_before_residual):
        middle = outputs // 4 if bottleneck else outputs
        norm(f"{scope}/{_activation_scope(bottleneck, shared)}/init_bn", inputs)
        size = 1 if bottleneck else 3
        shapes[f"{scope}/sub1/conv1/DW"] = (size, size, inputs, middle)
        norm(f"{scope}/sub2/bn2", middle)
        shapes[f"{scope}/sub2/conv2/DW"] = (3, 3, middle, middle)
        if bottleneck:
            norm(f"{scope}/sub3/bn3", middle)
            shapes[f"{scope}/sub3/conv3/DW"] = (1, 1, middle, outputs)
            if inputs != outputs:
                shapes[f"{scope}/sub_add/project/DW"] = (1, 1, inputs, outputs)
    norm("unit_last/final_bn", outputs)
    shapes["logit/DW"] = (outputs, num_classes)
    shapes["logit/biases"] = (num_classes,)
    return shapes
