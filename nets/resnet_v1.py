"""The original ResNets of slim: He, Zhang, Ren, Sun, Deep Residual Learning for Image Recognition, arXiv:1512.03385.
Normalization comes after each convolution, and the last activation of a unit after its addition.

This classifies images [batch, 224, 224, 3] into 1000 classes:

    with slim.arg_scope(resnet_v1.resnet_arg_scope()):
        net, end_points = resnet_v1.resnet_v1_50(images, 1000, is_training=False)

The docstring of ``resnet_v2`` shows dense prediction, which works the same way here.
"""

import math
from collections.abc import Iterable

import tensorflow as tf
import tf_slim as slim
from tf_slim.layers import utils

from nets import layers
from nets.arguments import flag, is_number, whole_number, whole_numbers
from nets.builders import Builder, EndPoints, Family, Head, Root, Variant, build_resnet, slim_builder
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
    """Builds the original bottleneck unit: 1x1, 3x3 and 1x1 convolution, beside a shortcut.

    It is Fig. 1(a) of arXiv:1603.05027.

    If the depths agree, the shortcut is the subsampled input, and otherwise a 1x1 projection of it.

    Args:
      inputs: [batch, height, width, channels].
      depth: channels of the output.
      depth_bottleneck: channels of the first two convolutions.
      stride: stride of the 3x3 convolution and the shortcut.
      rate: dilation of the 3x3 convolution.
      outputs_collections: collections that get the output, under the scope's name.
      scope: variable scope; None for 'bottleneck_v1', made unique.
      use_bounded_activations: whether to keep the output and a projected shortcut in [0, 6], and the residual in
        [-6, 6], for quantized inference.

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


_FAMILY = Family("resnet_v1", bottleneck)


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

    Arguments, results and errors are those of ``resnet_v2.resnet_v2``, except for the position of
    ``store_non_strided_activations`` (see ``resnet_utils.stack_blocks_dense``), and the default scope, 'resnet_v1'.
    """
    root, head = Root(include_root_block, pool1_padding), Head(num_classes, global_pool, spatial_squeeze)
    return build_resnet(
        _FAMILY, root, head, inputs, blocks, is_training, output_stride, store_non_strided_activations, reuse, scope
    )


resnet_v1.default_image_size = 224


def resnet_v1_block(scope: str, base_depth: int, num_units: int, stride: int) -> Block:
    """Returns a block of bottleneck units; see ``resnet_utils.bottleneck_block``."""
    return bottleneck_block(bottleneck, scope, base_depth, num_units, stride)


def _scaled(base_depth: int, depth_multiplier: float, min_base_depth: int) -> int:
    if not is_number(depth_multiplier) or not 0 < depth_multiplier < math.inf:
        raise ValueError(f"depth_multiplier must be a number above 0, and is {depth_multiplier!r}.")
    return max(int(base_depth * depth_multiplier), whole_number("min_base_depth", min_base_depth, least=1))


def _blocks(variant: Variant, min_base_depth: int = 8, depth_multiplier: float = 1) -> list[Block]:
    return [
        resnet_v1_block(scope, _scaled(base_depth, depth_multiplier, min_base_depth), num_units, stride)
        for scope, base_depth, num_units, stride in variant.blocks()
    ]


def _builder(name: str, options: str = "spatial_squeeze store_non_strided_activations") -> Builder:
    variant = VARIANTS[name]
    arguments = (
        f"inputs num_classes is_training global_pool output_stride {options} min_base_depth depth_multiplier "
        "reuse scope * pool1_padding"
    )
    description = (
        f"Builds the network with {variant.units} units in its blocks; see ``resnet_v1``.\n\n"
        "The channels inside a block's units are ``depth_multiplier`` times the paper's, and at least "
        "``min_base_depth``."
    )
    return slim_builder(name, variant, resnet_v1, _blocks, arguments, description)


# research/slim has two arguments in another order in its two deepest networks.
_SWAPPED = "store_non_strided_activations spatial_squeeze"

resnet_v1_50 = _builder("resnet_v1_50")
resnet_v1_101 = _builder("resnet_v1_101")
resnet_v1_152 = _builder("resnet_v1_152", _SWAPPED)
resnet_v1_200 = _builder("resnet_v1_200", _SWAPPED)
