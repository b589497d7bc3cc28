"""The layers of the networks: tf_slim's layer functions, written on TensorFlow's public API.

tf_slim 1.1.0 builds its layers from the layer classes of Keras 2, and its ``batch_norm`` no longer builds on
current TensorFlow. The functions here take the same arguments, create the same variables under the same
names and in the same collections, and compute the same values. They also answer to the same arg scopes:
each carries the scope key of its slim namesake, so ``slim.arg_scope([slim.conv2d], ...)`` reaches ``conv2d``
here.

Every argument of the slim function is honoured, or refused with an error that names it. Tensors are NHWC.
"""

import functools
import sys
import types
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf
import tf_slim as slim
from tf_slim.layers import utils

from nets.arguments import check_mapping, check_scope, flag, function, number, padding_name, pair, whole_number

__all__ = [
    "ZEROS",
    "batch_norm",
    "conv2d",
    "max_pool2d",
    "model_variable",
    "population_batch_norm",
    "regularization_loss",
    "repair_tf_slim",
    "scoped_arguments",
    "softmax",
    "static_bool",
    "training_mode",
]

v1 = tf.compat.v1

# What slim's functions take where a collection, or several, may be named.
Collections = str | Sequence[str] | None
VariablesCollections = Collections | dict[str, Collections]

_XAVIER, ZEROS, _ONES = slim.xavier_initializer(), v1.zeros_initializer(), v1.ones_initializer()

_BY_KEY: dict[str, Callable] = {}


def _answers_to(slim_function: Callable) -> Callable[[Callable], Callable]:
    """Decorator: the function takes its defaults from the arg scopes of ``slim_function``."""
    key = slim.arg_scope_func_key(slim_function)

    def decorate(function: Callable) -> Callable:
        function._key_op = key
        _BY_KEY[key] = slim.add_arg_scope(function)
        return _BY_KEY[key]

    return decorate


def _ours(function: Callable | None) -> Callable | None:
    """The layer of this module that carries ``function``'s scope key, else ``function`` itself.

    So a scope that names ``slim.batch_norm`` as its normalizer gets the ``batch_norm`` that builds.
    """
    if isinstance(function, functools.partial):
        return functools.partial(_ours(function.func), *function.args, **function.keywords)
    return _BY_KEY.get(slim.arg_scope_func_key(function), function)


def _require_nhwc(data_format: str | None) -> None:
    if data_format not in (None, "NHWC"):
        raise ValueError(
            f"data_format={data_format!r} is not supported: these layers compute with channels last, and call that "
            "'NHWC' at every rank; transpose the input, or leave data_format out."
        )


def _refuse(layer: str, **arguments: Any) -> None:
    """Raises for the first argument that is set: what slim has and this module leaves out."""
    for name, value in arguments.items():
        if value is not None and value is not False:
            raise ValueError(f"{layer} does not support the argument {name} (given {value!r}); leave it out.")


def _static_channels(inputs: tf.Tensor, layer: str, ranks: tuple[int, ...]) -> int:
    """The number of channels of ``inputs``; raises ValueError where rank or channels do not fit ``layer``."""
    shape = inputs.shape
    if shape.rank not in ranks:
        expected = f"{ranks[0]} to {ranks[-1]}" if len(ranks) > 1 else ranks[0]
        raise ValueError(f"{layer} takes inputs of rank {expected}, and {inputs.name} has shape {shape}.")
    channels = shape.as_list()[-1]
    if channels is None:
        raise ValueError(f"{layer} needs a known number of channels, and {inputs.name} has shape {shape}.")
    return channels


def model_variable(
    name: str,
    shape: Sequence[int],
    dtype: tf.DType,
    initializer: Any = ZEROS,
    variables_collections: VariablesCollections = None,
    regularizer: Callable | None = None,
    trainable: bool = True,
    loss_scope: str | None = None,
) -> tf.Variable:
    """A model variable of the current scope, in the collections that ``variables_collections`` names for it.

    The regularizer is applied here and not by get_variable, which would build its ops twice. Its loss goes under
    the absolute name scope ``loss_scope``, slim's: the variable ``conv1/weights`` has ``conv1/kernel/Regularizer``.
    """
    existing = len(v1.get_collection_ref(v1.GraphKeys.GLOBAL_VARIABLES))
    variable = slim.model_variable(name, shape=shape, dtype=dtype, initializer=initializer, trainable=trainable)
    created = len(v1.get_collection_ref(v1.GraphKeys.GLOBAL_VARIABLES)) > existing
    parts = list(variable) if hasattr(variable, "as_tensor") else [variable]  # a partitioned variable has it
    if regularizer is not None and created:
        for part in parts:
            loss = regularization_loss(part, regularizer, f"{loss_scope}/Regularizer/")
            if loss is not None:
                v1.add_to_collection(v1.GraphKeys.REGULARIZATION_LOSSES, loss)
    collections = utils.get_variable_collections(variables_collections, name) or ()
    # Added here and not by model_variable, which leaves a reused variable out of a collection it is not in yet.
    for collection in [collections] if isinstance(collections, str) else collections:
        present = v1.get_collection_ref(collection)
        present.extend(part for part in parts if not any(part is other for other in present))
    return variable


