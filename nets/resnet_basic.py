"""ResNets of two-layer units, 18 and 34 layers deep: He, Zhang, Ren, Sun, arXiv:1512.03385, Table 1 and Fig. 5 (left).

With ``shortcut='B'`` they compute what torchvision's and timm's ResNet-18 and 34 do, under slim's names and arg scopes.
A block's stride sits in its first unit, convolutions and ``pool1`` pad alike on all sides, and a single class is
predicted by a sigmoid:

    with slim.arg_scope(resnet_basic.resnet_arg_scope()):
        net, end_points = resnet_basic.resnet_basic_34(images, 1000, is_training=False)
"""

from collections.abc import Iterable

import tensorflow as tf
import tf_slim as slim
from tf_slim.layers import utils

from nets import layers
from nets.arguments import whole_number, whole_numbers
from nets.builders import Builder, EndPoints, Variant, build_resnet, named
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
# Of a block: the shortcuts of its first unit and of the others.
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
    """The two-layer unit: two 3x3 convolutions beside a shortcut; Section 3.3 of the paper.

    Args:
      inputs: [batch, height, width, channels].
      depth: channels of the output and of the first convolution.
      stride: of the first convolution and the shortcut.
      rate: dilation of the first convolution.
      shortcut: where the depths differ, 'A': the input, subsampled, with channels of zeros appended; 'B': a 1x1
        projection. Where they agree both are the input itself, subsampled. 'C': a 1x1 projection in any case.
      nominal_stride: the unit's stride in the nominal network, where ``stride`` is 1 in its place: what the second
        convolution is dilated by besides. None for ``stride``.
      outputs_collections: collections that get the output, under the scope's name.
      scope: variable scope; 'basic' where None.

    Returns:
      [batch, ceil(height / stride), ceil(width / stride), depth].

    Raises:
      ValueError: for an unknown shortcut, or 'A' to fewer channels.
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
    """``inputs`` with so many channels of zeros appended."""
    if channels == 0:
        return inputs
    if channels < 0:
        raise ValueError(f"Shortcut 'A' cannot take {-channels} of {inputs.shape[-1]} channels away: use 'B' or 'C'.")
    return tf.pad(inputs, [[0, 0], [0, 0], [0, 0], [0, channels]], name="shortcut_pad")


def _listed(names: Iterable[str]) -> str:
    *most, last = (repr(name) for name in names)
    return f"{', '.join(most)} or {last}"


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

    Arguments, results and errors are those of ``resnet_v2.resnet_v2``, but for ``pool1_padding``, where None is 'PAD1',
    for the default scope, 'resnet_basic', and for the predictions of a single class, which are the logit's sigmoid.
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
        default_scope="resnet_basic",
        unit_fn=basic,
        preactivation=False,
        pool1_padding="PAD1" if pool1_padding is None and include_root_block else pool1_padding,
        store_non_strided_activations=store_non_strided_activations,
        sigmoid_of_one_class=True,
    )


resnet_basic.default_image_size = 224


def resnet_basic_block(scope: str, depth: int, num_units: int, stride: int, shortcut: str = "B") -> Block:
    """A block of ``num_units`` two-layer units, the first of which carries the stride.

    Args:
      scope: name of the block's variable scope.
      depth: channels of its units.
      num_units: number of units.
      stride: of the block.
      shortcut: option 'A', 'B' or 'C' of the paper's Section 4.1, see ``basic``; or 'first_unit': a projection in
        the first unit, whatever its depths, and none in the others.

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


def _builder(name: str) -> Builder:
    variant = VARIANTS[name]

    def build(
        inputs: tf.Tensor,
        num_classes: int | None = None,
        is_training: bool | tf.Tensor | None = None,
        global_pool: bool = True,
        output_stride: int | None = None,
        spatial_squeeze: bool = True,
        reuse: bool | None = None,
        scope: str | None = name,
        *,
        shortcut: str = "B",
        pool1_padding: str | None = None,
    ) -> tuple[tf.Tensor, EndPoints]:
        blocks = [resnet_basic_block(*block, shortcut) for block in variant.blocks(strides=(1, 2, 2, 2))]
        return resnet_basic(
            inputs,
            blocks,
            num_classes,
            is_training,
            global_pool,
            output_stride,
            include_root_block=True,
            spatial_squeeze=spatial_squeeze,
            reuse=reuse,
            scope=scope,
            pool1_padding=pool1_padding,
        )

    description = (
        f"The network of {variant.units} units a block; ``resnet_basic`` describes arguments and results, and "
        "``resnet_basic_block`` the shortcut."
    )
    return named(build, name, variant, description)


resnet_basic_18 = _builder("resnet_basic_18")
resnet_basic_34 = _builder("resnet_basic_34")
