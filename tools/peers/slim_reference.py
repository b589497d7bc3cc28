"""tf_slim's own networks on current TensorFlow, for comparisons.

They require three repairs. tf_slim looks for ``Tensor`` and ``cond`` in modules from which TensorFlow removed them. Its
batch norm uses a layer of Keras 2 if the updates collection is ``GraphKeys.UPDATE_OPS``, but not if it is a list of it.
This patches TensorFlow's own modules while a network is built, so only tests, benchmarks and peers use it;
``nets.layers.repair_tf_slim`` is for everybody.
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
from tf_slim.nets import alexnet, inception, overfeat, resnet_utils, resnet_v1, resnet_v2, vgg

from nets import nets_factory

__all__ = ["tf_slim_builder", "tf_slim_scope"]

v1 = tf.compat.v1

_UPDATE_OPS = v1.GraphKeys.UPDATE_OPS


_MODULES = (resnet_v1, resnet_v2, alexnet, overfeat, vgg, inception)
_RESNET_NORM = {"decay": 0.997, "epsilon": 1e-5, "scale": True}


@contextlib.contextmanager
def tf_slim_scope(
    updates_collections: Any = _UPDATE_OPS, net: str = "resnet_v2_50", **arg_scope: Any
) -> Iterator[None]:
    """Enters the scope in which tf_slim's own network of the name ``net`` can be built, or any of its ResNets."""
    if updates_collections == _UPDATE_OPS:
        updates_collections = [_UPDATE_OPS]
    scope = _tf_slim_arg_scope(net)(**arg_scope)
    parameters = _RESNET_NORM
    if not net.startswith("resnet"):
        parameters = scope[slim.arg_scope_func_key(slim.conv2d)].get("normalizer_params")
    if parameters is not None:
        parameters = {**parameters, "updates_collections": updates_collections}
    with (
        warnings.catch_warnings(),
        mock.patch.object(ops, "Tensor", tf.Tensor, create=True),
        mock.patch.object(control_flow_ops, "cond", v1.cond, create=True),
        slim.arg_scope(scope),
        slim.arg_scope([slim.conv2d], normalizer_params=parameters),
        slim.arg_scope([slim.batch_norm], updates_collections=updates_collections),
    ):
        warnings.filterwarnings("ignore", message=".layer.apply. is deprecated")
        yield


def _tf_slim_arg_scope(net: str) -> Callable[..., dict[str, Any]]:
    """Returns tf_slim's own function that makes the arg scope of a network."""
    if net.startswith("resnet"):
        return resnet_utils.resnet_arg_scope
    name = "vgg_arg_scope" if net.startswith("vgg") else f"{net}_arg_scope"
    return next(getattr(module, name) for module in _MODULES if hasattr(module, name))


def tf_slim_builder(name: str) -> Callable[..., tuple[tf.Tensor, Mapping[str, tf.Tensor]]]:
    """Returns tf_slim's own builder, or its generator with the blocks of a network that tf_slim does not name."""
    for module in _MODULES:
        if hasattr(module, name):
            return getattr(module, name)
    blocks = [resnet_v2.resnet_v2_block(*block) for block in nets_factory.get_network(name).variant.blocks()]

    def build(inputs: tf.Tensor, *args: Any, **kwargs: Any) -> tuple[tf.Tensor, Mapping[str, tf.Tensor]]:
        return resnet_v2.resnet_v2(inputs, blocks, *args, **{"scope": name, **kwargs})

    return build
