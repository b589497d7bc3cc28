"""Images and labels that lie on TensorFlow's device: what copies them there is no part of what is measured."""

from collections.abc import Callable

import numpy as np
import tensorflow as tf

__all__ = ["load_images", "resident_images", "resident_variable"]

v1 = tf.compat.v1


def resident_images(shape: tuple[int, ...]) -> tf.Variable:
    """A variable of the current graph for images of that shape, in no collection of a network's."""
    value = v1.placeholder(tf.float32, shape, name="images_to_load")
    return v1.Variable(value, trainable=False, collections=[], name="resident_images", use_resource=True)


def resident_variable(name: str, initial_value: np.ndarray | Callable[[], tf.Tensor]) -> tf.Variable:
    """A local variable of the current graph, which is none of the network's, and has its value once initialized."""
    local = [v1.GraphKeys.LOCAL_VARIABLES]
    return v1.get_variable(name, initializer=initial_value, trainable=False, collections=local, use_resource=True)


def load_images(session: v1.Session, variable: tf.Variable, images: np.ndarray) -> None:
    """Gives the variable its value: float32 [N, height, width, channels]."""
    session.run(variable.initializer, {"images_to_load:0": images})