@slim.add_arg_scope
def regularization_loss(
    variable: tf.Variable, regularizer: Callable, name_scope: str, maker: Callable | None = None
) -> tf.Tensor | None:
    """The loss that a regularizer puts on a variable, built under an absolute name scope.

    ``maker`` is a function of the same that has another way to it, for ``variable_templates``.
    """
    if maker is not None:
        return maker(variable, regularizer, name_scope)
    with tf.name_scope(name_scope):
        return regularizer(variable)


def static_bool(value: Any) -> bool | None:
    """``value`` as a Python bool, or None where it is a tensor or variable whose value the graph does not fix."""
    if isinstance(value, tf.Variable) or tf.is_tensor(value):
        if value.dtype.base_dtype != tf.bool or value.shape.rank not in (0, None):
            raise ValueError(f"is_training must be True, False or a boolean scalar, and is {value}.")
        value = None if isinstance(value, tf.Variable) else tf.get_static_value(value)
        return None if value is None else bool(value)
    if not isinstance(value, bool | int | np.bool_) or value not in (0, 1):
        raise ValueError(f"is_training must be True, False or a boolean tensor, and is {value!r}.")
    return bool(value)


def scoped_arguments(layer: Callable) -> dict[str, Any]:
    """The arguments that the current arg scope has for a layer."""
    return slim.current_arg_scope().get(slim.arg_scope_func_key(layer), {})


def training_mode() -> bool | tf.Tensor:
    """The ``is_training`` that the current arg scope has for batch norms; True where it has none."""
    return scoped_arguments(batch_norm).get("is_training", True)


def population_batch_norm(inputs: tf.Tensor, decay: float, scope: str | None = None) -> tf.Tensor:
    """``batch_norm`` with gamma and beta, epsilon 0.001, and moving averages of the population's variance.

    The fused op, which is faster, would average the sample's in training (Bessel's correction).
    """
    fused = None if static_bool(training_mode()) is False else False
    return batch_norm(
        inputs, decay=decay, center=True, scale=True, epsilon=0.001, activation_fn=None, fused=fused, scope=scope
    )


