"""The original ResNets of slim: He, Zhang, Ren, Sun, Deep Residual Learning for Image Recognition, arXiv:1512.03385.
Normalization comes after each convolution, and the last activation of a unit after its addition.

For classification into 1000 classes, of images [batch, 224, 224, 3]:

    with slim.arg_scope(resnet_v1.resnet_arg_scope()):
        net, end_points = resnet_v1.resnet_v1_50(images, 1000, is_training=False)

``resnet_v2`` shows dense prediction, which goes the same way here.
"""

import functools
import math
from collections.abc import Iterable

import tensorflow as tf
import tf_slim as slim
from tf_slim.layers import utils

from nets import layers
from nets.arguments import flag, is_number, whole_number, whole_numbers
from nets.builders import Builder, EndPoints, Variant, build_resnet, named
from nets.resnet_utils import Block, bottleneck_block, conv2d_same, resnet_arg_scope, subsample

v1 = tf.compat.v1

__all__ = [
    "VARIANTS",
    "bottleneck",
    "resnet_arg_scope",
    "resnet_v1",
    "resnet_v1_50",
    "resnet_v1_101",
    "resnet_v1_152",
    "resnet_v1_200",
    "resnet_v1_block",
]

VARIANTS = {
    "resnet_v1_50": Variant(units=(3, 4, 6, 3)),
    "resnet_v1_101": Variant(units=(3, 4, 23, 3)),
    "resnet_v1_152": Variant(units=(3, 8, 36, 3)),
    "resnet_v1_200": Variant(units=(3, 24, 36, 3)),
}


@slim.add_arg_scope
def bottleneck(
    inputs: tf.Tensor,
    depth: int,
    depth_bottleneck: int,
    stride: int,
    rate: int = 1,
    outputs_collections: layers.Collections = None,
    scope: str | None = None,
    use_bounded_activations: bool = False,
) -> tf.Tensor:
    """The original bottleneck unit: 1x1, 3x3 and 1x1 convolution beside a shortcut; Fig. 1(a) of arXiv:1603.05027.

    The shortcut is the input itself, subsampled, where the depths agree, and a 1x1 projection where they do not.

    Args:
      inputs: [batch, height, width, channels].
      depth: channels of the output.
      depth_bottleneck: channels of the first two convolutions.
      stride: of the 3x3 convolution and the shortcut.
      rate: dilation of the 3x3 convolution.
      outputs_collections: collections that get the output, under the scope's name.
      scope: variable scope; 'bottleneck_v1' where None.
      use_bounded_activations: keeps the output and a projected shortcut in [0, 6], and the residual in [-6, 6],
        for quantized inference.

    Returns:
      [batch, ceil(height / stride), ceil(width / stride), depth].
    """
    depth, depth_bottleneck = whole_numbers(depth=depth, depth_bottleneck=depth_bottleneck)
    stride, rate = whole_numbers(stride=stride, rate=rate)
    use_bounded_activations = flag("use_bounded_activations", use_bounded_activations)
    with v1.variable_scope(scope, "bottleneck_v1", [inputs]) as sc:
        depth_in = utils.last_dimension(inputs.shape, min_rank=4)
        if depth == depth_in:
            shortcut = subsample(inputs, stride, "shortcut")
        else:
            bounded = tf.nn.relu6 if use_bounded_activations else None
            shortcut = layers.conv2d(inputs, depth, [1, 1], stride=stride, activation_fn=bounded, scope="shortcut")
        residual = layers.conv2d(inputs, depth_bottleneck, [1, 1], stride=1, scope="conv1")
        residual = conv2d_same(residual, depth_bottleneck, 3, stride, rate=rate, scope="conv2")
        residual = layers.conv2d(residual, depth, [1, 1], stride=1, activation_fn=None, scope="conv3")
        if use_bounded_activations:
            output = tf.nn.relu6(shortcut + tf.clip_by_value(residual, -6.0, 6.0))
        else:
            output = tf.nn.relu(shortcut + residual)
        return utils.collect_named_outputs(outputs_collections, sc.name, output)


