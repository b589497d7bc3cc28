"""The full pre-activation ResNets of slim: He, Zhang, Ren, Sun, Identity Mappings in Deep Residual Networks,
arXiv:1603.05027. Normalization and activation come before each convolution, so a unit's output has neither.

This classifies images [batch, 224, 224, 3] into 1000 classes:

    with slim.arg_scope(resnet_v2.resnet_arg_scope()):
        net, end_points = resnet_v2.resnet_v2_50(images, 1000, is_training=False)

For dense prediction, image sizes of a multiple of 32 plus 1 align the corners of the features with the image's:

    with slim.arg_scope(resnet_v2.resnet_arg_scope()):
        net, end_points = resnet_v2.resnet_v2_101(
            images, 21, is_training=False, global_pool=False, output_stride=16, spatial_squeeze=False)
"""

from collections.abc import Iterable

import tensorflow as tf
import tf_slim as slim
from tf_slim.layers import utils

from nets import layers
from nets.arguments import whole_numbers
from nets.builders import Builder, EndPoints, Family, Head, Root, Variant, build_resnet, slim_builder
from nets.resnet_utils import Block, bottleneck_block, conv2d_same, resnet_arg_scope, subsample

v1 = tf.compat.v1

__all__ = [
    "VARIANTS",
    "bottleneck",
    "resnet_arg_scope",
    "resnet_v2",
    "resnet_v2_50",
    "resnet_v2_101",
    "resnet_v2_152",
    "resnet_v2_200",
    "resnet_v2_block",
    "resnet_v2_tiny",
]

VARIANTS = {
    "resnet_v2_50": Variant(units=(3, 4, 6, 3)),
    "resnet_v2_101": Variant(units=(3, 4, 23, 3)),
    "resnet_v2_152": Variant(units=(3, 8, 36, 3)),
    "resnet_v2_200": Variant(units=(3, 24, 36, 3)),
    "resnet_v2_tiny": Variant(units=(1, 1, 1, 1), base_depths=(16, 32, 64, 128), image_size=32),
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
) -> tf.Tensor:
    """Builds the pre-activation bottleneck unit: 1x1, 3x3 and 1x1 convolution, beside a shortcut; Fig. 1(b).

    If the depths agree, the shortcut is the subsampled input, and otherwise a 1x1 projection of the pre-activation.

    Args:
      inputs: [batch, height, width, channels].
      depth: channels of the output.
      depth_bottleneck: channels of the first two convolutions.
      stride: stride of the 3x3 convolution and the shortcut.
      rate: dilation of the 3x3 convolution.
      outputs_collections: collections that get the output, under the scope's name.
      scope: variable scope; None for 'bottleneck_v2', made unique.

    Returns:
      [batch, ceil(height / stride), ceil(width / stride), depth].
    """
    depth, depth_bottleneck = whole_numbers(depth=depth, depth_bottleneck=depth_bottleneck)
    stride, rate = whole_numbers(stride=stride, rate=rate)
    with v1.variable_scope(scope, "bottleneck_v2", [inputs]) as sc:
        depth_in = utils.last_dimension(inputs.shape, min_rank=4)
        preact = layers.batch_norm(inputs, activation_fn=tf.nn.relu, scope="preact")
        bare = {"normalizer_fn": None, "activation_fn": None}
        if depth == depth_in:
            shortcut = subsample(inputs, stride, "shortcut")
        else:
            shortcut = layers.conv2d(preact, depth, [1, 1], stride=stride, scope="shortcut", **bare)
        residual = layers.conv2d(preact, depth_bottleneck, [1, 1], stride=1, scope="conv1")
        residual = conv2d_same(residual, depth_bottleneck, 3, stride, rate=rate, scope="conv2")
        residual = layers.conv2d(residual, depth, [1, 1], stride=1, scope="conv3", **bare)
        return utils.collect_named_outputs(outputs_collections, sc.name, shortcut + residual)


_FAMILY = Family("resnet_v2", bottleneck, preactivation=True)


def resnet_v2(
    inputs: tf.Tensor,
    blocks: Iterable[Block],
    num_classes: int | None = None,
    is_training: bool | tf.Tensor | None = None,
    global_pool: bool = True,
    output_stride: int | None = None,
    include_root_block: bool = True,
    spatial_squeeze: bool = True,
    reuse: bool | None = None,
    scope: str | None = None,
    *,
    pool1_padding: str | None = None,
    store_non_strided_activations: bool | None = None,
) -> tuple[tf.Tensor, EndPoints]:
    """Builds a pre-activation ResNet from ``blocks``.

    Args:
      inputs: [batch, height, width, channels]; batch, height and width may be unknown.
      blocks: blocks in order.
      num_classes: channels of the logits; 0 or None for a network without logits.
      is_training: mode of the batch norms. None takes it from the enclosing arg scope, whose default is training.
      global_pool: whether to average the features over the image before the logits.
      output_stride: size of the input divided by the size of the last block's output, kept by atrous convolution.
        None for the nominal stride, which is 32 for the networks of the paper.
      include_root_block: whether there are a convolution and a pooling, of stride 4 together, before the blocks. If
        not, ``inputs`` should be the output of a convolution without activation.
      spatial_squeeze: whether logits are [batch, num_classes] rather than [batch, 1, 1, num_classes].
      reuse: whether to reuse the variables of ``scope``.
      scope: variable scope; None for 'resnet_v2', made unique.
      pool1_padding: 'SAME' as in slim, or 'PAD1' for one row and column of zeros on each side, as in Keras and PyTorch.
        None takes it from the arg scope; it is 'SAME' in ``resnet_arg_scope``.
      store_non_strided_activations: see ``resnet_utils.stack_blocks_dense``; None takes it from the arg scope.

    Returns:
      net: logits; without classes features, [batch, 1, 1, channels] or, without global pooling,
        [batch, height_out, width_out, channels].
      end_points: dict from the names of the end points to their tensors, in graph order.

    Raises:
      ValueError: for an argument that no network can be built with; the message names it.
    """
    root, head = Root(include_root_block, pool1_padding), Head(num_classes, global_pool, spatial_squeeze)
    return build_resnet(
        _FAMILY, root, head, inputs, blocks, is_training, output_stride, store_non_strided_activations, reuse, scope
    )


resnet_v2.default_image_size = 224


def resnet_v2_block(scope: str, base_depth: int, num_units: int, stride: int) -> Block:
    """Returns a block of bottleneck units; see ``resnet_utils.bottleneck_block``."""
    return bottleneck_block(bottleneck, scope, base_depth, num_units, stride)


def _blocks(variant: Variant) -> list[Block]:
    return [resnet_v2_block(*block) for block in variant.blocks()]


def _builder(name: str) -> Builder:
    variant = VARIANTS[name]
    arguments = (
        "inputs num_classes is_training global_pool output_stride spatial_squeeze reuse scope "
        "* pool1_padding store_non_strided_activations"
    )
    description = f"Builds the network with {variant.units} units in its blocks; see ``resnet_v2``."
    return slim_builder(name, variant, resnet_v2, _blocks, arguments, description)


resnet_v2_50 = _builder("resnet_v2_50")
resnet_v2_101 = _builder("resnet_v2_101")
resnet_v2_152 = _builder("resnet_v2_152")
resnet_v2_200 = _builder("resnet_v2_200")
resnet_v2_tiny = _builder("resnet_v2_tiny")
