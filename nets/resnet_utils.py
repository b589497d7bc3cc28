"""What the slim ResNets are made of: blocks of units, their stacking at any density, the common arg scope.

He, Zhang, Ren, Sun: Deep Residual Learning for Image Recognition, arXiv:1512.03385 (v1), and Identity Mappings
in Deep Residual Networks, arXiv:1603.05027 (v2). As in slim, a block's stride sits in its last unit: the
numbers are those of a stride in the next block's first unit, with less memory.
"""

import collections
import contextlib
import itertools
import numbers
import operator
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import tensorflow as tf
import tf_slim as slim
from tf_slim.layers import utils

from nets import layers
from nets.variable_templates import VariableTemplates

__all__ = [
    "Block",
    "Builder",
    "EndPoints",
    "Variant",
    "bottleneck_block",
    "build_resnet",
    "check_inputs",
    "collected_end_points",
    "conv2d_same",
    "linear",
    "named",
    "resnet_arg_scope",
    "small_arg_scope",
    "stack_blocks_dense",
    "subsample",
    "training_scope",
    "whole_number",
]

v1 = tf.compat.v1

EndPoints = dict[str, tf.Tensor]

# Of the 7x7 convolution and the pooling before the blocks.
_ROOT_STRIDE = 4


class Block(collections.namedtuple("Block", ["scope", "unit_fn", "args"])):
    """A ResNet block: units of one kind under one variable scope.

    scope: name of the block's variable scope.
    unit_fn: function of a unit: ``unit_fn(net, rate=..., **unit)`` returns the unit's output.
    args: one element a unit, its keyword arguments as a dict (``depth``, ``depth_bottleneck``, ``stride``),
      or the tuple (depth, depth_bottleneck, stride).
    """


Builder = Callable[..., tuple[tf.Tensor, EndPoints]]


class Variant(NamedTuple):
    """The dimensions of one network of a family.

    units: number of units a block.
    base_depths: channels inside the units of each block.
    image_size: height and width the network was made for.
    bottleneck: whether units have three layers, the last four times as wide as the others, rather than two.
    """

    units: tuple[int, ...]
    base_depths: tuple[int, ...] = (64, 128, 256, 512)
    image_size: int = 224
    bottleneck: bool = True

    def blocks(self, strides: Sequence[int] = (2, 2, 2, 1)) -> Iterator[tuple[str, int, int, int]]:
        """(scope, base_depth, num_units, stride) of each block; the default strides are slim's."""
        dimensions = zip(self.base_depths, self.units, strides, strict=True)
        for i, (base_depth, num_units, stride) in enumerate(dimensions, start=1):
            yield f"block{i}", base_depth, num_units, stride


def named(build: Builder, name: str, variant: Variant, description: str) -> Builder:
    """``build`` as the builder of the network ``name``: its name, description and default image size."""
    build.__name__ = build.__qualname__ = name
    build.__doc__ = description
    build.default_image_size = variant.image_size
    return build


def bottleneck_block(unit_fn: Callable, scope: str, base_depth: int, num_units: int, stride: int) -> Block:
    """A block of ``num_units`` bottleneck units, the last of which carries the stride.

    Args:
      unit_fn: of the units.
      scope: name of the block's variable scope.
      base_depth: channels inside a unit; its output has four times as many.
      num_units: number of units.
      stride: of the block.
    """
    unit = {"depth": base_depth * 4, "depth_bottleneck": base_depth}
    return Block(scope, unit_fn, [{**unit, "stride": 1}] * (num_units - 1) + [{**unit, "stride": stride}])


def subsample(inputs: tf.Tensor, factor: int, scope: str | None = None) -> tf.Tensor:
    """Takes every ``factor``-th row and column, the first included.

    Args:
      inputs: [batch, height, width, channels].
      factor: 1 returns ``inputs`` itself.
      scope: name scope.

    Returns:
      [batch, ceil(height / factor), ceil(width / factor), channels].
    """
    if factor == 1:
        return inputs
    return layers.max_pool2d(inputs, [1, 1], stride=factor, scope=scope)


