"""What the builders of all families share: a variant's dimensions, the checks, the generator of the slim families."""

import contextlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import tensorflow as tf
import tf_slim as slim
from tf_slim.layers import utils

from nets import layers
from nets.arguments import check_collections, check_num_classes, check_scope, check_weight_decay, flag, whole_number
from nets.building import building, one_at_a_time
from nets.resnet_utils import Block, check_output_stride, conv2d_same, stack_blocks_dense, with_unit_arguments

__all__ = [
    "Builder",
    "EndPoints",
    "Variant",
    "build_resnet",
    "check_inputs",
    "collected_end_points",
    "linear",
    "named",
    "small_arg_scope",
    "training_scope",
]

v1 = tf.compat.v1

EndPoints = dict[str, tf.Tensor]

Builder = Callable[..., tuple[tf.Tensor, EndPoints]]

# Of the 7x7 convolution and the pooling before the blocks.
_ROOT_STRIDE = 4


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
    blocks = with_unit_arguments(blocks)
    num_classes = check_inputs(inputs, num_classes)
    output_stride = None if output_stride is None else whole_number("output_stride", output_stride, least=1)
    global_pool, spatial_squeeze = flag("global_pool", global_pool), flag("spatial_squeeze", spatial_squeeze)
    include_root_block = flag("include_root_block", include_root_block)
    if store_non_strided_activations is not None:
        store_non_strided_activations = flag("store_non_strided_activations", store_non_strided_activations)
    check_scope(scope, reuse)
    _check_pool1_padding(pool1_padding, include_root_block)
    check_output_stride(output_stride, blocks, root_stride=_ROOT_STRIDE if include_root_block else 1)
    with (
        building(),
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
    return check_num_classes(num_classes)


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
    regularizer = slim.l2_regularizer(check_weight_decay(weight_decay))
    updates_collections = check_collections("batch_norm_updates_collections", batch_norm_updates_collections)
    with (
        one_at_a_time(),
        slim.arg_scope(weighted, weights_regularizer=regularizer),
        slim.arg_scope([layers.batch_norm], updates_collections=updates_collections),
        training_scope(is_training),
    ):
        return slim.current_arg_scope()
