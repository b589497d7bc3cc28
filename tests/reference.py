"""tf_slim's own networks and weights for them: what the tests compare with.

tf_slim 1.1.0 still builds its ResNets on current TensorFlow if three things are seen to, which only tests may do:
it looks for ``Tensor`` and for ``cond`` in modules that TensorFlow took them out of, and its batch norm goes through
a layer of Keras 2 unless the updates collection is another object than ``GraphKeys.UPDATE_OPS``: a list of it will do.
"""

import contextlib
import functools
import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import Any
from unittest import mock

import numpy as np
import tensorflow as tf
import tf_slim as slim
from tensorflow.python.framework import ops
from tensorflow.python.ops import control_flow_ops
from tf_slim.nets import resnet_utils, resnet_v2

from nets import nets_factory

v1 = tf.compat.v1

UPDATE_OPS = v1.GraphKeys.UPDATE_OPS


@contextlib.contextmanager
def tf_slim_scope(updates_collections: Any = UPDATE_OPS, **arg_scope: Any) -> Iterator[None]:
    """The scope under which tf_slim's own ResNets build."""
    if updates_collections == UPDATE_OPS:
        updates_collections = [UPDATE_OPS]
    parameters = {"decay": 0.997, "epsilon": 1e-5, "scale": True, "updates_collections": updates_collections}
    with (
        warnings.catch_warnings(),
        mock.patch.object(ops, "Tensor", tf.Tensor, create=True),
        mock.patch.object(control_flow_ops, "cond", v1.cond, create=True),
        slim.arg_scope(resnet_utils.resnet_arg_scope(**arg_scope)),
        slim.arg_scope([slim.conv2d], normalizer_params=parameters),
        slim.arg_scope([slim.batch_norm], updates_collections=updates_collections),
    ):
        warnings.filterwarnings("ignore", message=".layer.apply. is deprecated")
        yield


def tf_slim_builder(name: str) -> Callable[..., tuple[tf.Tensor, Mapping[str, tf.Tensor]]]:
    """tf_slim's own builder of that name, or its generator on the blocks of a network that it does not name."""
    if hasattr(resnet_v2, name):
        return getattr(resnet_v2, name)
    blocks = [resnet_v2.resnet_v2_block(*block) for block in nets_factory.get_network(name).variant.blocks()]
    return functools.partial(resnet_v2.resnet_v2, blocks=blocks, scope=name)


def random_values(variables: list[tf.Variable], seed: int = 0) -> dict[str, np.ndarray]:
    """Values for the variables by name: of a size that keeps all activations finite, with moving statistics that
    are neither 0 nor 1."""
    generator = np.random.default_rng(seed)
    values = {}
    for variable in variables:
        shape, name = variable.shape.as_list(), variable.op.name
        kind = name.rpartition("/")[2]
        if kind == "weights":
            value = generator.normal(0, np.sqrt(1 / np.prod(shape[:-1])), shape)
        elif kind in ("gamma", "moving_variance"):
            value = generator.uniform(0.5, 1.5, shape)
        else:
            value = generator.normal(0, 0.1, shape)
        values[name] = value.astype(np.float32)
    return values


def assign(session: v1.Session, values: Mapping[str, np.ndarray]) -> None:
    """Gives the global variables of the session's graph their values."""
    variables = session.graph.get_collection(v1.GraphKeys.GLOBAL_VARIABLES)
    feeds = {variable.initializer.inputs[1]: values[variable.op.name] for variable in variables}
    session.run([variable.initializer for variable in variables], feeds)


def relative_difference(result: np.ndarray, expected: np.ndarray) -> float:
    """Norm of the difference over the norm of what is expected."""
    return float(np.linalg.norm(result - expected) / np.linalg.norm(expected))