def conv2d_same(
    inputs: tf.Tensor, num_outputs: int, kernel_size: int, stride: int, rate: int = 1, scope: str | None = None
) -> tf.Tensor:
    """A strided convolution that equals the unstrided 'SAME' one, subsampled.

    TensorFlow's own strided 'SAME' does not on an even size: it pads less at the top and left. Here the padding
    is fixed, (k - 1) // 2 rows before and the rest after for an effective kernel size k, whatever the input's size.

    Args:
      inputs: [batch, height, width, channels].
      num_outputs: number of filters.
      kernel_size: height and width of the kernel.
      stride: of the output.
      rate: dilation of the kernel.
      scope: variable scope.

    Returns:
      [batch, ceil(height / stride), ceil(width / stride), num_outputs].
    """
    if stride == 1:
        return layers.conv2d(inputs, num_outputs, kernel_size, stride=1, rate=rate, padding="SAME", scope=scope)
    inputs = tf.pad(inputs, _padding((kernel_size - 1) * rate))
    return layers.conv2d(inputs, num_outputs, kernel_size, stride=stride, rate=rate, padding="VALID", scope=scope)


def _padding(total: int) -> list[list[int]]:
    """Paddings that add ``total`` rows and columns, the odd one at the end."""
    spatial = [total // 2, total - total // 2]
    return [[0, 0], spatial, spatial, [0, 0]]


def _with_unit_arguments(blocks: Iterable[Block]) -> list[Block]:
    """The blocks with each unit's arguments as a dict."""
    return [block._replace(args=[_unit_arguments(unit) for unit in block.args]) for block in blocks]


def _unit_arguments(unit: dict[str, Any] | Sequence[int]) -> dict[str, Any]:
    if isinstance(unit, dict):
        return unit
    if len(unit) != 3:
        raise ValueError(f"A unit is a dict or a tuple (depth, depth_bottleneck, stride), and not {unit!r}.")
    return dict(zip(("depth", "depth_bottleneck", "stride"), unit, strict=True))


@slim.add_arg_scope
def stack_blocks_dense(
    net: tf.Tensor,
    blocks: Iterable[Block],
    output_stride: int | None = None,
    store_non_strided_activations: bool = False,
    outputs_collections: layers.Collections = None,
) -> tf.Tensor:
    """Stacks blocks, and keeps the output as dense as ``output_stride`` says.

    Unit i of a block is built under '<block scope>/unit_<i>', counted from 1. Once the stride so far equals
    ``output_stride``, further strides are replaced by 1 and the convolutions after them are dilated instead
    (atrous convolution, arXiv:1606.00915), so that the values are those of the nominal network, computed at
    more places.

    Args:
      net: [batch, height, width, channels].
      blocks: the blocks, in order.
      output_stride: the input's size over the output's; the product of the strides up to some unit. None for
        the product of all.
      store_non_strided_activations: take each block's end point before the stride of its last unit, at four
        times the cost of that unit; the output does not change.
      outputs_collections: collections that get each block's output.

    Returns:
      [batch, ceil(height / output_stride), ceil(width / output_stride), channels_out].

    Raises:
      ValueError: if ``output_stride`` is no product of the strides up to some unit.
    """
    blocks = _with_unit_arguments(blocks)
    _check_output_stride(output_stride, blocks)
    templates = VariableTemplates()
    stride, rate = 1, 1
    for block in blocks:
        with v1.variable_scope(block.scope, "block", [net]) as sc:
            stride_after_block = 1
            for i, unit in enumerate(block.args, start=1):
                if store_non_strided_activations and i == len(block.args):
                    stride_after_block = unit.get("stride", 1)
                    unit = {**unit, "stride": 1}
                with v1.variable_scope(f"unit_{i}", values=[net]), _equal_variables(templates, block, i, net, sc.name):
                    unit_stride = unit.get("stride", 1)
                    if stride == output_stride:
                        net = block.unit_fn(net, rate=rate, **{**unit, "stride": 1})
                        rate *= unit_stride
                    else:
                        net = block.unit_fn(net, rate=1, **unit)
                        stride *= unit_stride
            net = utils.collect_named_outputs(outputs_collections, sc.name, net)
            if stride == output_stride:
                rate *= stride_after_block
            else:
                net = subsample(net, stride_after_block)
                stride *= stride_after_block
    return net


def _equal_variables(
    templates: VariableTemplates, block: Block, i: int, net: tf.Tensor, scope: str
) -> contextlib.AbstractContextManager:
    """The context to build the ``i``-th unit of a block in, the first of which is 1: variables as in an equal unit.

    For unit functions that say of which arguments their variables do not depend, under our batch norm or none: of
    others nothing is certain.
    """
    irrelevant = getattr(block.unit_fn, "same_variables_for_any", None)
    normalizer_fn = layers.scoped_arguments(layers.conv2d).get("normalizer_fn")
    ours = normalizer_fn is None or slim.arg_scope_func_key(normalizer_fn) == slim.arg_scope_func_key(layers.batch_norm)
    if irrelevant is None or not ours:
        return contextlib.nullcontext()

    def relevant(unit: dict[str, Any]) -> tuple[tuple[str, Any], ...]:
        return tuple(sorted((name, value) for name, value in unit.items() if name not in irrelevant))

    arguments = relevant(block.args[i - 1])
    key = (block.unit_fn, arguments, net.dtype, net.shape.as_list()[-1])
    # The first unit of a block has another number of input channels than the rest.
    rest = block.args[i:] if i > 1 else []
    equal = itertools.takewhile(lambda unit: relevant(unit) == arguments, rest)
    return templates.unit(key, [f"{scope}/unit_{j}" for j, _ in enumerate(equal, start=i + 1)])


def _check_output_stride(output_stride: int | None, blocks: Sequence[Block], root_stride: int = 1) -> None:
    unit_strides = (unit.get("stride", 1) for block in blocks for unit in block.args)
    strides = list(itertools.accumulate(unit_strides, operator.mul, initial=root_stride))
    if output_stride is not None and output_stride not in strides:
        reachable = ", ".join(str(stride) for stride in sorted(set(strides)))
        raise ValueError(
            f"The target output_stride cannot be reached: the network passes through the strides {reachable}, "
            f"and {output_stride} was asked for."
        )


def build_resnet(
    inputs: tf.Tensor,
    blocks: Iterable[Block],
    num_classes: int | None,
    is_training: bool | tf.Tensor | None,
    global_pool: bool,
    output_stride: int | None,
    include_root_block: bool,
    spatial_squeeze: bool,
    reuse: bool | None,
    scope: str | None,
    *,
    default_scope: str,
    unit_fn: Callable,
    preactivation: bool,
    pool1_padding: str | None = None,
    store_non_strided_activations: bool | None = None,
    sigmoid_of_one_class: bool = False,
) -> tuple[tf.Tensor, EndPoints]:
    """The generator that the slim families share; ``resnet_v2.resnet_v2`` describes its arguments.

    Args:
      default_scope: of the network, where ``scope`` is None.
      unit_fn: the family's unit, whose outputs are end points.
      preactivation: whether normalization and activation come before each convolution, and so not after the
        first one but after the last block.
      sigmoid_of_one_class: whether the prediction of a single class is the sigmoid of its logit; its softmax is 1.
    """
    inputs = tf.convert_to_tensor(inputs)
    blocks = _with_unit_arguments(blocks)
    num_classes = check_inputs(inputs, num_classes)
    output_stride = None if output_stride is None else whole_number("output_stride", output_stride, least=1)
    _check_pool1_padding(pool1_padding, include_root_block)
    _check_output_stride(output_stride, blocks, root_stride=_ROOT_STRIDE if include_root_block else 1)
    with (
        v1.variable_scope(scope, default_scope, [inputs], reuse=reuse) as sc,
        collected_end_points(sc, [layers.conv2d, unit_fn, stack_blocks_dense]) as collection,
        training_scope(is_training),
    ):
        _check_normalizer_params(is_training)
        net = inputs
        if include_root_block:
            net = _root_block(net, preactivation, pool1_padding)
            output_stride = None if output_stride is None else output_stride // _ROOT_STRIDE
        stored = (
            {}
            if store_non_strided_activations is None
            else {"store_non_strided_activations": store_non_strided_activations}
        )
        net = stack_blocks_dense(net, blocks, output_stride, **stored)
        if preactivation:
            net = layers.batch_norm(net, activation_fn=tf.nn.relu, scope="postnorm")
        end_points = utils.convert_collection_to_dict(collection)
        if global_pool:
            net = tf.reduce_mean(net, [1, 2], name="pool5", keepdims=True)
            end_points["global_pool"] = net
        if num_classes:
            net = layers.conv2d(net, num_classes, [1, 1], activation_fn=None, normalizer_fn=None, scope="logits")
            end_points[sc.name + "/logits"] = net
            if spatial_squeeze:
                net = _squeeze(net)
                end_points[sc.name + "/spatial_squeeze"] = net
            if num_classes == 1 and sigmoid_of_one_class:
                end_points["predictions"] = tf.sigmoid(net, name="predictions")
            else:
                end_points["predictions"] = layers.softmax(net, scope="predictions")
        return net, end_points


@contextlib.contextmanager
def collected_end_points(sc: v1.VariableScope, end_point_layers: Sequence[Callable]) -> Iterator[str]:
    """The collection of a network's end points, which the outputs of these layers go to inside of the block."""
    collection = sc.original_name_scope + "_end_points"
    with slim.arg_scope(end_point_layers, outputs_collections=collection):
        yield collection


def check_inputs(inputs: tf.Tensor, num_classes: int | None) -> int:
    """The number of classes, 0 for none.

    Raises:
      ValueError: if no network can be built for these inputs or so many classes.
    """
    shape = inputs.shape
    if shape.rank != 4 or shape.as_list()[-1] is None or 0 in shape.as_list()[1:]:
        raise ValueError(f"inputs must be [batch, height, width, channels] with known channels, and has shape {shape}.")
    if inputs.dtype.base_dtype not in (tf.float32, tf.float16, tf.bfloat16):
        raise ValueError(
            f"inputs must be float32, float16 or bfloat16, and is {inputs.dtype.name}: preprocess it, or use tf.cast."
        )
    return 0 if num_classes is None else whole_number("num_classes", num_classes, least=0)


def whole_number(name: str, value: Any, least: int) -> int:
    """``value`` as an int.

    Raises:
      ValueError: if it is none, or less than ``least``.
    """
    is_whole = isinstance(value, numbers.Real) and not isinstance(value, bool) and value == value // 1
    if not is_whole or value < least:
        raise ValueError(f"{name} must be a whole number of at least {least}, and is {value!r}.")
    return int(value)


def _check_pool1_padding(pool1_padding: str | None, include_root_block: bool) -> None:
    if pool1_padding not in (None, "SAME", "PAD1"):
        raise ValueError(f"pool1_padding must be 'SAME' or 'PAD1', and is {pool1_padding!r}.")
    if pool1_padding is not None and not include_root_block:
        raise ValueError(f"pool1_padding={pool1_padding!r} has no pool1 to pad: include_root_block is False.")


def training_scope(is_training: bool | tf.Tensor | None) -> contextlib.AbstractContextManager:
    """The arg scope that puts the batch norms in the mode a builder was told; None leaves it to the caller's."""
    if is_training is None:
        return contextlib.nullcontext()
    layers.static_bool(is_training)  # which raises for what is no mode
    return slim.arg_scope([layers.batch_norm], is_training=is_training)


def _check_normalizer_params(is_training: bool | tf.Tensor | None) -> None:
    """Raises if the caller's ``normalizer_params``, which the convolutions obey, contradict the builder's mode."""
    if is_training is None:
        return
    conv2d_scope = layers.scoped_arguments(layers.conv2d)
    # As given by functools.partial, or beside.
    parameters = getattr(conv2d_scope.get("normalizer_fn"), "keywords", {}) | (
        conv2d_scope.get("normalizer_params") or {}
    )
    theirs = parameters.get("is_training", is_training)
    if theirs is not is_training:
        modes = layers.static_bool(theirs), layers.static_bool(is_training)
        if None in modes or modes[0] != modes[1]:
            raise ValueError(
                f"is_training is {is_training} but normalizer_params of the arg scope of conv2d has {theirs}: "
                "take it out of normalizer_params, or give the same."
            )


def _root_block(net: tf.Tensor, preactivation: bool, pool1_padding: str | None) -> tf.Tensor:
    """The 7x7 convolution and the 3x3 max pooling, of stride 2 each."""
    bare = {"activation_fn": None, "normalizer_fn": None} if preactivation else {}
    with slim.arg_scope([layers.conv2d], **bare):
        net = conv2d_same(net, 64, 7, stride=2, scope="conv1")
    padding = {}
    if pool1_padding == "PAD1":
        net = tf.pad(net, [[0, 0], [1, 1], [1, 1], [0, 0]], name="pool1_pad")
        padding = {"padding": "VALID"}
    elif pool1_padding == "SAME":
        padding = {"padding": "SAME"}
    return layers.max_pool2d(net, [3, 3], stride=2, scope="pool1", **padding)


def _squeeze(logits: tf.Tensor) -> tf.Tensor:
    height, width = logits.shape.as_list()[1:3]
    if not {height, width} <= {1, None}:
        raise ValueError(
            f"spatial_squeeze=True needs logits of 1x1, and they are {height}x{width}: "
            "set spatial_squeeze=False, or global_pool=True."
        )
    return tf.squeeze(logits, [1, 2], name="SpatialSqueeze")


@slim.add_arg_scope
def linear(
    inputs: tf.Tensor,
    num_outputs: int,
    scope: str,
    weights: str = "weights",
    weights_initializer: Any = None,
    weights_regularizer: Callable | None = None,
) -> tf.Tensor:
    """A matrix product and a bias: [batch, num_outputs] of [batch, channels].

    Args:
      inputs: [batch, channels].
      num_outputs: size of the result's last axis.
      scope: variable scope.
      weights: name of the matrix, beside which are the ``biases``.
      weights_initializer: None for Glorot and Bengio's uniform one.
      weights_regularizer: function of the matrix to its loss.
    """
    with v1.variable_scope(scope) as sc:
        dtype = inputs.dtype.base_dtype
        matrix = layers.model_variable(
            weights,
            [utils.last_dimension(inputs.shape, min_rank=2), num_outputs],
            dtype,
            weights_initializer or slim.xavier_initializer(),
            regularizer=weights_regularizer,
            loss_scope=f"{sc.original_name_scope}{weights}",
        )
        biases = layers.model_variable("biases", [num_outputs], dtype)
        return tf.nn.bias_add(tf.matmul(inputs, matrix), biases, name="BiasAdd")


def small_arg_scope(
    weighted: Sequence[Callable],
    weight_decay: float,
    batch_norm_updates_collections: layers.Collections,
    is_training: bool | tf.Tensor | None,
) -> dict[str, dict[str, Any]]:
    """The arg scope of a family that settles the rest in its layers.

    Args:
      weighted: functions that take ``weights_regularizer``.
      weight_decay: factor of the L2 loss on their weights.
      batch_norm_updates_collections, is_training: as for ``resnet_arg_scope``.
    """
    mode = {} if is_training is None else {"is_training": is_training}
    with (
        slim.arg_scope(weighted, weights_regularizer=slim.l2_regularizer(float(weight_decay))),
        slim.arg_scope([layers.batch_norm], updates_collections=batch_norm_updates_collections, **mode) as scope,
    ):
        return scope


def resnet_arg_scope(
    weight_decay: float = 0.0001,
    batch_norm_decay: float = 0.997,
    batch_norm_epsilon: float = 1e-5,
    batch_norm_scale: bool = True,
    activation_fn: Callable = tf.nn.relu,
    use_batch_norm: bool = True,
    batch_norm_updates_collections: layers.Collections = v1.GraphKeys.UPDATE_OPS,
    *,
    is_training: bool | tf.Tensor | None = None,
) -> dict[str, dict[str, Any]]:
    """The arg scope of the slim ResNets, for ``slim.arg_scope(...)``.

    The defaults are those of the published models; training from scratch may want others.

    Args:
      weight_decay: factor of the L2 loss on the convolutions' weights.
      batch_norm_decay: of the moving statistics.
      batch_norm_epsilon: added to the variance.
      batch_norm_scale: whether batch norms have a gamma.
      activation_fn: of the convolutions.
      use_batch_norm: False leaves the batch norm of the convolutions out, which then have biases.
      batch_norm_updates_collections: where the updates of the moving statistics go; None for in place.
      is_training: mode of the batch norms, where a builder is not told its own; None says nothing.

    Returns:
      The scope, a dict.
    """
    batch_norm_params = {
        "decay": batch_norm_decay,
        "epsilon": batch_norm_epsilon,
        "scale": batch_norm_scale,
        "updates_collections": batch_norm_updates_collections,
        "fused": None,
    }
    mode = {} if is_training is None else {"is_training": is_training}
    with (
        slim.arg_scope(
            [layers.conv2d],
            weights_regularizer=slim.l2_regularizer(float(weight_decay)),
            weights_initializer=slim.variance_scaling_initializer(),
            activation_fn=activation_fn,
            normalizer_fn=layers.batch_norm if use_batch_norm else None,
            normalizer_params=batch_norm_params,
        ),
        slim.arg_scope([layers.batch_norm], **batch_norm_params, **mode),
        # 'SAME' aligns the features of dense prediction with the image; the original code pads otherwise.
        slim.arg_scope([layers.max_pool2d], padding="SAME") as scope,
    ):
        return scope