@_answers_to(slim.conv2d)
def conv2d(
    inputs: tf.Tensor,
    num_outputs: int,
    kernel_size: int | Sequence[int],
    stride: int | Sequence[int] = 1,
    padding: str = "SAME",
    data_format: str | None = None,
    rate: int | Sequence[int] = 1,
    activation_fn: Callable | None = tf.nn.relu,
    normalizer_fn: Callable | None = None,
    normalizer_params: dict[str, Any] | None = None,
    weights_initializer: Any = _XAVIER,
    weights_regularizer: Callable | None = None,
    biases_initializer: Any = ZEROS,
    biases_regularizer: Callable | None = None,
    reuse: bool | None = None,
    variables_collections: VariablesCollections = None,
    outputs_collections: Collections = None,
    trainable: bool = True,
    scope: str | None = None,
) -> tf.Tensor:
    """2-D convolution, then the normalizer or a bias, then the activation; answers to ``slim.conv2d``.

    Args:
      inputs: [batch, height, width, channels]; channels must be known.
      num_outputs: number of filters.
      kernel_size: one int, or (height, width).
      stride: one int, or (vertical, horizontal). A stride and a rate above 1 exclude each other.
      padding: 'SAME' or 'VALID'.
      data_format: None or 'NHWC'.
      rate: dilation of the kernel, one int or a pair.
      activation_fn: applied last; None for none.
      normalizer_fn: called on the convolution's output with ``normalizer_params``, in place of a bias.
      weights_initializer, weights_regularizer: of the variable ``weights`` [height, width, channels, num_outputs],
        which has the dtype of ``inputs``.
      biases_initializer, biases_regularizer: of the variable ``biases`` [num_outputs], where there is no
        normalizer; an initializer of None leaves the bias out.
      reuse: whether the variables of ``scope`` are taken again.
      variables_collections: further collections for the variables, or a dict from 'weights' and 'biases' to them.
      outputs_collections: collections that get the output, under the scope's name.
      trainable: whether the variables go into TRAINABLE_VARIABLES.
      scope: variable scope; 'Conv', made unique, where None.

    Returns:
      [batch, height_out, width_out, num_outputs].

    Raises:
      ValueError: for a rank other than 4, unknown channels, stride and rate both above 1, 'NCHW', or an argument of
        the wrong kind; the message names it.
    """
    _require_nhwc(data_format)
    num_outputs = whole_number("num_outputs", num_outputs, least=1)
    kernel_size, stride, rate = pair("kernel_size", kernel_size), pair("stride", stride), pair("rate", rate)
    padding, trainable = padding_name(padding), flag("trainable", trainable)
    normalizer_fn = _ours(function("normalizer_fn", normalizer_fn))
    normalizer_params = check_mapping("normalizer_params", normalizer_params)
    for name, value in (
        ("activation_fn", activation_fn),
        ("weights_initializer", weights_initializer),
        ("weights_regularizer", weights_regularizer),
        ("biases_initializer", biases_initializer),
        ("biases_regularizer", biases_regularizer),
    ):
        function(name, value)
    check_scope(scope, reuse)
    with v1.variable_scope(scope, "Conv", [inputs], reuse=reuse) as sc:
        inputs = tf.convert_to_tensor(inputs)
        channels = _static_channels(inputs, "conv2d", ranks=(4,))
        dtype = inputs.dtype.base_dtype
        weights = model_variable(
            "weights",
            [*kernel_size, channels, num_outputs],
            dtype,
            weights_initializer,
            variables_collections,
            weights_regularizer,
            trainable,
            loss_scope=sc.original_name_scope + "kernel",
        )
        outputs = _convolution(inputs, weights, stride, rate, padding)
        if normalizer_fn is not None:
            outputs = normalizer_fn(outputs, **normalizer_params)
        elif biases_initializer is not None:
            biases = model_variable(
                "biases",
                [num_outputs],
                dtype,
                biases_initializer,
                variables_collections,
                biases_regularizer,
                trainable,
                loss_scope=sc.original_name_scope + "bias",
            )
            outputs = tf.nn.bias_add(outputs, biases, name="BiasAdd")
        if activation_fn is not None:
            outputs = activation_fn(outputs)
        return utils.collect_named_outputs(outputs_collections, sc.name, outputs)


def _convolution(
    inputs: tf.Tensor, weights: tf.Tensor, stride: tuple[int, int], rate: tuple[int, int], padding: str
) -> tf.Tensor:
    if rate == (1, 1):
        return tf.nn.conv2d(inputs, weights, strides=stride, padding=padding, name="Conv2D")
    if stride != (1, 1):
        raise ValueError(f"A strided convolution cannot be dilated: stride is {stride} and rate {rate}; set one to 1.")
    # tf.nn.convolution, and not conv2d's own dilations: those have no gradient on a CPU without oneDNN.
    return tf.nn.convolution(inputs, weights, padding=padding, dilations=rate, name="convolution")


class _BatchNormParameters(NamedTuple):
    """The four vectors [channels] of a batch norm, float32."""

    gamma: tf.Variable | tf.Tensor
    beta: tf.Variable | tf.Tensor
    moving_mean: tf.Variable
    moving_variance: tf.Variable


