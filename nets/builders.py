"""The parts that the builders of all families share: dimensions, checks, and the generator of the slim families."""

import contextlib
import inspect
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import tensorflow as tf
import tf_slim as slim
from tf_slim.layers import utils

from nets import layers
from nets.arguments import (
    check_collections,
    check_num_classes,
    check_scope,
    check_weight_decay,
    flag,
    number,
    whole_number,
)
from nets.building import building, one_at_a_time
from nets.resnet_utils import Block, check_output_stride, conv2d_same, stack_blocks_dense, with_unit_arguments

__all__ = [
    "Builder",
    "EndPoints",
    "Family",
    "Head",
    "Root",
    "Variant",
    "build_resnet",
    "check_inputs",
    "collected_end_points",
    "linear",
    "named",
    "slim_builder",
    "small_arg_scope",
    "training_scope",
]

v1 = tf.compat.v1

EndPoints = dict[str, tf.Tensor]

Builder = Callable[..., tuple[tf.Tensor, EndPoints]]

# Stride of the 7x7 convolution and the pooling before the blocks.
_ROOT_STRIDE = 4


class Variant(NamedTuple):
    """The dimensions of one network of a family.

    units: number of units in each block.
    base_depths: channels inside the units of each block.
    image_size: height and width of the images that the network was made for.
    bottleneck: whether units have three layers, the last four times as wide as the others, rather than two.
    """

    units: tuple[int, ...]
    base_depths: tuple[int, ...] = (64, 128, 256, 512)
    image_size: int = 224
    bottleneck: bool = True

    def blocks(self, strides: Sequence[int] = (2, 2, 2, 1)) -> Iterator[tuple[str, int, int, int]]:
        """Yields (scope, base_depth, num_units, stride) of each block; the default strides are slim's."""
        dimensions = zip(self.base_depths, self.units, strides, strict=True)
        for i, (base_depth, num_units, stride) in enumerate(dimensions, start=1):
            yield f"block{i}", base_depth, num_units, stride


class Family(NamedTuple):
    """The differences between the families that ``build_resnet`` builds.

    default_scope: variable scope of a network that is given none.
    unit_fn: function that builds a unit; the units' outputs are end points.
    preactivation: whether normalization and activation come before each convolution. They then come after the last
      block too, and not after the first convolution.
    sigmoid_of_one_class: whether a single class is predicted by the sigmoid of its logit. Its softmax is always 1.
    """

    default_scope: str
    unit_fn: Callable
    preactivation: bool = False
    sigmoid_of_one_class: bool = False


class Root(NamedTuple):
    """The layers before the blocks; ``resnet_v2.resnet_v2`` describes the fields."""

    include_root_block: bool
    pool1_padding: str | None


class Head(NamedTuple):
    """The layers after the blocks; ``resnet_v2.resnet_v2`` describes the fields."""

    num_classes: int | None
    global_pool: bool
    spatial_squeeze: bool


def named(build: Builder, name: str, variant: Variant, description: str) -> Builder:
    """Returns ``build`` with the name, the description and the default image size of a network."""
    build.__name__ = build.__qualname__ = name
    build.__doc__ = description
    build.default_image_size = variant.image_size
    return build


def slim_builder(
    name: str,
    variant: Variant,
    generator: Builder,
    blocks: Callable[..., list[Block]],
    arguments: str,
    description: str,
) -> Builder:
    """Returns the builder of one network of a slim family.

    Args:
      name: name of the network; also its default scope.
      variant: dimensions of the network.
      generator: function that builds a network of the family from blocks.
      blocks: function of the variant, and of further arguments of the builder, that returns the blocks.
      arguments: names of the builder's arguments in slim's order; those after '*' are keyword-only. Types and defaults
        are those of ``generator`` and ``blocks``.
      description: docstring of the builder.
    """
    for_blocks = inspect.signature(blocks).parameters
    known = {**inspect.signature(generator).parameters, **for_blocks}
    known["scope"] = known["scope"].replace(default=name)
    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    parameters = []
    for argument in arguments.split():
        if argument == "*":
            kind = inspect.Parameter.KEYWORD_ONLY
        else:
            parameters.append(known[argument].replace(kind=kind))
    signature = inspect.signature(generator).replace(parameters=parameters)

    def build(*args: Any, **kwargs: Any) -> tuple[tf.Tensor, EndPoints]:
        try:
            given = signature.bind(*args, **kwargs)
        except TypeError as error:
            raise TypeError(f"{name}() {error}") from None
        given.apply_defaults()
        chosen = {argument: given.arguments.pop(argument) for argument in for_blocks if argument in given.arguments}
        return generator(blocks=blocks(variant, **chosen), **given.arguments)

    build.__signature__ = signature
    build.__module__ = generator.__module__
    return named(build, name, variant, description)


