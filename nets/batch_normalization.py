"""Batch normalization: tf_slim's ``batch_norm``, written on TensorFlow's public API."""

from collections.abc import Callable
from typing import Any, NamedTuple

import tensorflow as tf
import tf_slim as slim
from tf_slim.layers import utils

from nets.arguments import check_mapping, check_scope, flag, function, number
from nets.layer_basics import (
    ONES,
    ZEROS,
    Collections,
    VariablesCollections,
    answers_to,
    model_variable,
    refuse,
    require_nhwc,
    scoped_arguments,
    static_bool,
    static_channels,
)

__all__ = ["batch_norm", "population_batch_norm", "training_mode"]

v1 = tf.compat.v1


class _Parameters(NamedTuple):
    """The four vectors [channels] of a batch norm, float32."""

    gamma: tf.Variable | tf.Tensor
    beta: tf.Variable | tf.Tensor
    moving_mean: tf.Variable | tf.Tensor
    moving_variance: tf.Variable | tf.Tensor


def training_mode() -> bool | tf.Tensor:
    """Returns the ``is_training`` that the current arg scope has for batch norms, by default True."""
    return scoped_arguments(batch_norm).get("is_training", True)


def population_batch_norm(inputs: tf.Tensor, default_decay: float, scope: str | None = None) -> tf.Tensor:
    """Applies ``batch_norm`` with gamma, beta and epsilon 0.001; the moving variance is that of the population.

    In training the fused op, which is faster, would average the variance of the sample (Bessel's correction).
    ``default_decay`` is used where the current arg scope has no decay.
    """
    fused = None if static_bool(training_mode()) is False else False
    decay = scoped_arguments(batch_norm).get("decay", default_decay)
    return batch_norm(
        inputs, decay=decay, center=True, scale=True, epsilon=0.001, activation_fn=None, fused=fused, scope=scope
    )


