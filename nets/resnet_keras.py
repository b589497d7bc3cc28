"""ResNets of a well-known Keras tutorial, 18 to 152 layers deep, and its network for digits.

They differ from the paper (arXiv:1512.03385), and their weights need these differences:

- the first convolution has stride 1, so only the pooling halves the image before the blocks;
- every block begins with a unit of stride 2, the first block too;
- convolutions have biases, although a batch norm (epsilon 0.001) follows each;
- the projected shortcut has its own batch norm and ReLU, and no ReLU follows the addition;
- the stride of a bottleneck sits in its first 1x1 convolution;
- dropout is applied to the logits, not to the features.

The variables have slim's names: ``<scope>/conv1``, then ``<scope>/block{1..4}/unit_{i}/`` with
``basic_keras/{conv1,conv2,shortcut}`` (18 and 34 layers) or ``bottleneck_keras/{conv1,conv2,conv3,shortcut}``. Each has
``weights``, ``biases`` and ``BatchNorm/{beta,gamma,moving_mean,moving_variance}``. Last come
``<scope>/logits/{weights,biases}``. Keras' automatic names count the same layers in the same order;
``nets.layer_info`` gives both.

    with slim.arg_scope(resnet_keras.resnet_keras_arg_scope()):
        net, end_points = resnet_keras.resnet_keras_18(images, 1000, is_training=False)
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import tensorflow as tf
import tf_slim as slim
from tf_slim.layers import utils

from nets import layers
from nets.arguments import check_scope, check_seed, is_number, whole_numbers
from nets.builders import (
    Builder,
    EndPoints,
    Variant,
    check_inputs,
    collected_end_points,
    linear,
    named,
    small_arg_scope,
    training_scope,
)
from nets.building import building
from nets.resnet_utils import Block, stack_blocks_dense, with_unit_arguments

v1 = tf.compat.v1

__all__ = [
    "VARIANTS",
    "basic_keras",
    "bottleneck_keras",
    "identity",
    "resnet_keras",
    "resnet_keras_18",
    "resnet_keras_18_digits",
    "resnet_keras_34",
    "resnet_keras_50",
    "resnet_keras_101",
    "resnet_keras_152",
    "resnet_keras_arg_scope",
]

_DECAY = 0.99

VARIANTS = {
    "resnet_keras_18": Variant(units=(2, 2, 2, 2), bottleneck=False),
    "resnet_keras_34": Variant(units=(3, 4, 6, 3), bottleneck=False),
    "resnet_keras_50": Variant(units=(3, 4, 6, 3)),
    "resnet_keras_101": Variant(units=(3, 4, 23, 3)),
    "resnet_keras_152": Variant(units=(3, 8, 36, 3)),
    "resnet_keras_18_digits": Variant(units=(2, 2, 2, 2), image_size=28, bottleneck=False),
}


def resnet_keras_arg_scope(
    weight_decay: float = 0.0,
    batch_norm_updates_collections: layers.Collections = v1.GraphKeys.UPDATE_OPS,
    *,
    is_training: bool | tf.Tensor | None = None,
    batch_norm_decay: float | tf.Tensor = _DECAY,
) -> dict[str, dict[str, Any]]:
    """Returns the arg scope of these networks; ``resnet_utils.resnet_arg_scope`` describes the arguments.

    The tutorial has no weight decay.
    """
    weighted = [layers.conv2d, linear]
    return small_arg_scope(weighted, weight_decay, batch_norm_updates_collections, is_training, batch_norm_decay)


def _conv2d(
    inputs: tf.Tensor,
    depth: int,
    kernel_size: int,
    stride: int,
    scope: str,
    activation_fn: Callable | None = tf.nn.relu,
) -> tf.Tensor:
    """Applies convolution, bias, batch norm and activation."""
    return layers.conv2d(
        inputs,
        depth,
        kernel_size,
        stride=stride,
        padding="SAME",
        activation_fn=activation_fn,
        normalizer_fn=_bias_and_batch_norm,
        normalizer_params={},
        scope=scope,
    )


def _bias_and_batch_norm(inputs: tf.Tensor) -> tf.Tensor:
    channels = utils.last_dimension(inputs.shape, min_rank=4)
    # conv2d has no biases under a normalizer, so the arguments that the scope has for biases are used here.
    scoped = layers.scoped_arguments(layers.conv2d)
    biases = layers.model_variable(
        "biases",
        [channels],
        inputs.dtype,
        scoped.get("biases_initializer", layers.ZEROS),
        scoped.get("variables_collections"),
        scoped.get("biases_regularizer"),
        scoped.get("trainable", True),
        loss_scope=f"{v1.get_default_graph().get_name_scope()}/bias",
    )
    biased = tf.nn.bias_add(inputs, biases, name="BiasAdd")
    # Keras 3 averages the variance of the population; up to TensorFlow 2.15, Keras averages that of the sample.
    return layers.population_batch_norm(biased, _DECAY)


def _check_rate(rate: int) -> None:
    if isinstance(rate, bool) or rate != 1:
        raise ValueError(f"rate must be 1, and is {rate!r}: these units have no dilated form.")


@slim.add_arg_scope
def basic_keras(
    inputs: tf.Tensor,
    depth: int,
    stride: int,
    rate: int = 1,
    outputs_collections: layers.Collections = None,
    scope: str | None = None,
) -> tf.Tensor:
    """Builds the two-layer unit: two 3x3 convolutions, beside the input or, if the shape changes, a projection of it.

    Args:
      inputs: [batch, height, width, channels].
      depth: channels of the output and of both convolutions.
      stride: stride of the first convolution and the shortcut.
      rate: must be 1.
      outputs_collections: collections that get the output, under the scope's name.
      scope: variable scope; None for 'basic_keras', made unique.

    Returns:
      [batch, ceil(height / stride), ceil(width / stride), depth].
    """
    _check_rate(rate)
    depth, stride = whole_numbers(depth=depth, stride=stride)
    with v1.variable_scope(scope, "basic_keras", [inputs]) as sc:
        net = _conv2d(inputs, depth, 3, stride, scope="conv1")
        net = _conv2d(net, depth, 3, 1, scope="conv2")
        net += _shortcut(inputs, depth, stride)
        return utils.collect_named_outputs(outputs_collections, sc.name, net)


@slim.add_arg_scope
def bottleneck_keras(
    inputs: tf.Tensor,
    depth: int,
    stride: int,
    rate: int = 1,
    outputs_collections: layers.Collections = None,
    scope: str | None = None,
) -> tf.Tensor:
    """Builds the bottleneck unit: 1x1, 3x3 and 1x1 convolution, beside the input or a projection of it.

    Arguments and result are those of ``basic_keras``. The first two convolutions have ``depth / 4`` channels, and the
    default scope is 'bottleneck_keras'.
    """
    _check_rate(rate)
    depth, stride = whole_numbers(depth=depth, stride=stride)
    if depth % 4:
        raise ValueError(f"depth of a bottleneck unit must be a multiple of 4, and is {depth}.")
    with v1.variable_scope(scope, "bottleneck_keras", [inputs]) as sc:
        net = _conv2d(inputs, depth // 4, 1, stride, scope="conv1")
        net = _conv2d(net, depth // 4, 3, 1, scope="conv2")
        net = _conv2d(net, depth, 1, 1, scope="conv3")
        net += _shortcut(inputs, depth, stride)
        return utils.collect_named_outputs(outputs_collections, sc.name, net)


def _shortcut(inputs: tf.Tensor, depth: int, stride: int) -> tf.Tensor:
    if stride == 1 and depth == utils.last_dimension(inputs.shape, min_rank=4):
        return inputs
    return _conv2d(inputs, depth, 1, stride, scope="shortcut")


@slim.add_arg_scope
def identity(
    inputs: tf.Tensor,
    rate: int = 1,
    outputs_collections: layers.Collections = None,
    scope: str | None = None,
) -> tf.Tensor:
    """Builds the unit of the digit network: two 3x3 convolutions beside the input, and a ReLU after the addition.

    Args:
      inputs: [batch, height, width, channels].
      rate: must be 1.
      outputs_collections: collections that get the output, under the scope's name.
      scope: variable scope; None for 'identity', made unique.

    Returns:
      A tensor of the shape of ``inputs``.
    """
    _check_rate(rate)
    with v1.variable_scope(scope, "identity", [inputs]) as sc:
        depth = utils.last_dimension(inputs.shape, min_rank=4)
        net = _conv2d(inputs, depth, 3, 1, scope="conv1")
        net = _conv2d(net, depth, 3, 1, scope="conv2", activation_fn=None)
        return utils.collect_named_outputs(outputs_collections, sc.name, tf.nn.relu(inputs + net))


def resnet_keras(
    inputs: tf.Tensor,
    blocks: Iterable[Block],
    num_classes: int | None = None,
    is_training: bool | tf.Tensor | None = None,
    reuse: bool | None = None,
    scope: str | None = None,
    *,
    dropout_rate: float = 0.5,
    dropout_seed: tf.Tensor | Sequence[int] | None = None,
) -> tuple[tf.Tensor, EndPoints]:
    """Builds a network from ``blocks`` of ``basic_keras`` or ``bottleneck_keras`` units.

    Args:
      inputs: [batch, height, width, channels]; batch, height and width may be unknown.
      blocks: blocks in order.
      num_classes: channels of the logits; 0 or None for a network without logits.
      is_training: whether batch norms normalize by the batch, and dropout is applied. None takes it from the enclosing
        arg scope, whose default is training.
      reuse: whether to reuse the variables of ``scope``.
      scope: variable scope; None for 'resnet_keras', made unique.
      dropout_rate: fraction of the logits that is set to zero in training; the others are scaled up.
      dropout_seed: integers [2] that determine which logits these are, such as a seed and the number of the step. None
        draws them from the state of the session, which no checkpoint keeps.

    Returns:
      net: logits, [batch, num_classes], after dropout in training; without classes features, [batch, channels].
      end_points: dict from the names of the end points to their tensors, in graph order.

    Raises:
      ValueError: for an argument that no network can be built with; the message names it.
    """
    blocks = with_unit_arguments(blocks)

    def body(net: tf.Tensor) -> tf.Tensor:
        net = _conv2d(net, 64, 7, 1, scope="conv1")
        net = layers.max_pool2d(net, 3, stride=2, padding="SAME", scope="pool1")
        return stack_blocks_dense(net, blocks)

    return _build(inputs, body, num_classes, is_training, reuse, scope, "resnet_keras", dropout_rate, dropout_seed)


def _build(
    inputs: tf.Tensor,
    body: Callable[[tf.Tensor], tf.Tensor],
    num_classes: int | None,
    is_training: bool | tf.Tensor | None,
    reuse: bool | None,
    scope: str | None,
    default_scope: str,
    dropout_rate: float,
    dropout_seed: tf.Tensor | Sequence[int] | None = None,
) -> tuple[tf.Tensor, EndPoints]:
    """Builds a network; ``body`` builds the part before the global pooling."""
    inputs = tf.convert_to_tensor(inputs)
    num_classes = check_inputs(inputs, num_classes)
    check_scope(scope, reuse)
    if not is_number(dropout_rate) or not 0 <= dropout_rate < 1:
        raise ValueError(f"dropout_rate must be a number of at least 0 and below 1, and is {dropout_rate!r}.")
    if dropout_seed is not None:
        dropout_seed = check_seed("dropout_seed", dropout_seed)
    units = [basic_keras, bottleneck_keras, identity]
    with (
        building(),
        v1.variable_scope(scope, default_scope, [inputs], reuse=reuse) as sc,
        collected_end_points(sc, [layers.conv2d, *units, stack_blocks_dense]) as collection,
        training_scope(is_training),
    ):
        net = body(inputs)
        end_points = utils.convert_collection_to_dict(collection)
        net = tf.reduce_mean(net, [1, 2], name="global_pool")
        end_points["global_pool"] = net
        if num_classes:
            net = tf.reshape(net, [-1, utils.last_dimension(net.shape, min_rank=2)], name="flatten")
            net = end_points[sc.name + "/logits"] = linear(net, num_classes, scope="logits")
            if dropout_rate:
                net = end_points[sc.name + "/dropout"] = _dropout(net, dropout_rate, dropout_seed)
            end_points["predictions"] = tf.nn.softmax(net, name="predictions")
        return net, end_points


def _dropout(inputs: tf.Tensor, rate: float, seed: tf.Tensor | None) -> tf.Tensor:
    """Applies dropout in the mode of the batch norms."""

    def dropped(name: str | None = None) -> tf.Tensor:
        if seed is None:
            return tf.nn.dropout(inputs, rate, name=name)
        return tf.nn.experimental.stateless_dropout(inputs, rate, seed, rng_alg="philox", name=name)

    mode = layers.training_mode()
    training = layers.static_bool(mode)
    if training is None:
        return v1.cond(mode, dropped, lambda: tf.identity(inputs), name="dropout")
    return dropped("dropout") if training else tf.identity(inputs, name="dropout")


def _builder(name: str) -> Builder:
    variant = VARIANTS[name]
    unit_fn, widening = (bottleneck_keras, 4) if variant.bottleneck else (basic_keras, 1)

    def build(
        inputs: tf.Tensor,
        num_classes: int | None = None,
        is_training: bool | tf.Tensor | None = None,
        reuse: bool | None = None,
        scope: str | None = name,
        *,
        dropout_rate: float = 0.5,
        dropout_seed: tf.Tensor | Sequence[int] | None = None,
    ) -> tuple[tf.Tensor, EndPoints]:
        blocks = []
        for block, base_depth, num_units, stride in variant.blocks(strides=(2, 2, 2, 2)):
            first = {"depth": base_depth * widening, "stride": stride}
            blocks.append(Block(block, unit_fn, [first] + [{**first, "stride": 1}] * (num_units - 1)))
        dropout = {"dropout_rate": dropout_rate, "dropout_seed": dropout_seed}
        return resnet_keras(inputs, blocks, num_classes, is_training, reuse, scope, **dropout)

    description = f"Builds the network with {variant.units} units in its blocks; see ``resnet_keras``."
    return named(build, name, variant, description)


resnet_keras_18 = _builder("resnet_keras_18")
resnet_keras_34 = _builder("resnet_keras_34")
resnet_keras_50 = _builder("resnet_keras_50")
resnet_keras_101 = _builder("resnet_keras_101")
resnet_keras_152 = _builder("resnet_keras_152")


def resnet_keras_18_digits(
    inputs: tf.Tensor,
    num_classes: int | None = None,
    is_training: bool | tf.Tensor | None = None,
    reuse: bool | None = None,
    scope: str | None = "resnet_keras_18_digits",
) -> tuple[tf.Tensor, EndPoints]:
    """Builds the network for digits of 28x28 grey levels, without dropout, and with no pooling but the global one.

    A 3x3 convolution comes before each block of two ``identity`` units; all but the first have stride 2.
    Arguments and results are those of ``resnet_keras``; variables are ``<scope>/conv{1..4}`` and
    ``<scope>/block{1..4}/unit_{1,2}/identity/{conv1,conv2}``.
    """
    variant = VARIANTS["resnet_keras_18_digits"]

    def body(net: tf.Tensor) -> tf.Tensor:
        for i, (block, depth, num_units, stride) in enumerate(variant.blocks(strides=(1, 2, 2, 2)), start=1):
            net = _conv2d(net, depth, 3, stride, scope=f"conv{i}")
            net = stack_blocks_dense(net, [Block(block, identity, [{}] * num_units)])
        return net

    default_scope = "resnet_keras_18_digits"
    return _build(inputs, body, num_classes, is_training, reuse, scope, default_scope, dropout_rate=0.0)


resnet_keras_18_digits.default_image_size = VARIANTS["resnet_keras_18_digits"].image_size
