"""Pre-activation ResNets for small images, of 6n+2 or 9n+2 layers: He, Zhang, Ren, Sun, arXiv:1603.05027, Section 4.

These are the networks of tensorflow/models, research/resnet/resnet_model.py, with its batch norm (epsilon 0.001, moving
averages of decay 0.9, the population's variance) and leaky ReLU. By default no scope is around them, so that the
variables have the same names as there, such as ``unit_1_0/sub1/conv1/DW``. They answer to ``resnet_cifar_arg_scope``
and to arg scopes for ``batch_norm``, but not to those for ``conv2d``:

    with slim.arg_scope(resnet_cifar.resnet_cifar_arg_scope()):
        logits, end_points = resnet_cifar.resnet_cifar_32(images, 10, is_training=True)

A loss takes ``logits``; ``end_points["predictions"]`` is their softmax.
"""

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf
import tf_slim as slim
from tf_slim.layers import utils

from nets import layers
from nets.arguments import check_scope, flag, is_number, whole_number, whole_numbers
from nets.builders import Builder, EndPoints, Variant, check_inputs, linear, named, small_arg_scope, training_scope
from nets.building import building
from nets.fast_units import fast_units
from nets.resnet_utils import Block

v1 = tf.compat.v1

__all__ = [
    "VARIANTS",
    "bottleneck_residual",
    "residual",
    "resnet_cifar",
    "resnet_cifar_20",
    "resnet_cifar_32",
    "resnet_cifar_44",
    "resnet_cifar_56",
    "resnet_cifar_110",
    "resnet_cifar_164",
    "resnet_cifar_arg_scope",
]

_STEM_DEPTH = 16
_STRIDES = (1, 2, 2)
_BASE_DEPTHS = (16, 32, 64)
_DECAY = 0.9


def _variant(n: int, bottleneck: bool = False) -> Variant:
    return Variant(units=(n, n, n), base_depths=_BASE_DEPTHS, image_size=32, bottleneck=bottleneck)


VARIANTS = {
    "resnet_cifar_20": _variant(3),
    "resnet_cifar_32": _variant(5),
    "resnet_cifar_44": _variant(7),
    "resnet_cifar_56": _variant(9),
    "resnet_cifar_110": _variant(18),
    "resnet_cifar_164": _variant(18, bottleneck=True),
}


def resnet_cifar_arg_scope(
    weight_decay: float = 0.0002,
    batch_norm_updates_collections: layers.Collections = v1.GraphKeys.UPDATE_OPS,
    *,
    is_training: bool | tf.Tensor | None = None,
    batch_norm_decay: float | tf.Tensor = _DECAY,
) -> dict[str, dict[str, Any]]:
    """Returns the arg scope of these networks, for ``slim.arg_scope(...)``.

    Args:
      weight_decay: factor of the L2 loss on the kernels.
      batch_norm_updates_collections, is_training, batch_norm_decay: see ``resnet_utils.resnet_arg_scope``.
    """
    weighted = [_conv2d, linear]
    return small_arg_scope(weighted, weight_decay, batch_norm_updates_collections, is_training, batch_norm_decay)


@slim.add_arg_scope
def _conv2d(
    inputs: tf.Tensor,
    depth: int,
    kernel_size: int,
    stride: int,
    scope: str,
    weights_regularizer: Callable | None = None,
    outputs_collections: layers.Collections = None,
) -> tf.Tensor:
    """Applies a convolution without bias, padded 'SAME'."""
    with v1.variable_scope(scope) as sc:
        depth_in = utils.last_dimension(inputs.shape, min_rank=4)
        initializer = _he_initializer(kernel_size * kernel_size * depth)
        shape = [kernel_size, kernel_size, depth_in, depth]
        loss_scope = f"{sc.original_name_scope}DW"
        kernel = layers.model_variable(
            "DW", shape, inputs.dtype.base_dtype, initializer, regularizer=weights_regularizer, loss_scope=loss_scope
        )
        outputs = tf.nn.conv2d(inputs, kernel, stride, "SAME", name="Conv2D")
        return utils.collect_named_outputs(outputs_collections, sc.name, outputs)


@functools.cache  # equal units must get the same object
def _he_initializer(fan_out: int) -> Callable:
    return v1.random_normal_initializer(stddev=math.sqrt(2 / fan_out))


