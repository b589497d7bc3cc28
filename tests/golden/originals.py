"""The sources of the golden files: an independent implementation of each network.

The networks of tf_slim and of its parts use tf_slim's own. The others use the tests' PyTorch, Keras and NumPy
networks, whose end points are written down here under the names of their families.
"""

import math
from collections.abc import Iterator, Sequence
from typing import Any

import tensorflow as tf

from nets import nets_factory
from tools.peers.slim_reference import tf_slim_builder, tf_slim_scope

v1 = tf.compat.v1

Shapes = dict[str, Sequence[int | None]]

BASIC_UNITS = {"18": (2, 2, 2, 2), "34": (3, 4, 6, 3)}


def describe(name: str) -> dict[str, Any]:
    """Returns the content of a network's golden file."""
    if is_of_tf_slim(name):
        return _tf_slim(name)
    family, depth, *_ = name.removeprefix("resnet_").split("_")
    variables, end_points = {"basic": _basic, "keras": _keras, "cifar": _cifar}[family](name, depth)
    sizes = {variable: math.prod(shape) for variable, shape in variables.items()}
    return {
        "parameters": sum(sizes.values()),
        "trainable_parameters": sum(size for variable, size in sizes.items() if "/moving_" not in variable),
        "variables": {variable: list(shape) for variable, shape in variables.items()},
        "end_points": {end_point: list(shape) for end_point, shape in end_points.items()},
    }


def is_of_tf_slim(name: str) -> bool:
    """Returns whether tf_slim itself has the network, or the parts that it consists of."""
    return not name.startswith(("resnet_basic", "resnet_keras", "resnet_cifar"))


def built(variables: Sequence[tf.Variable], end_points: dict[str, tf.Tensor], tensor_names: bool) -> dict[str, Any]:
    """Describes a network in the current graph; for the slim families with the names of the end points' tensors."""
    trainable = {variable.name for variable in v1.trainable_variables()}
    sizes = {variable.name: math.prod(variable.shape.as_list()) for variable in variables}

    def described(tensor: tf.Tensor) -> list[Any]:
        shape = tensor.shape.as_list()
        return [tensor.name, shape] if tensor_names else shape

    return {
        "parameters": sum(sizes.values()),
        "trainable_parameters": sum(size for name, size in sizes.items() if name in trainable),
        "variables": {variable.op.name: variable.shape.as_list() for variable in variables},
        "end_points": {name: described(tensor) for name, tensor in end_points.items()},
    }


def _tf_slim(name: str) -> dict[str, Any]:
    """Builds tf_slim's own network of that name, at its image size and in inference mode."""
    network = nets_factory.get_network(name)
    with tf.Graph().as_default():
        images = v1.placeholder(tf.float32, [None, network.image_size, network.image_size, 3])
        with tf_slim_scope(net=name):
            _, end_points = tf_slim_builder(name)(images, num_classes=network.num_classes, is_training=False)
        return built(v1.global_variables(), end_points, tensor_names=True)


def _as_slim_creates_them(variables: Shapes) -> Shapes:
    """Sorts the variables of each batch norm as slim creates them, which is alphabetically."""
    names = list(variables)
    for i in range(len(names)):
        group = [name for name in names[i : i + 4] if "/BatchNorm/" in name]
        if len({name.rpartition("/")[0] for name in group}) == 1 and len(group) == 4:
            names[i : i + 4] = sorted(group)
    return {name: variables[name] for name in names}


def _basic(name: str, depth: str) -> tuple[Shapes, Shapes]:
    from tests.helpers import torch_resnet

    module = torch_resnet.resnet(BASIC_UNITS[depth], "B", 1000)
    variables = {key: value.shape for key, value in torch_resnet.state_by_slim_name(module, name).items()}
    end_points: Shapes = {f"{name}/conv1": [None, 112, 112, 64]}
    for block, (units, size) in enumerate(zip(BASIC_UNITS[depth], (56, 28, 14, 7), strict=True), start=1):
        shape = [None, size, size, 32 * 2**block]
        for unit in range(1, units + 1):
            scope = f"{name}/block{block}/unit_{unit}/basic"
            projected = [f"{scope}/shortcut"] if unit == 1 and block > 1 else []
            end_points.update((key, shape) for key in (f"{scope}/conv1", f"{scope}/conv2", *projected, scope))
        end_points[f"{name}/block{block}"] = shape
    end_points |= {"global_pool": [None, 1, 1, 512], f"{name}/logits": [None, 1, 1, 1000]}
    end_points |= {f"{name}/spatial_squeeze": [None, 1000], "predictions": [None, 1000]}
    return _as_slim_creates_them(variables), end_points


def _keras(name: str, depth: str) -> tuple[Shapes, Shapes]:
    from tests.helpers import keras_resnet

    digits = name.endswith("_digits")
    model = keras_resnet.digits() if digits else keras_resnet.resnet(int(depth))
    variables = {key: value.shape for key, value in keras_resnet.values_by_slim_name(model, name).items()}
    scopes = keras_resnet.slim_scopes(name)
    convolutions = [layer for layer in model.layers if type(layer).__name__ == "Conv2D"]
    convolutions.sort(key=keras_resnet.number)
    end_points: Shapes = {}
    previous = None
    for scope, layer in [*zip(scopes, convolutions, strict=True), (None, None)]:
        # The unit and the block that end with the previous convolution.
        for closed in _closed(previous, scope):
            end_points[f"{name}/{closed}"] = end_points[f"{name}/{previous}"]
        if scope is not None:
            end_points[f"{name}/{scope}"] = layer.output.shape
        previous = scope
    classes = 10 if digits else 1000
    end_points |= {"global_pool": [None, convolutions[-1].filters], f"{name}/logits": [None, classes]}
    if not digits:
        end_points[f"{name}/dropout"] = [None, classes]
    return _as_slim_creates_them(variables), {**end_points, "predictions": [None, classes]}


def _closed(scope: str | None, following: str | None) -> Iterator[str]:
    """Yields the scopes around ``scope`` but not ``following``, innermost first; a unit's scope includes its kind."""
    parts = (scope or "").split("/")
    for depth in (3, 1):
        outer = "/".join(parts[:depth])
        if len(parts) > depth and "/unit_" in f"{scope}" and not f"{following}/".startswith(f"{outer}/"):
            yield outer


def _cifar(name: str, depth: str) -> tuple[Shapes, Shapes]:
    from tests.helpers import numpy_cifar

    n, bottleneck = numpy_cifar.SIZES[name]
    variables = numpy_cifar.variable_shapes(n, bottleneck)
    end_points: Shapes = {"init/init_conv": [None, 32, 32, 16]}
    for stage, (size, width) in enumerate(((32, 16), (16, 32), (8, 64)), start=1):
        for i in range(n):
            unit = f"unit_{stage}_{i}"
            outer = [None, size, size, 4 * width if bottleneck else width]
            inner = [None, size, size, width]
            end_points[f"{unit}/sub1/conv1"] = end_points[f"{unit}/sub2/conv2"] = inner
            if bottleneck:
                end_points[f"{unit}/sub3/conv3"] = outer
                if i == 0:
                    end_points[f"{unit}/sub_add/project"] = outer
            end_points[unit] = outer
    features = 256 if bottleneck else 64
    end_points |= {"unit_last": [None, 8, 8, features], "global_pool": [None, features]}
    return variables, {**end_points, "logits": [None, 10], "predictions": [None, 10]}