@answers_to(slim.batch_norm)
def batch_norm(
    inputs: tf.Tensor,
    decay: float = 0.999,
    center: bool = True,
    scale: bool = False,
    epsilon: float = 0.001,
    activation_fn: Callable | None = None,
    param_initializers: dict[str, Any] | None = None,
    param_regularizers: dict[str, Callable] | None = None,
    updates_collections: Collections = v1.GraphKeys.UPDATE_OPS,
    is_training: bool | tf.Tensor = True,
    reuse: bool | None = None,
    variables_collections: VariablesCollections = None,
    outputs_collections: Collections = None,
    trainable: bool = True,
    batch_weights: tf.Tensor | None = None,
    fused: bool | None = None,
    data_format: str | None = "NHWC",
    zero_debias_moving_mean: bool = False,
    scope: str | None = None,
    renorm: bool = False,
    renorm_clipping: dict[str, Any] | None = None,
    renorm_decay: float = 0.99,
    adjustment: Callable | None = None,
) -> tf.Tensor:
    """Normalizes batches (Ioffe and Szegedy, arXiv:1502.03167); answers to the arg scopes of ``slim.batch_norm``.

    The fused op applies Bessel's correction to the moving variance, and raises an epsilon below 1.001e-5 to that, as in
    slim. Separate ops do neither. Like slim, this function computes with separate ops for ``fused=False``, for rank 3,
    and for rank 5 if the updates go to other collections than UPDATE_OPS.

    Args:
      inputs: a tensor of rank 2 to 5, channels last, such as [batch, channels], [batch, width, channels],
        [batch, height, width, channels] or [batch, depth, height, width, channels]; float32, float16 or bfloat16.
      decay: decay of the moving averages, from 0 to 1.
      center, scale: whether to add a variable ``beta``, and to multiply by a variable ``gamma``.
      epsilon: number added to the variance; at least 0.
      activation_fn: function applied last, or None.
      param_initializers: dict with any of 'beta', 'gamma', 'moving_mean', 'moving_variance'.
      param_regularizers: dict with any of 'beta', 'gamma'.
      updates_collections: collections that get the two updates of the moving statistics, which have to run with the
        training step. None runs them whenever the output is computed.
      is_training: whether to normalize by the statistics of the batch and update the moving ones; may be a tensor.
      reuse, variables_collections, outputs_collections, trainable, scope: see ``conv2d``; the default scope is
        'BatchNorm'. The variables are float32, whatever the inputs are.
      fused: False computes with separate ops.
      data_format: None or 'NHWC', which means channels last at every rank.
      batch_weights, zero_debias_moving_mean, renorm, renorm_clipping, renorm_decay, adjustment: not supported.

    Returns:
      A tensor of the shape and dtype of ``inputs``.

    Raises:
      ValueError: for another rank, unknown channels, an unknown parameter name, an argument that is not supported or
        of the wrong kind; the message names it.
    """
    require_nhwc(data_format)
    refuse(
        "batch_norm",
        batch_weights=batch_weights,
        zero_debias_moving_mean=zero_debias_moving_mean,
        renorm=renorm,
        renorm_clipping=renorm_clipping,
        renorm_decay=None if renorm_decay == 0.99 else renorm_decay,
        adjustment=adjustment,
    )
    number("decay", decay, most=1, tensor=True)
    number("epsilon", epsilon, tensor=fused is False)
    center, scale, trainable = flag("center", center), flag("scale", scale), flag("trainable", trainable)
    fused = fused is None or flag("fused", fused)
    function("activation_fn", activation_fn)
    check_scope(scope, reuse)
    with v1.variable_scope(scope, "BatchNorm", [inputs], reuse=reuse) as sc:
        inputs = tf.convert_to_tensor(inputs)
        channels = static_channels(inputs, "batch_norm", ranks=(2, 3, 4, 5))
        parameters = _create_parameters(
            channels,
            sc.original_name_scope,
            center,
            scale,
            param_initializers,
            param_regularizers,
            variables_collections,
            trainable,
        )
        # The statistics are those of all positions of all images, so the positions may be in any shape.
        images = inputs if inputs.shape.rank == 4 else tf.reshape(inputs, [-1, 1, 1, channels])
        is_fused = fused and _slim_fuses(inputs.shape.rank, updates_collections)
        outputs, mean, variance = _normalize(images, parameters, epsilon, is_training, is_fused)
        if static_bool(is_training) is not False:
            outputs = _update(outputs, parameters, mean, variance, decay, updates_collections)
        if inputs.shape.rank != 4:
            outputs = tf.reshape(outputs, tf.shape(inputs))
        outputs.set_shape(inputs.shape)
        if activation_fn is not None:
            outputs = activation_fn(outputs)
        return utils.collect_named_outputs(outputs_collections, sc.name, outputs)


def _slim_fuses(rank: int, updates_collections: Collections) -> bool:
    """Returns whether tf_slim would compute with the fused op by default."""
    # tf_slim's own code handles ranks 2 and 4; for UPDATE_OPS it calls a layer of Keras 2, which handles 4 and 5.
    return rank in (2, 4) or (rank == 5 and updates_collections == v1.GraphKeys.UPDATE_OPS)