def build_resnet(
    family: Family,
    root: Root,
    head: Head,
    inputs: tf.Tensor,
    blocks: Iterable[Block],
    is_training: bool | tf.Tensor | None,
    output_stride: int | None,
    store_non_strided_activations: bool | None,
    reuse: bool | None,
    scope: str | None,
) -> tuple[tf.Tensor, EndPoints]:
    """Builds a network of a slim family from blocks; ``resnet_v2.resnet_v2`` describes arguments and results."""
    inputs = tf.convert_to_tensor(inputs)
    blocks = with_unit_arguments(blocks)
    head = Head(
        check_inputs(inputs, head.num_classes),
        flag("global_pool", head.global_pool),
        flag("spatial_squeeze", head.spatial_squeeze),
    )
    root = root._replace(include_root_block=flag("include_root_block", root.include_root_block))
    output_stride = None if output_stride is None else whole_number("output_stride", output_stride, least=1)
    stored = {}  # the arg scope decides
    if store_non_strided_activations is not None:
        name = "store_non_strided_activations"
        stored = {name: flag(name, store_non_strided_activations)}
    check_scope(scope, reuse)
    _check_pool1_padding(root)
    check_output_stride(output_stride, blocks, root_stride=_ROOT_STRIDE if root.include_root_block else 1)
    with (
        building(),
        v1.variable_scope(scope, family.default_scope, [inputs], reuse=reuse) as sc,
        collected_end_points(sc, [layers.conv2d, family.unit_fn, stack_blocks_dense]) as collection,
        training_scope(is_training),
    ):
        _check_normalizer_params(is_training)
        net = inputs
        if root.include_root_block:
            net = _root_block(net, family.preactivation, root.pool1_padding)
            output_stride = None if output_stride is None else output_stride // _ROOT_STRIDE
        net = stack_blocks_dense(net, blocks, output_stride, **stored)
        if family.preactivation:
            net = layers.batch_norm(net, activation_fn=tf.nn.relu, scope="postnorm")
        return _classify(net, utils.convert_collection_to_dict(collection), head, family, sc.name)


def _root_block(net: tf.Tensor, preactivation: bool, pool1_padding: str | None) -> tf.Tensor:
    """Builds the 7x7 convolution and the 3x3 max pooling, each of stride 2."""
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


def _classify(
    net: tf.Tensor, end_points: EndPoints, head: Head, family: Family, scope: str
) -> tuple[tf.Tensor, EndPoints]:
    """Builds the head; returns its output and all end points."""
    if head.global_pool:
        net = tf.reduce_mean(net, [1, 2], name="pool5", keepdims=True)
        end_points["global_pool"] = net
    if head.num_classes:
        net = layers.conv2d(net, head.num_classes, [1, 1], activation_fn=None, normalizer_fn=None, scope="logits")
        end_points[scope + "/logits"] = net
        if head.spatial_squeeze:
            net = _squeeze(net)
            end_points[scope + "/spatial_squeeze"] = net
        if head.num_classes == 1 and family.sigmoid_of_one_class:
            end_points["predictions"] = tf.sigmoid(net, name="predictions")
        else:
            end_points["predictions"] = layers.softmax(net, scope="predictions")
    return net, end_points


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
    """Yields the name of a collection that the outputs of these layers go to inside of the context."""
    collection = sc.original_name_scope + "_end_points"
    with slim.arg_scope(end_point_layers, outputs_collections=collection):
        yield collection


def check_inputs(inputs: tf.Tensor, num_classes: int | None) -> int:
    """Returns the number of classes, 0 for none.

    Raises:
      ValueError: if no network can be built for these inputs or this number of classes.
    """
    shape = inputs.shape
    if shape.rank != 4 or shape.as_list()[-1] is None or 0 in shape.as_list()[1:]:
        raise ValueError(f"inputs must be [batch, height, width, channels] with known channels, and has shape {shape}.")
    if inputs.dtype.base_dtype not in (tf.float32, tf.float16, tf.bfloat16):
        raise ValueError(
            f"inputs must be float32, float16 or bfloat16, and is {inputs.dtype.name}: preprocess it, or use tf.cast."
        )
    return check_num_classes(num_classes)


def _check_pool1_padding(root: Root) -> None:
    padding = root.pool1_padding
    if padding not in (None, "SAME", "PAD1"):
        raise ValueError(f"pool1_padding must be 'SAME' or 'PAD1', and is {padding!r}.")
    if padding is not None and not root.include_root_block:
        raise ValueError(f"pool1_padding={padding!r} has no pool1 to pad: include_root_block is False.")


def training_scope(is_training: bool | tf.Tensor | None) -> contextlib.AbstractContextManager:
    """Returns the arg scope for the ``is_training`` of a builder; None keeps the mode of the enclosing arg scope."""
    if is_training is None:
        return contextlib.nullcontext()
    layers.static_bool(is_training)  # raises ValueError unless it is a mode
    return slim.arg_scope([layers.batch_norm], is_training=is_training)


def _check_normalizer_params(is_training: bool | tf.Tensor | None) -> None:
    """Raises ValueError if ``normalizer_params``, which the convolutions obey, contradict the builder's mode."""
    if is_training is None:
        return
    conv2d_scope = layers.scoped_arguments(layers.conv2d)
    # They are given by functools.partial, beside the function, or both.
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
    """Multiplies by a matrix and adds a bias.

    Args:
      inputs: [batch, channels].
      num_outputs: size of the last axis of the result.
      scope: variable scope.
      weights: name of the matrix; the bias is called ``biases``.
      weights_initializer: None for Glorot and Bengio's uniform initializer.
      weights_regularizer: function that returns the loss of the matrix.

    Returns:
      [batch, num_outputs].
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
    batch_norm_decay: float | tf.Tensor,
) -> dict[str, dict[str, Any]]:
    """Returns the arg scope of a family whose layers determine all other arguments.

    Args:
      weighted: functions that take ``weights_regularizer``.
      weight_decay: factor of the L2 loss on their weights.
      batch_norm_updates_collections, is_training, batch_norm_decay: see ``resnet_arg_scope``.
    """
    regularizer = slim.l2_regularizer(check_weight_decay(weight_decay))
    updates_collections = check_collections("batch_norm_updates_collections", batch_norm_updates_collections)
    decay = number("batch_norm_decay", batch_norm_decay, most=1, tensor=True)
    with (
        one_at_a_time(),
        slim.arg_scope(weighted, weights_regularizer=regularizer),
        slim.arg_scope([layers.batch_norm], updates_collections=updates_collections, decay=decay),
        training_scope(is_training),
    ):
        return slim.current_arg_scope()
