"""ResNets of two-layer units, 18 and 34 layers deep: He, Zhang, Ren, Sun, arXiv:1512.03385, Table 1 and Fig. 5 (left).

With ``shortcut='B'`` they compute the same as ResNet-18 and 34 of torchvision and timm, under slim's names and arg
scopes. The stride of a block sits in its first unit, convolutions and ``pool1`` pad equally on all sides, and a single
class is predicted by a sigmoid:

    with slim.arg_scope(resnet_basic.resnet_arg_scope()):
        net, end_points = resnet_basic.resnet_basic_34(images, 1000, is_training=False)
"""

from collections.abc import Iterable

import tensorflow as tf
import tf_slim as slim
from tf_slim.layers import utils

from nets import layers
from nets.arguments import whole_number, whole_numbers
from nets.builders import Builder, EndPoints, Family, Head, Root, Variant, build_resnet, slim_builder
from nets.resnet_utils import Block, conv2d_same, resnet_arg_scope, subsample

v1 = tf.compat.v1

__all__ = [
    "SHORTCUTS",
    "VARIANTS",
    "basic",
    "resnet_arg_scope",
    "resnet_basic",
    "resnet_basic_18",
    "resnet_basic_34",
    "resnet_basic_block",
]

VARIANTS = {
    "resnet_basic_18": Variant(units=(2, 2, 2, 2), bottleneck=False),
    "resnet_basic_34": Variant(units=(3, 4, 6, 3), bottleneck=False),
}

_UNIT_SHORTCUTS = ("A", "B", "C")
# Shortcut of a block -> the shortcuts of its first unit and of its other units.
SHORTCUTS = {"A": ("A", "A"), "B": ("B", "B"), "C": ("C", "C"), "first_unit": ("C", "B")}


@slim.add_arg_scope
def basic(
    inputs: tf.Tensor,
    depth: int,
    stride: int,
    rate: int = 1,
    shortcut: str = "B",
    nominal_stride: int | None = None,
    outputs_collections: layers.Collections = None,
    scope: str | None = None,
) -> tf.Tensor:
    """Builds the two-layer unit: two 3x3 convolutions, beside a shortcut; Section 3.3 of the paper.

    Args:
      inputs: [batch, height, width, channels].
      depth: channels of the output and of the first convolution.
      stride: stride of the first convolution and the shortcut.
      rate: dilation of the first convolution.
      shortcut: 'A': the subsampled input, with channels of zeros appended if the depths differ. 'B': the same, but a
        1x1 projection if the depths differ. 'C': always a 1x1 projection.
      nominal_stride: stride of the unit in the nominal network if ``stride`` is 1 in its place. It dilates the second
        convolution further. None for ``stride``.
      outputs_collections: collections that get the output, under the scope's name.
      scope: variable scope; None for 'basic', made unique.

    Returns:
      [batch, ceil(height / stride), ceil(width / stride), depth].

    Raises:
      ValueError: for an unknown shortcut, or for 'A' to fewer channels.
    """
    depth, stride, rate = whole_numbers(depth=depth, stride=stride, rate=rate)
    if nominal_stride is not None:
        nominal_stride = whole_number("nominal_stride", nominal_stride, least=1)
    if shortcut not in _UNIT_SHORTCUTS:
        raise ValueError(f"The shortcut of a unit must be {_listed(_UNIT_SHORTCUTS)}, and is {shortcut!r}.")
    inner_rate = rate * (nominal_stride or stride) // stride
    with v1.variable_scope(scope, "basic", [inputs]) as sc:
        depth_in = utils.last_dimension(inputs.shape, min_rank=4)
        residual = conv2d_same(inputs, depth, 3, stride, rate=rate, scope="conv1")
        with slim.arg_scope([layers.conv2d], activation_fn=None):
            residual = conv2d_same(residual, depth, 3, 1, rate=inner_rate, scope="conv2")
            if shortcut == "C" or (shortcut == "B" and depth != depth_in):
                identity = layers.conv2d(inputs, depth, [1, 1], stride=stride, scope="shortcut")
            else:
                identity = _padded(subsample(inputs, stride, "shortcut"), depth - depth_in)
        return utils.collect_named_outputs(outputs_collections, sc.name, tf.nn.relu(residual + identity))


def _padded(inputs: tf.Tensor, channels: int) -> tf.Tensor:
    """Appends channels of zeros."""
    if channels == 0:
        return inputs
    if channels < 0:
        raise ValueError(f"Shortcut 'A' cannot take {-channels} of {inputs.shape[-1]} channels away: use 'B' or 'C'.")
    return tf.pad(inputs, [[0, 0], [0, 0], [0, 0], [0, channels]], name="shortcut_pad")


def _listed(names: Iterable[str]) -> str:
    *most, last = (repr(name) for name in names)
    return f"{', '.join(most)} or {last}"


_FAMILY = Family("resnet_basic", basic, sigmoid_of_one_class=True)


def resnet_basic(
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
    """Builds a ResNet of two-layer units from ``blocks``.

    Arguments, results and errors are those of ``resnet_v2.resnet_v2``, except for ``pool1_padding``, where None means
    'PAD1', the default scope, 'resnet_basic', and the prediction of a single class, which is the sigmoid of its logit.
    """
    if pool1_padding is None and include_root_block:
        pool1_padding = "PAD1"
    root, head = Root(include_root_block, pool1_padding), Head(num_classes, global_pool, spatial_squeeze)
    return build_resnet(
        _FAMILY, root, head, inputs, blocks, is_training, output_stride, store_non_strided_activations, reuse, scope
    )


resnet_basic.default_image_size = 224


def resnet_basic_block(scope: str, depth: int, num_units: int, stride: int, shortcut: str = "B") -> Block:
    """Returns a block of two-layer units, the first of which carries the stride.

    Args:
      scope: name of the block's variable scope.
      depth: channels of its units.
      num_units: number of units.
      stride: stride of the block.
      shortcut: option 'A', 'B' or 'C' of Section 4.1 of the paper, see ``basic``; or 'first_unit' for a projection in
        the first unit, whatever its depths, and in no other.

    Raises:
      ValueError: for an unknown shortcut.
    """
    if not isinstance(shortcut, str) or shortcut not in SHORTCUTS:
        raise ValueError(f"shortcut must be {_listed(SHORTCUTS)}, and is {shortcut!r}.")
    depth, num_units, stride = whole_numbers(depth=depth, num_units=num_units, stride=stride)
    first, rest = SHORTCUTS[shortcut]
    units = [{"depth": depth, "stride": stride, "nominal_stride": stride, "shortcut": first}]
    units += [{"depth": depth, "stride": 1, "shortcut": rest}] * (num_units - 1)
    return Block(scope, basic, units)


def _blocks(variant: Variant, shortcut: str = "B") -> list[Block]:
    return [resnet_basic_block(*block, shortcut) for block in variant.blocks(strides=(1, 2, 2, 2))]


def _builder(name: str) -> Builder:
    variant = VARIANTS[name]
    arguments = (
        "inputs num_classes is_training global_pool output_stride spatial_squeeze reuse scope * shortcut pool1_padding"
    )
    description = (
        f"Builds the network with {variant.units} units in its blocks; see ``resnet_basic``, and "
        "``resnet_basic_block`` for the shortcut."
    )
    return slim_builder(name, variant, resnet_basic, _blocks, arguments, description)


resnet_basic_18 = _builder("resnet_basic_18")
resnet_basic_34 = _builder("resnet_basic_34")
