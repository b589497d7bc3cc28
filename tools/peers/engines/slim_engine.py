"""tf_slim's own network in a session with variables, as in its users' scripts."""

import importlib.metadata

import numpy as np

from tools.errors import PeerError
from tools.peers.problem import Prepared, Problem
from tools.runtime.importing import import_tensorflow

import_tensorflow()

import tensorflow as tf  # noqa: E402
import tf_slim as slim  # noqa: E402

from tools.peers.slim_reference import tf_slim_builder, tf_slim_scope  # noqa: E402
from tools.runtime.on_device import load_images, resident_images  # noqa: E402
from tools.runtime.sessions import assign  # noqa: E402

__all__ = ["prepare"]

v1 = tf.compat.v1

_NETWORKS = ("resnet_v1_", "resnet_v2_", "alexnet_v2", "overfeat", "vgg_", "inception_")


def prepare(problem: Problem, name: str) -> Prepared:
    """Opens a session of tf_slim's own network.

    Raises:
      PeerError: if tf_slim does not have the network, or has a different one with its name.
    """
    if not problem.net.startswith(_NETWORKS):
        raise PeerError(
            f"tf_slim has no {problem.net}: it has only resnet_v1_*, resnet_v2_*, alexnet_v2, overfeat, vgg_a, vgg_16, "
            "vgg_19 and inception_v1 to v3."
        )
    images = problem.images()
    with tf.Graph().as_default() as graph:
        resident = resident_images(images.shape)
        with tf_slim_scope(net=problem.net):
            logits, _ = tf_slim_builder(problem.net)(resident.read_value(), problem.num_classes, is_training=False)
        output = _output(graph, problem, logits)
        variables = slim.get_model_variables()
    config = v1.ConfigProto(intra_op_parallelism_threads=problem.threads, inter_op_parallelism_threads=problem.threads)
    session = v1.Session(graph=graph, config=config)
    load_images(session, resident, images)
    weights = problem.weights()
    _check(variables, weights)
    assign(session, variables, weights)

    def step() -> np.ndarray:
        return session.run(output)

    return Prepared(step, step(), f"{importlib.metadata.version('tf-slim')}, TensorFlow {tf.__version__}")


def _output(graph: tf.Graph, problem: Problem, logits: tf.Tensor) -> tf.Tensor:
    """Returns tf_slim's tensor of the same name. Its logits are not squeezed, but have the same values.

    Where its dict has no predictions, they are the softmax of its logits.
    """
    name = problem.output_name
    if problem.net.startswith("resnet"):
        name = name.replace("/SpatialSqueeze:", "/logits/BiasAdd:")
    if name.endswith("/predictions:0"):
        return tf.nn.softmax(logits)
    try:
        return graph.get_tensor_by_name(name)
    except KeyError as error:
        raise PeerError(
            f"tf_slim's {problem.net} has no {name}: compare 'logits', 'predictions' or one of tf_slim's end points."
        ) from error


def _check(variables: list[tf.Variable], values: dict[str, np.ndarray]) -> None:
    """Raises PeerError for a variable without a value, or with a value of another shape."""
    for variable in variables:
        found = values.get(variable.op.name)
        if found is None or list(found.shape) != variable.shape.as_list():
            stored = "nothing" if found is None else f"{list(found.shape)}"
            raise PeerError(
                f"tf_slim's {variable.op.name} has the shape {variable.shape.as_list()}, but the problem has {stored}: "
                "compare a network built with tf_slim's defaults."
            )