def resnet_v1(
    inputs: tf.Tensor,
    blocks: Iterable[Block],
    num_classes: int | None = None,
    is_training: bool | tf.Tensor | None = None,
    global_pool: bool = True,
    output_stride: int | None = None,
    include_root_block: bool = True,
    spatial_squeeze: bool = True,
    store_non_strided_activations: bool = False,
    reuse: bool | None = None,
    scope: str | None = None,
    *,
    pool1_padding: str | None = None,
) -> tuple[tf.Tensor, EndPoints]:
    """Builds an original ResNet from ``blocks``.

    Arguments, results and errors are those of ``resnet_v2.resnet_v2``, but for the place of
    ``store_non_strided_activations`` (see ``resnet_utils.stack_blocks_dense``), and for the default scope, 'resnet_v1'.
    """
    return build_resnet(
        inputs,
        blocks,
        num_classes,
        is_training,
        global_pool,
        output_stride,
        include_root_block,
        spatial_squeeze,
        reuse,
        scope,
        default_scope="resnet_v1",
        unit_fn=bottleneck,
        preactivation=False,
        pool1_padding=pool1_padding,
        store_non_strided_activations=store_non_strided_activations,
    )


resnet_v1.default_image_size = 224


def resnet_v1_block(scope: str, base_depth: int, num_units: int, stride: int) -> Block:
    """A block of ``num_units`` bottleneck units; see ``resnet_utils.bottleneck_block``."""
    return bottleneck_block(bottleneck, scope, base_depth, num_units, stride)


def _scaled(base_depth: int, depth_multiplier: float, min_base_depth: int) -> int:
    if not is_number(depth_multiplier) or not 0 < depth_multiplier < math.inf:
        raise ValueError(f"depth_multiplier must be a number above 0, and is {depth_multiplier!r}.")
    return max(int(base_depth * depth_multiplier), whole_number("min_base_depth", min_base_depth, least=1))


def _builder(name: str) -> Builder:
    variant = VARIANTS[name]

    def build(
        inputs: tf.Tensor,
        num_classes: int | None = None,
        is_training: bool | tf.Tensor | None = None,
        global_pool: bool = True,
        output_stride: int | None = None,
        spatial_squeeze: bool = True,
        store_non_strided_activations: bool = False,
        min_base_depth: int = 8,
        depth_multiplier: float = 1,
        reuse: bool | None = None,
        scope: str | None = name,
        *,
        pool1_padding: str | None = None,
    ) -> tuple[tf.Tensor, EndPoints]:
        return resnet_v1(
            inputs,
            [
                resnet_v1_block(block, _scaled(base_depth, depth_multiplier, min_base_depth), num_units, stride)
                for block, base_depth, num_units, stride in variant.blocks()
            ],
            num_classes,
            is_training,
            global_pool,
            output_stride,
            include_root_block=True,
            spatial_squeeze=spatial_squeeze,
            store_non_strided_activations=store_non_strided_activations,
            reuse=reuse,
            scope=scope,
            pool1_padding=pool1_padding,
        )

    description = (
        f"The network of {variant.units} units a block; ``resnet_v1`` describes arguments and results.\n\n"
        "The channels inside a block's units are ``depth_multiplier`` times the paper's, and at least "
        "``min_base_depth``."
    )
    return named(build, name, variant, description)


def _stored_before_squeeze(build: Builder) -> Builder:
    """``build`` with two arguments in the other order, which research/slim has in its two deepest networks."""

    def swapped(
        inputs: tf.Tensor,
        num_classes: int | None = None,
        is_training: bool | tf.Tensor | None = None,
        global_pool: bool = True,
        output_stride: int | None = None,
        store_non_strided_activations: bool = False,
        spatial_squeeze: bool = True,
        min_base_depth: int = 8,
        depth_multiplier: float = 1,
        reuse: bool | None = None,
        scope: str | None = build.__name__,
        *,
        pool1_padding: str | None = None,
    ) -> tuple[tf.Tensor, EndPoints]:
        return build(
            inputs,
            num_classes,
            is_training,
            global_pool,
            output_stride,
            spatial_squeeze,
            store_non_strided_activations,
            min_base_depth,
            depth_multiplier,
            reuse,
            scope,
            pool1_padding=pool1_padding,
        )

    functools.update_wrapper(swapped, build)
    del swapped.__wrapped__  # whose signature would be shown in the place of this one
    return swapped


resnet_v1_50 = _builder("resnet_v1_50")
resnet_v1_101 = _builder("resnet_v1_101")
resnet_v1_152 = _stored_before_squeeze(_builder("resnet_v1_152"))
resnet_v1_200 = _stored_before_squeeze(_builder("resnet_v1_200"))
