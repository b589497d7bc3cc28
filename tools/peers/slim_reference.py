"""tf_slim's own networks on current TensorFlow, to compare with.

They build if three things are seen to: tf_slim looks for ``Tensor`` and for ``cond`` in modules that TensorFlow took
them out of, and its batch norm goes through a layer of Keras 2 unless the updates collection is another object than
``GraphKeys.UPDATE_OPS``: a list of it will do. This patches TensorFlow's own modules for as long as a network is
built, which is why only tests and benchmarks use it; ``nets.layers.repair_tf_slim`` is for everybody.
"""

import contextlib
import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import Any
from unittest import mock

import tensorflow as tf
import tf_slim as slim
from tensorflow.python.framework import ops
from tensorflow.python.ops import control_flow_ops
from tf_slim.nets import resnet_utils, resnet_v1, resnet_v2

from nets import nets_factory

__all__ = ["tf_slim_builder", "tf_slim_scope"]

v1 = tf.compat.v1

_UPDATE_OPS = v1.GraphKeys.UPDATE_OPS


@contextlib.contextmanager
def tf_slim_scope(updates_collections: Any = _UPDATE_OPS, **arg_scope: Any) -> Iterator[None]:
    """The scope under which tf_slim's own ResNets build."""
    if updates_collections == _UPDATE_OPS:
        updates_collections = [_UPDATE_OPS]
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
    for module in (resnet_v1, resnet_v2):
        if hasattr(module, name):
            return getattr(module, name)
    blocks = [resnet_v2.resnet_v2_block(*block) for block in nets_factory.get_network(name).variant.blocks()]

    def build(inputs: tf.Tensor, *args: Any, **kwargs: Any) -> tuple[tf.Tensor, Mapping[str, tf.Tensor]]:
        return resnet_v2.resnet_v2(inputs, blocks, *args, **{"scope": name, **kwargs})

    return build