def _create_parameters(
    channels: int,
    name_scope: str,
    center: bool,
    scale: bool,
    initializers: dict[str, Any] | None,
    regularizers: dict[str, Callable] | None,
    variables_collections: VariablesCollections,
    trainable: bool,
) -> _Parameters:
    """Creates the variables of a batch norm, in slim's order: beta, gamma, moving_mean, moving_variance."""
    initializers = check_mapping("param_initializers", initializers)
    regularizers = check_mapping("param_regularizers", regularizers)
    for argument, given, known in (
        ("param_initializers", initializers, ("beta", "gamma", "moving_mean", "moving_variance")),
        ("param_regularizers", regularizers, ("beta", "gamma")),
    ):
        if unknown := sorted(set(given) - set(known)):
            raise ValueError(f"{argument} names {unknown}; a batch norm has {', '.join(known)}.")

    def parameter(name: str, default: Any, trainable: bool) -> tf.Variable:
        return model_variable(
            name,
            [channels],
            tf.float32,
            initializers.get(name, default),
            variables_collections,
            regularizers.get(name),
            trainable,
            loss_scope=name_scope + name,
        )

    beta = parameter("beta", ZEROS, trainable) if center else tf.zeros([channels])
    gamma = parameter("gamma", ONES, trainable) if scale else tf.ones([channels])
    variable_scope = v1.get_variable_scope()
    partitioner = variable_scope.partitioner
    # In one piece: the update of a partitioned variable would need its statistics in the same parts.
    variable_scope.set_partitioner(None)
    moving_mean = parameter("moving_mean", ZEROS, trainable=False)
    moving_variance = parameter("moving_variance", ONES, trainable=False)
    variable_scope.set_partitioner(partitioner)
    return _Parameters(gamma, beta, moving_mean, moving_variance)


# The outputs, and the mean and variance that the moving averages take in.
_Normalized = tuple[tf.Tensor, tf.Tensor, tf.Tensor]


def _normalize(
    images: tf.Tensor, parameters: _Parameters, epsilon: float, is_training: bool | tf.Tensor, fused: bool
) -> _Normalized:
    """Normalizes [batch, height, width, channels] in a mode that may be a tensor."""
    normalize = _normalize_fused if fused else _normalize_unfused
    training = static_bool(is_training)
    if training is not None:
        return normalize(images, parameters, epsilon, training)
    # Read outside of the branches: a branch cannot capture a reference variable.
    read = _Parameters(*(tf.convert_to_tensor(parameter) for parameter in parameters))
    return v1.cond(
        is_training,
        lambda: normalize(images, read, epsilon, training=True),
        lambda: normalize(images, read, epsilon, training=False),
    )


def _normalize_fused(images: tf.Tensor, parameters: _Parameters, epsilon: float, training: bool) -> _Normalized:
    """Normalizes with the fused op."""
    gamma, beta, moving_mean, moving_variance = parameters
    if training:
        return tuple(v1.nn.fused_batch_norm(images, gamma, beta, epsilon=epsilon))
    outputs, _, _ = v1.nn.fused_batch_norm(
        images, gamma, beta, mean=moving_mean, variance=moving_variance, epsilon=epsilon, is_training=False
    )
    return outputs, moving_mean, moving_variance


def _normalize_unfused(images: tf.Tensor, parameters: _Parameters, epsilon: float, training: bool) -> _Normalized:
    """Normalizes with separate ops in float32, by the population's variance."""
    gamma, beta, mean, variance = parameters
    images32 = tf.cast(images, tf.float32)
    if training:
        mean, variance = tf.nn.moments(images32, axes=[0, 1, 2])
    outputs = tf.nn.batch_normalization(images32, mean, variance, beta, gamma, epsilon)
    return tf.cast(outputs, images.dtype), mean, variance


def _update(
    outputs: tf.Tensor,
    parameters: _Parameters,
    mean: tf.Tensor,
    variance: tf.Tensor,
    decay: float,
    updates_collections: Collections,
) -> tf.Tensor:
    """Updates the moving statistics. Returns the outputs, which depend on the updates if these have no collection.

    Outside of training ``mean`` and ``variance`` are the moving statistics themselves, and the update changes nothing.
    """
    updates = [
        _moving_average_update(parameters.moving_mean, mean, decay),
        _moving_average_update(parameters.moving_variance, variance, decay),
    ]
    if updates_collections is None:
        with tf.control_dependencies(updates):
            return tf.identity(outputs)
    for update in updates:
        v1.add_to_collections(updates_collections, update)
    return outputs


def _moving_average_update(moving: tf.Variable, value: tf.Tensor, decay: float) -> tf.Operation | tf.Tensor:
    with tf.name_scope("AssignMovingAvg"):
        return moving.assign_sub((moving - value) * (1.0 - decay), read_value=False)
