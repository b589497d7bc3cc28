"""Keeps images and labels on TensorFlow's device, so that measurements do not include copying them there."""

from collections.abc import Callable

import numpy as np
import tensorflow as tf

__all__ = ["load_images", "resident_images", "resident_variable"]

v1 = tf.compat.v1


def resident_images(shape: tuple[int, ...]) -> tf.Variable:
    """Returns a variable of the current graph for images of this shape. It is in no collection."""
    value = v1.placeholder(tf.float32, shape, name="images_to_load")
    return v1.Variable(value, trainable=False, collections=[], name="resident_images", use_resource=True)


def resident_variable(name: str, initial_value: np.ndarray | Callable[[], tf.Tensor]) -> tf.Variable:
    """Returns a local variable of the current graph, apart from the network's. Its initializer sets the value."""
    local = [v1.GraphKeys.LOCAL_VARIABLES]
    return v1.get_variable(name, initializer=initial_value, trainable=False, collections=local, use_resource=True)


def load_images(session: v1.Session, variable: tf.Variable, images: np.ndarray) -> None:
    """Assigns the images to the variable: float32 [N, height, width, channels]."""
    session.run(variable.initializer, {"images_to_load:0": images})
