"""Where networks are built, and when: in a graph, and one at a time.

The stack of arg scopes belongs to tf_slim, and all threads share it: where two threads build at once, each takes
arguments from the scopes of the other. Every builder of ``nets`` therefore holds the lock of this module. What a
program opens itself is outside of it: threads that build under an ``arg_scope`` of their own must hold the lock too:

    with building(), slim.arg_scope(resnet_v2.resnet_arg_scope()):
        net, end_points = resnet_v2.resnet_v2_50(images, 1000, is_training=False)
"""

import contextlib
import threading
from collections.abc import Iterator

import tensorflow as tf

__all__ = ["building", "one_at_a_time", "require_graph"]

# A builder calls others, so that its thread may take the lock again.
_LOCK = threading.RLock()


@contextlib.contextmanager
def building() -> Iterator[None]:
    """Holds the lock under which networks are built, for the length of the block.

    Raises:
      ValueError: under eager execution, in which there is no graph to build in.
    """
    require_graph()
    with _LOCK:
        yield


@contextlib.contextmanager
def one_at_a_time() -> Iterator[None]:
    """Holds the lock of ``building``, with or without a graph: for arg scopes that are made and not built under."""
    with _LOCK:
        yield


def require_graph() -> None:
    """Raises ValueError under eager execution; in the body of a ``tf.function`` there is a graph."""
    if tf.executing_eagerly():
        raise ValueError(
            "A network needs a graph to be built in, and eager execution is on: build it and make its inputs in a "
            "tf.Graph(), inside of `with tf.Graph().as_default():`, or call tf.compat.v1.disable_eager_execution() "
            "at the start of the program."
        )
