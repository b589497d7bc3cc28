"""The lock under which networks are built one at a time, and the check that there is a graph.

All threads share tf_slim's stack of arg scopes: if two threads build at once, each takes arguments from the scopes of
the other. Every builder of ``nets`` therefore holds the lock of this module. Threads that build under an ``arg_scope``
of their own must hold the lock too:

    with building(), slim.arg_scope(resnet_v2.resnet_arg_scope()):
        net, end_points = resnet_v2.resnet_v2_50(images, 1000, is_training=False)
"""

import contextlib
import threading
from collections.abc import Iterator

import tensorflow as tf

__all__ = ["building", "one_at_a_time", "require_graph"]

v1 = tf.compat.v1

# Reentrant, since builders call each other.
_LOCK = threading.RLock()


@contextlib.contextmanager
def building() -> Iterator[None]:
    """Holds the lock under which networks are built.

    Raises:
      ValueError: under eager execution, which has no graph to build in.
    """
    require_graph()
    with _LOCK, _reusing_in_functions():
        yield


@contextlib.contextmanager
def one_at_a_time() -> Iterator[None]:
    """Holds the lock of ``building`` without requiring a graph, for code that only creates arg scopes."""
    with _LOCK:
        yield


@contextlib.contextmanager
def _reusing_in_functions() -> Iterator[None]:
    """Lets each tracing of a ``tf.function`` under eager execution find the variables that the first one created."""
    if not v1.get_default_graph().building_function:
        yield
        return
    with tf.init_scope():
        is_eager = tf.executing_eagerly()
    scope = v1.get_variable_scope()
    with v1.variable_scope(scope, reuse=v1.AUTO_REUSE if is_eager else None, auxiliary_name_scope=False):
        yield


def require_graph() -> None:
    """Raises ValueError under eager execution; the body of a ``tf.function`` has a graph."""
    if tf.executing_eagerly():
        raise ValueError(
            "A network needs a graph to build in, and eager execution is on: create the network and its inputs in a "
            "tf.Graph(), inside of `with tf.Graph().as_default():`, or call tf.compat.v1.disable_eager_execution() "
            "at the start of the program."
        )