def _batch_norm(inputs: tf.Tensor, scope: str, relu_leakiness: float) -> tf.Tensor:
    """Applies batch norm and leaky ReLU; outside of training, adds histograms of the moving statistics."""
    normalized = layers.population_batch_norm(inputs, _DECAY, scope=scope)
    # The body of a tf.function has no summaries to merge, so nobody would get a histogram.
    if layers.static_bool(layers.training_mode()) is not True and not v1.get_default_graph().building_function:
        with v1.variable_scope(scope, reuse=True, auxiliary_name_scope=False) as sc:
            sc.set_partitioner(None)  # they were created without one
            for name in ("moving_mean", "moving_variance"):
                moving = v1.get_variable(name)
                v1.summary.histogram(moving.op.name, moving)  # as in the original, the whole name inside of its scope
    return tf.nn.leaky_relu(normalized, relu_leakiness, name=f"{scope}/leaky_relu")


@slim.add_arg_scope
def residual(
    inputs: tf.Tensor,
    depth: int,
    stride: int,
    activate_before_residual: bool = False,
    relu_leakiness: float = 0.1,
    outputs_collections: layers.Collections = None,
    scope: str | None = None,
) -> tf.Tensor:
    """Builds the two-layer unit: two 3x3 convolutions, each after batch norm and activation, beside a shortcut.

    The shortcut is averaged over windows of the stride. If the depths differ, it gets channels of zeros, one half
    before and one half after its own.

    Args:
      inputs: [batch, height, width, channels]; height and width multiples of ``stride``.
      depth: channels of the output, no fewer than those of ``inputs``.
      stride: stride of the first convolution and the shortcut.
      activate_before_residual: whether the shortcut begins after the first activation rather than before it.
      relu_leakiness: slope of the ReLU below zero.
      outputs_collections: collections that get the output, under the scope's name.
      scope: variable scope; None for 'residual', made unique.

    Returns:
      [batch, height / stride, width / stride, depth].
    """
    depth, stride = whole_numbers(depth=depth, stride=stride)
    activate_before_residual = flag("activate_before_residual", activate_before_residual)
    with v1.variable_scope(scope, "residual", [inputs]) as sc:
        with v1.variable_scope("shared_activation" if activate_before_residual else "residual_only_activation"):
            net = _batch_norm(inputs, "init_bn", relu_leakiness)
        shortcut = net if activate_before_residual else inputs
        with v1.variable_scope("sub1"):
            net = _conv2d(net, depth, 3, stride, scope="conv1")
        with v1.variable_scope("sub2"):
            net = _batch_norm(net, "bn2", relu_leakiness)
            net = _conv2d(net, depth, 3, 1, scope="conv2")
        with v1.variable_scope("sub_add"):
            net += _widened(shortcut, depth, stride)
        return utils.collect_named_outputs(outputs_collections, sc.name, net)


