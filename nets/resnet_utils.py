"""The parts of the slim ResNets: blocks of units, their stacking at any density, the common arg scope.

He, Zhang, Ren, Sun: Deep Residual Learning for Image Recognition, arXiv:1512.03385 (v1), and Identity Mappings
in Deep Residual Networks, arXiv:1603.05027 (v2). As in slim, the stride of a block sits in its last unit: the
numbers are those of a stride in the first unit of the next block, with less memory.
"""

import collections
import itertools
import operator
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import tensorflow as tf
import tf_slim as slim
from tf_slim.layers import utils

from nets import layers
from nets.arguments import (
    check_collections,
    check_weight_decay,
    flag,
    function,
    number,
    shown,
    whole_number,
    whole_numbers,
)
from nets.building import building, one_at_a_time
from nets.fast_units import fast_units

__all__ = [
    "Block",
    "bottleneck_block",
    "check_output_stride",
    "conv2d_same",
    "resnet_arg_scope",
    "stack_blocks_dense",
    "subsample",
    "with_unit_arguments",
]

v1 = tf.compat.v1


class Block(collections.namedtuple("Block", ["scope", "unit_fn", "args"])):
    """A ResNet block: units of one kind under one variable scope.

    scope: name of the block's variable scope.
    unit_fn: function that builds a unit: ``unit_fn(net, rate=..., **unit)`` returns its output.
    args: one element for each unit, its keyword arguments as a dict (``depth``, ``depth_bottleneck``, ``stride``),
      or the tuple (depth, depth_bottleneck, stride).
    """


def bottleneck_block(unit_fn: Callable, scope: str, base_depth: int, num_units: int, stride: int) -> Block:
    """Returns a block of bottleneck units, the last of which carries the stride.

    Args:
      unit_fn: function that builds a unit.
      scope: name of the block's variable scope.
      base_depth: channels inside a unit; its output has four times as many.
      num_units: number of units.
      stride: stride of the block.
    """
    base_depth, num_units, stride = whole_numbers(base_depth=base_depth, num_units=num_units, stride=stride)
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
    factor = whole_number("factor", factor, least=1)
    if factor == 1:
        return inputs
    return layers.max_pool2d(inputs, [1, 1], stride=factor, scope=scope)


def conv2d_same(
    inputs: tf.Tensor, num_outputs: int, kernel_size: int, stride: int, rate: int = 1, scope: str | None = None
) -> tf.Tensor:
    """Applies a strided convolution that equals the unstrided 'SAME' convolution, subsampled.

    TensorFlow's own strided 'SAME' differs on an even size: it pads less at the top and left. Here the padding is
    (k - 1) // 2 rows before and the rest after for an effective kernel size k, whatever the size of the input.

    Args:
      inputs: [batch, height, width, channels].
      num_outputs: number of filters.
      kernel_size: height and width of the kernel.
      stride: stride of the output.
      rate: dilation of the kernel.
      scope: variable scope.

    Returns:
      [batch, ceil(height / stride), ceil(width / stride), num_outputs].
    """
    kernel_size, stride, rate = whole_numbers(kernel_size=kernel_size, stride=stride, rate=rate)
    if stride == 1:
        return layers.conv2d(inputs, num_outputs, kernel_size, stride=1, rate=rate, padding="SAME", scope=scope)
    inputs = tf.pad(inputs, _padding((kernel_size - 1) * rate))
    return layers.conv2d(inputs, num_outputs, kernel_size, stride=stride, rate=rate, padding="VALID", scope=scope)


