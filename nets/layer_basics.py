"""The parts that all layers share: their arg scopes, their variables, the checks of their inputs."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
import tf_slim as slim
from tf_slim.layers import utils

__all__ = [
    "ONES",
    "ZEROS",
    "Collections",
    "VariablesCollections",
    "answers_to",
    "model_variable",
    "ours",
    "refuse",
    "require_nhwc",
    "scoped_arguments",
    "static_bool",
    "static_channels",
]

v1 = tf.compat.v1

# The name of a collection of the graph, or several names.
Collections = str | Sequence[str] | None
VariablesCollections = Collections | dict[str, Collections]

ZEROS, ONES = v1.zeros_initializer(), v1.ones_initializer()

_BY_KEY: dict[str, Callable] = {}


def answers_to(slim_function: Callable) -> Callable[[Callable], Callable]:
    """Returns a decorator for functions that take their defaults from the arg scopes of ``slim_function``."""
    key = slim.arg_scope_func_key(slim_function)

    def decorate(function: Callable) -> Callable:
        function._key_op = key
        _BY_KEY[key] = slim.add_arg_scope(function)
        return _BY_KEY[key]

    return decorate


def ours(function: Callable | None) -> Callable | None:
    """Returns our layer with the scope key of ``function``, or ``function`` itself if there is none.

    A scope that names ``slim.batch_norm`` as its normalizer thus gets the ``batch_norm`` that builds.
    """
    if isinstance(function, functools.partial):
        return functools.partial(ours(function.func), *function.args, **function.keywords)
    return _BY_KEY.get(slim.arg_scope_func_key(function), function)


def scoped_arguments(layer: Callable) -> dict[str, Any]:
    """Returns the arguments that the current arg scope has for a layer."""
    return slim.current_arg_scope().get(slim.arg_scope_func_key(layer), {})


def require_nhwc(data_format: str | None) -> None:
    """Raises ValueError unless ``data_format`` is None or 'NHWC'."""
    if data_format not in (None, "NHWC"):
        raise ValueError(
            f"data_format={data_format!r} is not supported: these layers compute with channels last, and call that "
            "'NHWC' at every rank; transpose the input, or leave data_format out."
        )


def refuse(layer: str, **arguments: Any) -> None:
    """Raises ValueError for the first argument that is set: slim has these, and our layers do not."""
    for name, value in arguments.items():
        if value is not None and value is not False:
            raise ValueError(f"{layer} does not support the argument {name} (given {value!r}); leave it out.")


def static_channels(inputs: tf.Tensor, layer: str, ranks: tuple[int, ...]) -> int:
    """Returns the number of channels of ``inputs``; raises ValueError if it is unknown or ``layer`` has other ranks."""
    shape = inputs.shape
    if shape.rank not in ranks:
        expected = f"{ranks[0]} to {ranks[-1]}" if len(ranks) > 1 else ranks[0]
        raise ValueError(f"{layer} takes inputs of rank {expected}, and {inputs.name} has shape {shape}.")
    channels = shape.as_list()[-1]
    if channels is None:
        raise ValueError(f"{layer} needs a known number of channels, and {inputs.name} has shape {shape}.")
    return channels


def static_bool(value: Any) -> bool | None:
    """Returns ``value`` as a bool; None for a variable, or a tensor whose value the graph does not determine."""
    if isinstance(value, tf.Variable) or tf.is_tensor(value):
        if value.dtype.base_dtype != tf.bool or value.shape.rank not in (0, None):
            raise ValueError(f"is_training must be True, False or a boolean scalar, and is {value}.")
        value = None if isinstance(value, tf.Variable) else tf.get_static_value(value)
        return None if value is None else bool(value)
    if not isinstance(value, bool | int | np.bool_) or value not in (0, 1):
        raise ValueError(f"is_training must be True, False or a boolean tensor, and is {value!r}.")
    return bool(value)


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
    """Returns a model variable of the current scope, in the collections that ``variables_collections`` names for it.

    The regularizer is applied here: get_variable would build its ops twice. Its loss goes under the absolute name
    scope ``loss_scope``, as in slim: the variable ``conv1/weights`` has ``conv1/kernel/Regularizer``.
    """
    existing = len(v1.get_collection_ref(v1.GraphKeys.GLOBAL_VARIABLES))
    variable = slim.model_variable(name, shape=shape, dtype=dtype, initializer=initializer, trainable=trainable)
    created = len(v1.get_collection_ref(v1.GraphKeys.GLOBAL_VARIABLES)) > existing
    parts = list(variable) if hasattr(variable, "as_tensor") else [variable]  # a partitioned variable has it
    if regularizer is not None and created:
        for part in parts:
            with tf.name_scope(f"{loss_scope}/Regularizer/"):
                loss = regularizer(part)
            if loss is not None:
                v1.add_to_collection(v1.GraphKeys.REGULARIZATION_LOSSES, loss)
    collections = utils.get_variable_collections(variables_collections, name) or ()
    # slim.model_variable would add a variable to them only when it is created, and not when it is reused.
    for collection in [collections] if isinstance(collections, str) else collections:
        present = v1.get_collection_ref(collection)
        present.extend(part for part in parts if not any(part is other for other in present))
    return variable
