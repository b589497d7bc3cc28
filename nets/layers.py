"""The layers of the networks: tf_slim's layer functions, written on TensorFlow's public API.

tf_slim 1.1.0 builds its layers from the layer classes of Keras 2, and its ``batch_norm`` no longer builds on
current TensorFlow. The functions here take the same arguments, create the same variables under the same
names and in the same collections, and compute the same values. They answer to the same arg scopes:
each carries the scope key of its slim namesake, so ``slim.arg_scope([slim.conv2d], ...)`` reaches ``conv2d``
here.

Every argument of the slim function is honoured, or refused with an error that names it. Tensors are NHWC.
"""

import sys
import types
from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf
import tf_slim as slim
from tf_slim.layers import utils

from nets.arguments import check_mapping, check_scope, flag, function, padding_name, pair, whole_number
from nets.batch_normalization import batch_norm, population_batch_norm, training_mode
from nets.layer_basics import (
    ZEROS,
    Collections,
    VariablesCollections,
    answers_to,
    model_variable,
    ours,
    require_nhwc,
    scoped_arguments,
    static_bool,
    static_channels,
)

__all__ = [
    "ZEROS",
    "Collections",
    "batch_norm",
    "conv2d",
    "max_pool2d",
    "model_variable",
    "population_batch_norm",
    "repair_tf_slim",
    "scoped_arguments",
    "softmax",
    "static_bool",
    "training_mode",
]

v1 = tf.compat.v1

_XAVIER = slim.xavier_initializer()


@answers_to(slim.conv2d)
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
    """Applies a 2-D convolution, the normalizer or a bias, and the activation; answers to ``slim.conv2d``.

    Args:
      inputs: [batch, height, width, channels]; channels must be known.
      num_outputs: number of filters.
      kernel_size: one int, or (height, width).
      stride: one int, or (vertical, horizontal). A stride and a rate above 1 exclude each other.
      padding: 'SAME' or 'VALID'.
      data_format: None or 'NHWC'.
      rate: dilation of the kernel, one int or a pair.
      activation_fn: function applied last, or None.
      normalizer_fn: function of the convolution's output and ``normalizer_params``; it takes the place of the bias.
      weights_initializer, weights_regularizer: functions for the variable ``weights``
        [height, width, channels, num_outputs], which has the dtype of ``inputs``.
      biases_initializer, biases_regularizer: functions for the variable ``biases`` [num_outputs], which exists if there
        is no normalizer; an initializer of None leaves the bias out.
      reuse: whether to reuse the variables of ``scope``.
      variables_collections: further collections for the variables, or a dict from 'weights' and 'biases' to them.
      outputs_collections: collections that get the output, under the scope's name.
      trainable: whether the variables go into TRAINABLE_VARIABLES.
      scope: variable scope; None for 'Conv', made unique.

    Returns:
      [batch, height_out, width_out, num_outputs].

    Raises:
      ValueError: for a rank other than 4, unknown channels, stride and rate both above 1, 'NCHW', or an argument of
        the wrong kind; the message names it.
    """
    require_nhwc(data_format)
    num_outputs = whole_number("num_outputs", num_outputs, least=1)
    kernel_size, stride, rate = pair("kernel_size", kernel_size), pair("stride", stride), pair("rate", rate)
    padding, trainable = padding_name(padding), flag("trainable", trainable)
    normalizer_fn = ours(function("normalizer_fn", normalizer_fn))
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
        channels = static_channels(inputs, "conv2d", ranks=(4,))
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


@answers_to(slim.max_pool2d)
def max_pool2d(
    inputs: tf.Tensor,
    kernel_size: int | Sequence[int],
    stride: int | Sequence[int] = 2,
    padding: str = "VALID",
    data_format: str | None = "NHWC",
    outputs_collections: Collections = None,
    scope: str | None = None,
) -> tf.Tensor:
    """Applies 2-D max pooling; answers to the arg scopes of ``slim.max_pool2d``.

    Args:
      inputs: [batch, height, width, channels].
      kernel_size, stride: one int, or (vertical, horizontal).
      padding: 'VALID' or 'SAME'.
      data_format: None or 'NHWC'.
      outputs_collections: collections that get the output, under the scope's name.
      scope: name scope; None for 'MaxPool2D', made unique.

    Returns:
      [batch, height_out, width_out, channels].

    Raises:
      ValueError: for a rank other than 4, 'NCHW', or another size, stride or padding.
    """
    require_nhwc(data_format)
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


@answers_to(slim.softmax)
def softmax(logits: tf.Tensor, scope: str | None = None) -> tf.Tensor:
    """Applies softmax to the last axis of a tensor of rank 2 or more; answers to the arg scopes of ``slim.softmax``.

    Args:
      logits: [..., classes]; the number of classes must be known.
      scope: variable scope; None for 'softmax', made unique.

    Returns:
      A tensor of the shape of ``logits``; each row sums to 1.
    """
    with v1.variable_scope(scope, "softmax", [logits]):
        logits = tf.convert_to_tensor(logits)
        classes = utils.last_dimension(logits.shape, min_rank=2)
        # tf.nn.softmax takes any rank; the two reshapes give the result slim's name.
        predictions = tf.nn.softmax(tf.reshape(logits, [-1, classes]))
        predictions = tf.reshape(predictions, tf.shape(logits))
        predictions.set_shape(logits.shape)
        return predictions


class _Mended(types.ModuleType):
    """A module of TensorFlow for tf_slim, with the names that TensorFlow has removed from it."""

    def __init__(self, module: types.ModuleType, **names: Any) -> None:
        super().__init__(module.__name__)
        self._module = module
        vars(self).update(names)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._module, name)


def repair_tf_slim() -> None:
    """Replaces tf_slim's layers by those of this module, and repairs the rest of tf_slim that breaks on a tensor.

    Code that calls ``slim.batch_norm`` itself, or ``slim.conv2d`` with it, builds and trains afterwards. The functions
    that look for ``Tensor``, ``cond`` and the like in places that TensorFlow has removed work again too:
    ``slim.utils.smart_cond`` and ``constant_value``, ``slim.learning.multiply_gradients``, streaming metrics.

    This changes tf_slim for the whole process, and nothing of TensorFlow. Call it before any
    ``from tf_slim import batch_norm``, which would keep the old function. A second call changes nothing.
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
                    setattr(module, name, ours(value))