@_answers_to(slim.batch_norm)
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
    """Batch normalization (Ioffe and Szegedy, arXiv:1502.03167); answers to ``slim.batch_norm``.

    The fused op gives the moving variance Bessel's correction and raises an epsilon below 1.001e-5 to that,
    as in slim. Separate ops do neither. Like slim, this function computes with them for ``fused=False``, for rank 3,
    and for rank 5 where the updates go to other collections than UPDATE_OPS.

    Args:
      inputs: of rank 2 to 5, channels last, such as [batch, channels], [batch, width, channels], [batch, height, width,
        channels] or [batch, depth, height, width, channels]; float32, float16 or bfloat16.
      decay: of the moving averages, from 0 to 1.
      center, scale: whether there is a ``beta`` to add, a ``gamma`` to multiply by.
      epsilon: added to the variance; at least 0.
      activation_fn: applied last; None for none.
      param_initializers: by name: 'beta', 'gamma', 'moving_mean', 'moving_variance'.
      param_regularizers: by name: 'beta', 'gamma'.
      updates_collections: where the two updates of the moving statistics are put, to be run with the training
        step; None runs them whenever the output is computed.
      is_training: whether to normalize by the batch's statistics, and update the moving ones; may be a tensor.
      reuse, variables_collections, outputs_collections, trainable, scope: as for ``conv2d``; the scope
        defaults to 'BatchNorm'. The variables are float32 whatever the inputs are.
      fused: False computes with separate ops.
      data_format: None or 'NHWC', which stands for channels last at every rank.
      batch_weights, zero_debias_moving_mean, renorm, renorm_clipping, renorm_decay, adjustment: refused.

    Returns:
      A tensor of the shape and dtype of ``inputs``.

    Raises:
      ValueError: for another rank, unknown channels, an unknown parameter name, an argument not supported, or one of
        the wrong kind; the message names it.
    """
    _require_nhwc(data_format)
    _refuse(
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
        channels = _static_channels(inputs, "batch_norm", ranks=(2, 3, 4, 5))
        parameters = _batch_norm_parameters(
            channels,
            sc.original_name_scope,
            center,
            scale,
            param_initializers,
            param_regularizers,
            variables_collections,
            trainable,
        )
        # The statistics are those of all positions of all images, wherever these are.
        images = inputs if inputs.shape.rank == 4 else tf.reshape(inputs, [-1, 1, 1, channels])
        is_fused = fused and _slim_fuses(inputs.shape.rank, updates_collections)
        normalize = _normalize_fused if is_fused else _normalize_unfused
        training = static_bool(is_training)
        if training is None:
            # Read outside of the branches: a reference variable cannot be captured by one.
            read = _BatchNormParameters(*(tf.convert_to_tensor(parameter) for parameter in parameters))
            outputs, mean, variance = v1.cond(
                is_training,
                lambda: normalize(images, read, epsilon, training=True),
                lambda: normalize(images, read, epsilon, training=False),
            )
        else:
            outputs, mean, variance = normalize(images, parameters, epsilon, training)
        if training is not False:
            # Outside training mean and variance are the moving ones, so that the update changes nothing.
            updates = [
                _moving_average_update(parameters.moving_mean, mean, decay),
                _moving_average_update(parameters.moving_variance, variance, decay),
            ]
            if updates_collections is None:
                with tf.control_dependencies(updates):
                    outputs = tf.identity(outputs)
            else:
                for update in updates:
                    v1.add_to_collections(updates_collections, update)
        if inputs.shape.rank != 4:
            outputs = tf.reshape(outputs, tf.shape(inputs))
        outputs.set_shape(inputs.shape)
        if activation_fn is not None:
            outputs = activation_fn(outputs)
        return utils.collect_named_outputs(outputs_collections, sc.name, outputs)


def _slim_fuses(rank: int, updates_collections: Collections) -> bool:
    """Whether tf_slim computes with the fused op, unless it is told not to."""
    # Its own code knows ranks 2 and 4; for UPDATE_OPS it calls a layer of Keras 2, which knows 4 and 5.
    return rank in (2, 4) or (rank == 5 and updates_collections == v1.GraphKeys.UPDATE_OPS)


def _batch_norm_parameters(
    channels: int,
    name_scope: str,
    center: bool,
    scale: bool,
    initializers: dict[str, Any] | None,
    regularizers: dict[str, Callable] | None,
    variables_collections: VariablesCollections,
    trainable: bool,
) -> _BatchNormParameters:
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
    gamma = parameter("gamma", _ONES, trainable) if scale else tf.ones([channels])
    variable_scope = v1.get_variable_scope()
    partitioner = variable_scope.partitioner
    # In one piece: an update of a partitioned variable would need its statistics cut alike.
    variable_scope.set_partitioner(None)
    moving_mean = parameter("moving_mean", ZEROS, trainable=False)
    moving_variance = parameter("moving_variance", _ONES, trainable=False)
    variable_scope.set_partitioner(partitioner)
    return _BatchNormParameters(gamma, beta, moving_mean, moving_variance)


def _normalize_fused(
    images: tf.Tensor, parameters: _BatchNormParameters, epsilon: float, training: bool
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """(outputs, mean, variance) of [batch, height, width, channels] by the fused op."""
    gamma, beta, moving_mean, moving_variance = parameters
    if training:
        return tuple(v1.nn.fused_batch_norm(images, gamma, beta, epsilon=epsilon))
    outputs, _, _ = v1.nn.fused_batch_norm(
        images, gamma, beta, mean=moving_mean, variance=moving_variance, epsilon=epsilon, is_training=False
    )
    return outputs, moving_mean, moving_variance


def _normalize_unfused(
    images: tf.Tensor, parameters: _BatchNormParameters, epsilon: float, training: bool
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """As ``_normalize_fused``, by separate ops in float32, with the population variance."""
    gamma, beta, mean, variance = parameters
    images32 = tf.cast(images, tf.float32)
    if training:
        mean, variance = tf.nn.moments(images32, axes=[0, 1, 2])
    outputs = tf.nn.batch_normalization(images32, mean, variance, beta, gamma, epsilon)
    return tf.cast(outputs, images.dtype), mean, variance


def _moving_average_update(moving: tf.Variable, value: tf.Tensor, decay: float) -> tf.Operation | tf.Tensor:
    with tf.name_scope("AssignMovingAvg"):
        return moving.assign_sub((moving - value) * (1.0 - decay), read_value=False)


@_answers_to(slim.max_pool2d)
def max_pool2d(
    inputs: tf.Tensor,
    kernel_size: int | Sequence[int],
    stride: int | Sequence[int] = 2,
    padding: str = "VALID",
    data_format: str | None = "NHWC",
    outputs_collections: Collections = None,
    scope: str | None = None,
) -> tf.Tensor:
    """2-D max pooling; answers to ``slim.max_pool2d``.

    Args:
      inputs: [batch, height, width, channels].
      kernel_size, stride: one int, or (vertical, horizontal).
      padding: 'VALID' or 'SAME'.
      data_format: None or 'NHWC'.
      outputs_collections: collections that get the output, under the scope's name.
      scope: name scope; 'MaxPool2D', made unique, where None.

    Returns:
      [batch, height_out, width_out, channels].

    Raises:
      ValueError: for a rank other than 4, 'NCHW', or another size, stride or padding.
    """
    _require_nhwc(data_format)
    kernel_size, stride, padding = pair("kernel_size", kernel_size), pair("stride", stride), padding_name(padding)
    with v1.name_scope(scope, "MaxPool2D", [inputs]) as sc:
        inputs = tf.convert_to_tensor(inputs)
        if inputs.shape.rank != 4:
            raise ValueError(f"max_pool2d takes inputs of rank 4, and {inputs.name} has shape {inputs.shape}.")
        outputs = tf.nn.max_pool2d(
            inputs,
            ksize=kernel_size,
            strides=stride,
            padding=padding,
            name="MaxPool",
        )
        return utils.collect_named_outputs(outputs_collections, sc, outputs)


@_answers_to(slim.softmax)
def softmax(logits: tf.Tensor, scope: str | None = None) -> tf.Tensor:
    """Softmax over the last axis of a tensor of rank 2 or more; answers to ``slim.softmax``.

    Args:
      logits: [..., classes]; classes must be known.
      scope: variable scope; 'softmax', made unique, where None.

    Returns:
      A tensor of the shape of ``logits``, each of whose rows sums to 1.
    """
    with v1.variable_scope(scope, "softmax", [logits]):
        logits = tf.convert_to_tensor(logits)
        classes = utils.last_dimension(logits.shape, min_rank=2)
        # Flattened and restored although tf.nn.softmax takes any rank: the result is then named as slim names it.
        predictions = tf.nn.softmax(tf.reshape(logits, [-1, classes]))
        predictions = tf.reshape(predictions, tf.shape(logits))
        predictions.set_shape(logits.shape)
        return predictions


class _Mended(types.ModuleType):
    """A module of TensorFlow as tf_slim sees it, with the names that TensorFlow took out of it."""

    def __init__(self, module: types.ModuleType, **names: Any) -> None:
        super().__init__(module.__name__)
        self._module = module
        vars(self).update(names)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._module, name)


def repair_tf_slim() -> None:
    """Puts the layers of this module in the place of tf_slim's own, and mends tf_slim where it breaks on a tensor.

    For code that calls ``slim.batch_norm`` (or ``slim.conv2d`` with it) itself: afterwards it builds and trains.
    Also works again what looks for ``Tensor``, ``cond`` and the like where TensorFlow no longer has them:
    ``slim.utils.smart_cond`` and ``constant_value``, ``slim.learning.multiply_gradients``, streaming metrics.

    Changes tf_slim for the whole process, and nothing of TensorFlow. Call it before any
    ``from tf_slim import batch_norm``, which would keep the old function. Calling it again changes nothing.
    """
    mended = {
        id(module): _Mended(module, **names)
        for module, names in (
            (utils.ops, {"IndexedSlices": tf.IndexedSlices, "Tensor": tf.Tensor}),
            (utils.control_flow_ops, {"cond": v1.cond, "while_loop": v1.while_loop}),
        )
        if not isinstance(module, _Mended)
    }
    for module_name, module in list(sys.modules.items()):
        if module_name.partition(".")[0] == "tf_slim":
            for name, value in list(vars(module).items()):
                if id(value) in mended:
                    setattr(module, name, mended[id(value)])
                elif isinstance(value, types.FunctionType):
                    setattr(module, name, _ours(value))