def _widened(inputs: tf.Tensor, depth: int, stride: int) -> tf.Tensor:
    """Averages over windows of the stride, and adds channels of zeros before and after."""
    if stride > 1:
        inputs = tf.nn.avg_pool2d(inputs, stride, stride, "VALID")
    missing = depth - utils.last_dimension(inputs.shape, min_rank=4)
    if missing < 0:
        raise ValueError(f"depth must be at least the {depth - missing} channels of the unit's input, and is {depth}.")
    if missing > 0:
        inputs = tf.pad(inputs, [[0, 0], [0, 0], [0, 0], [missing // 2, missing - missing // 2]])
    return inputs


@slim.add_arg_scope
def bottleneck_residual(
    inputs: tf.Tensor,
    depth: int,
    stride: int,
    activate_before_residual: bool = False,
    relu_leakiness: float = 0.1,
    outputs_collections: layers.Collections = None,
    scope: str | None = None,
) -> tf.Tensor:
    """Builds the bottleneck unit: 1x1, 3x3 and 1x1 convolution, each after batch norm and activation, and a shortcut.

    The first convolution carries the stride; the first two have a quarter of the channels. If the depths differ, the
    shortcut is a 1x1 projection.

    Arguments and result are those of ``residual``; ``depth`` must be a multiple of 4.
    """
    depth, stride = whole_numbers(depth=depth, stride=stride)
    activate_before_residual = flag("activate_before_residual", activate_before_residual)
    if depth % 4:
        raise ValueError(f"depth of a bottleneck unit must be a multiple of 4, and is {depth}.")
    with v1.variable_scope(scope, "bottleneck_residual", [inputs]) as sc:
        with v1.variable_scope("common_bn_relu" if activate_before_residual else "residual_bn_relu"):
            net = _batch_norm(inputs, "init_bn", relu_leakiness)
        shortcut = net if activate_before_residual else inputs
        with v1.variable_scope("sub1"):
            net = _conv2d(net, depth // 4, 1, stride, scope="conv1")
        with v1.variable_scope("sub2"):
            net = _batch_norm(net, "bn2", relu_leakiness)
            net = _conv2d(net, depth // 4, 3, 1, scope="conv2")
        with v1.variable_scope("sub3"):
            net = _batch_norm(net, "bn3", relu_leakiness)
            net = _conv2d(net, depth, 1, 1, scope="conv3")
        with v1.variable_scope("sub_add"):
            if depth != utils.last_dimension(inputs.shape, min_rank=4):
                shortcut = _conv2d(shortcut, depth, 1, stride, scope="project")
            net += shortcut
        return utils.collect_named_outputs(outputs_collections, sc.name, net)


def resnet_cifar(
    inputs: tf.Tensor,
    n: int,
    num_classes: int | None = None,
    is_training: bool | tf.Tensor | None = None,
    reuse: bool | None = None,
    scope: str | None = None,
    *,
    bottleneck: bool = False,
    activate_before_residual: Sequence[bool] = (True, False, False),
    relu_leakiness: float = 0.1,
) -> tuple[tf.Tensor, EndPoints]:
    """Builds the network of three stages of ``n`` units, at strides 1, 2 and 4.

    Args:
      inputs: [batch, height, width, channels]; height and width multiples of 4, 32 in the paper.
      n: units in each stage; the network has 6n+2 layers with two-layer units, or 9n+2 with bottleneck units.
      num_classes: channels of the logits; 0 or None for a network without logits.
      is_training: mode of the batch norms. None takes it from the enclosing arg scope, whose default is training.
      reuse: whether to reuse the variables.
      scope: variable scope around the network, or None.
      bottleneck: whether units are bottleneck units, and stages four times as wide.
      activate_before_residual: one bool for the first unit of each stage, see ``residual``.
      relu_leakiness: slope of the ReLUs below zero.

    Returns:
      net: logits, [batch, num_classes]; without classes features, [batch, channels].
      end_points: dict from the names of the end points to their tensors, in graph order: ``init/init_conv``, every unit
        and its convolutions, ``unit_last``, ``global_pool``, ``logits``, ``predictions``.

    Raises:
      ValueError: for an argument that no network can be built with; the message names it.
    """
    inputs = tf.convert_to_tensor(inputs)
    num_classes = check_inputs(inputs, num_classes)
    n = whole_number("n", n, least=1)
    bottleneck = flag("bottleneck", bottleneck)
    check_scope(scope, reuse)
    _check_arguments(inputs, activate_before_residual, relu_leakiness)
    around = _scope_around(scope, reuse)
    collection = v1.get_default_graph().unique_name("resnet_cifar_end_points")
    with (
        building(),
        around as sc,
        slim.arg_scope([_conv2d, residual, bottleneck_residual], outputs_collections=collection),
        slim.arg_scope([residual, bottleneck_residual], relu_leakiness=relu_leakiness),
        training_scope(is_training),
    ):
        with v1.variable_scope("init"):
            net = _conv2d(inputs, _STEM_DEPTH, 3, 1, scope="init_conv")
        net = _stack(net, _stages(n, bottleneck, activate_before_residual))
        with v1.variable_scope("unit_last") as last:
            net = _batch_norm(net, "final_bn", relu_leakiness)
            utils.collect_named_outputs(collection, last.name, net)
            net = tf.reduce_mean(net, [1, 2], name="global_pool")
        end_points = utils.convert_collection_to_dict(collection, clear_collection=True)
        end_points["global_pool"] = net
        return _classify(net, end_points, num_classes, sc.name) if num_classes else (net, end_points)


def _scope_around(scope: str | None, reuse: bool | None) -> v1.variable_scope:
    """Returns the variable scope of a network; None puts variables and ops directly into the current scope."""
    if scope is None:
        return v1.variable_scope(v1.get_variable_scope(), reuse=reuse, auxiliary_name_scope=False)
    return v1.variable_scope(scope, reuse=reuse)


def _classify(net: tf.Tensor, end_points: EndPoints, num_classes: int, scope: str) -> tuple[tf.Tensor, EndPoints]:
    """Builds the logits and predictions; returns the logits and all end points."""
    # "Uniform unit scaling": the logits vary as the features do.
    initializer = v1.variance_scaling_initializer(1.0, "fan_in", "uniform")
    net = linear(net, num_classes, scope="logit", weights="DW", weights_initializer=initializer)
    end_points[f"{scope}/logits" if scope else "logits"] = net
    end_points["predictions"] = tf.nn.softmax(net, name="predictions")
    return net, end_points


def _stages(n: int, bottleneck: bool, activate_before_residual: Sequence[bool]) -> list[Block]:
    """Returns the stages of ``n`` units as blocks."""
    unit_fn, widening = (bottleneck_residual, 4) if bottleneck else (residual, 1)
    stages = []
    for i, (base_depth, stride) in enumerate(zip(_BASE_DEPTHS, _STRIDES, strict=True)):
        unit = {"depth": base_depth * widening, "stride": 1}
        first = {**unit, "stride": stride, "activate_before_residual": activate_before_residual[i]}
        stages.append(Block(f"unit_{i + 1}", unit_fn, [first] + [unit] * (n - 1)))
    return stages


def _stack(net: tf.Tensor, stages: list[Block]) -> tf.Tensor:
    """Stacks the units under 'unit_<stage>_<i>', where units are counted from 0."""
    with fast_units(stages) as stages:
        for stage in stages:
            for i, unit in enumerate(stage.args):
                net = stage.unit_fn(net, scope=f"{stage.scope}_{i}", **unit)
    return net


def _check_arguments(inputs: tf.Tensor, activate_before_residual: Sequence[bool], relu_leakiness: float) -> None:
    given = activate_before_residual
    if not isinstance(given, Sequence) or [type(one) for one in given] != [bool] * len(_STRIDES):
        raise ValueError(f"activate_before_residual must be {len(_STRIDES)} bools, one a stage, and is {given!r}.")
    if not is_number(relu_leakiness) or not 0 <= relu_leakiness < math.inf:
        raise ValueError(f"relu_leakiness must be a number of at least 0, and is {relu_leakiness!r}.")
    least = math.prod(_STRIDES)
    if any(size is not None and size % least for size in inputs.shape.as_list()[1:3]):
        raise ValueError(f"inputs must have a height and width that are multiples of {least}, and are {inputs.shape}.")


def _builder(name: str) -> Builder:
    variant = VARIANTS[name]

    def build(
        inputs: tf.Tensor,
        num_classes: int | None = None,
        is_training: bool | tf.Tensor | None = None,
        reuse: bool | None = None,
        scope: str | None = None,
        *,
        activate_before_residual: Sequence[bool] = (True, False, False),
        relu_leakiness: float = 0.1,
    ) -> tuple[tf.Tensor, EndPoints]:
        return resnet_cifar(
            inputs,
            variant.units[0],
            num_classes,
            is_training,
            reuse,
            scope,
            bottleneck=variant.bottleneck,
            activate_before_residual=activate_before_residual,
            relu_leakiness=relu_leakiness,
        )

    kind = "bottleneck" if variant.bottleneck else "two-layer"
    description = f"Builds the network with {variant.units[0]} {kind} units in each stage; see ``resnet_cifar``."
    return named(build, name, variant, description)


resnet_cifar_20 = _builder("resnet_cifar_20")
resnet_cifar_32 = _builder("resnet_cifar_32")
resnet_cifar_44 = _builder("resnet_cifar_44")
resnet_cifar_56 = _builder("resnet_cifar_56")
resnet_cifar_110 = _builder("resnet_cifar_110")
resnet_cifar_164 = _builder("resnet_cifar_164")
