"""Small forms of the networks of the table for tests: sizes of images, and options that make a network narrow."""

import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from nets import nets_factory

v1 = tf.compat.v1

# tf_slim's other networks, which have no residual units.
OF_TF_SLIM = (
    *("alexnet_v2", "overfeat", "vgg_a", "vgg_16", "vgg_19"),
    *("inception_v1", "inception_v2", "inception_v3"),
)
OF_UNITS = tuple(name for name in nets_factory.NETWORKS if name not in OF_TF_SLIM)

# Those that cannot be built for small images, and sizes near their least.
_LARGE = {"alexnet_v2": 195, "overfeat": 231, "vgg_a": 224, "vgg_16": 224, "vgg_19": 224}
_LARGE |= {"inception_v1": 193, "inception_v3": 107}


def small_size(name: str, size: int = 64) -> int:
    """Returns the height and width of small images for a network: ``size``, or the least that it can be built for."""
    return _LARGE.get(name, min(size, nets_factory.get_network(name).image_size))


def value_of(variable: tf.Variable, seed: int = 0) -> np.ndarray:
    """Returns random values by a variable's name and shape, made in float32, as some networks have 10^8 of them."""
    shape = variable.shape.as_list()
    name = variable.op.name
    generator = np.random.default_rng([seed, zlib.crc32(name.encode())])
    if name.endswith(("weights", "kernel")):
        value = generator.standard_normal(shape, np.float32)
        # A depthwise kernel adds up the products of a single channel.
        inputs = shape[:2] if name.endswith("depthwise_weights") else shape[:-1]
        value *= np.float32(np.sqrt(1.5 / np.prod(inputs)))
        return value
    if name.endswith(("gamma", "moving_variance")):
        return generator.uniform(0.5, 1.5, shape).astype(np.float32)
    return 0.1 * generator.standard_normal(shape, np.float32)


# The most elements that are assigned at a time.
_ELEMENTS = 2**25


def assign_in_parts(session: v1.Session, value: Callable[[Any], np.ndarray] = value_of) -> None:
    """Assigns values to the global variables of the session's graph, of which a part is in memory at a time."""
    waiting, elements = [], 0
    variables = session.graph.get_collection(v1.GraphKeys.GLOBAL_VARIABLES)
    for i, variable in enumerate(variables):
        waiting.append(variable)
        elements += variable.shape.num_elements()
        if elements > _ELEMENTS or i == len(variables) - 1:
            feeds = {each.initializer.inputs[1]: value(each) for each in waiting}
            session.run([each.initializer for each in waiting], feeds)
            waiting, elements = [], 0