def _padding(total: int) -> list[list[int]]:
    """Returns the paddings that add ``total`` rows and columns, the odd one at the end."""
    spatial = [total // 2, total - total // 2]
    return [[0, 0], spatial, spatial, [0, 0]]


def with_unit_arguments(blocks: Iterable[Block]) -> list[Block]:
    """Returns the blocks with each unit's arguments as a dict.

    Raises:
      ValueError: if one of them is not a block, or has something else than units.
    """
    if hasattr(blocks, "unit_fn") or not isinstance(blocks, Iterable):
        raise ValueError(f"blocks must be a list of Block(scope, unit_fn, args), and is {shown(blocks)}.")
    return [_with_unit_arguments(block) for block in blocks]


def _with_unit_arguments(block: Block) -> Block:
    # Checked by its fields, since tf_slim has its own class Block.
    if not all(hasattr(block, field) for field in (*Block._fields, "_replace")):
        raise ValueError(f"blocks must be a list of Block(scope, unit_fn, args), and has {shown(block)} in it.")
    return block._replace(args=[_unit_arguments(unit) for unit in block.args])


def _unit_arguments(unit: dict[str, Any] | Sequence[int]) -> dict[str, Any]:
    if isinstance(unit, list | tuple) and len(unit) == 3:
        unit = dict(zip(("depth", "depth_bottleneck", "stride"), unit, strict=True))
    if not isinstance(unit, dict):
        raise ValueError(f"A unit is a dict or a tuple (depth, depth_bottleneck, stride), and not {shown(unit)}.")
    # The unit's function checks the rest.
    return {**unit, "stride": whole_number("stride of a unit", unit["stride"], least=1)} if "stride" in unit else unit


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
    (atrous convolution, arXiv:1606.00915). The values are those of the nominal network, computed at more places.

    Args:
      net: [batch, height, width, channels].
      blocks: blocks in order.
      output_stride: size of the input divided by the size of the output; the product of the strides up to some unit.
        None for the product of all strides.
      store_non_strided_activations: whether each block's end point comes before the stride of its last unit. That unit
        then costs four times as much; the output does not change.
      outputs_collections: collections that get each block's output.

    Returns:
      [batch, ceil(height / output_stride), ceil(width / output_stride), channels_out].

    Raises:
      ValueError: if ``output_stride`` is not the product of the strides up to some unit.
    """
    blocks = with_unit_arguments(blocks)
    output_stride = None if output_stride is None else whole_number("output_stride", output_stride, least=1)
    check_output_stride(output_stride, blocks)
    store_non_strided_activations = flag("store_non_strided_activations", store_non_strided_activations)
    stride, rate = 1, 1
    with building(), fast_units(blocks) as blocks:
        for block in blocks:
            with v1.variable_scope(block.scope, "block", [net]) as sc:
                stride_after_block = 1
                for i, unit in enumerate(block.args, start=1):
                    if store_non_strided_activations and i == len(block.args):
                        stride_after_block = unit.get("stride", 1)
                        unit = {**unit, "stride": 1}
                    with v1.variable_scope(f"unit_{i}", values=[net]):
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


def check_output_stride(output_stride: int | None, blocks: Sequence[Block], root_stride: int = 1) -> None:
    """Raises ValueError if no unit brings the stride from ``root_stride`` to ``output_stride``."""
    unit_strides = (unit.get("stride", 1) for block in blocks for unit in block.args)
    strides = list(itertools.accumulate(unit_strides, operator.mul, initial=root_stride))
    if output_stride is not None and output_stride not in strides:
        reachable = ", ".join(str(stride) for stride in sorted(set(strides)))
        raise ValueError(
            f"The target output_stride cannot be reached: the network passes through the strides {reachable}, "
            f"and {output_stride} was asked for."
        )


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
    """Returns the arg scope of the slim ResNets, for ``slim.arg_scope(...)``.

    The defaults are those of the published models; training from scratch may need others.

    Args:
      weight_decay: factor of the L2 loss on the convolutions' weights; a float or a scalar tensor. An int is refused,
        since it may be meant for ``is_training``.
      batch_norm_decay: decay of the moving statistics.
      batch_norm_epsilon: number added to the variance.
      batch_norm_scale: whether batch norms have a gamma.
      activation_fn: activation of the convolutions.
      use_batch_norm: whether the convolutions have a batch norm; if not, they have biases.
      batch_norm_updates_collections: collections for the updates of the moving statistics; None updates in place.
      is_training: mode of the batch norms for builders that are called without one; None sets no mode.

    Returns:
      The scope, a dict.

    Raises:
      ValueError: for a value that tf_slim refuses or cannot compute with; a bool is not a number.
    """
    updates_collections = check_collections("batch_norm_updates_collections", batch_norm_updates_collections)
    regularizer = slim.l2_regularizer(check_weight_decay(weight_decay))
    batch_norm_params = {
        "decay": number("batch_norm_decay", batch_norm_decay, most=1, tensor=True),
        "epsilon": number("batch_norm_epsilon", batch_norm_epsilon),
        "scale": flag("batch_norm_scale", batch_norm_scale),
        "updates_collections": updates_collections,
        "fused": None,
    }
    mode = {}
    if is_training is not None:
        layers.static_bool(is_training)  # raises ValueError unless it is a mode
        mode = {"is_training": is_training}
    with (
        one_at_a_time(),
        slim.arg_scope(
            [layers.conv2d],
            weights_regularizer=regularizer,
            weights_initializer=slim.variance_scaling_initializer(),
            activation_fn=function("activation_fn", activation_fn),
            normalizer_fn=layers.batch_norm if flag("use_batch_norm", use_batch_norm) else None,
            normalizer_params=batch_norm_params,
        ),
        slim.arg_scope([layers.batch_norm], **batch_norm_params, **mode),
        # 'SAME' aligns the features of dense prediction with the image; the original code pads differently.
        slim.arg_scope([layers.max_pool2d], padding="SAME") as scope,
    ):
        return scope
