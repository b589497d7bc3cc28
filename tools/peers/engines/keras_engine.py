"""The network in Keras' layers, called by a ``tf.function``: Keras' fastest way without special settings."""

import numpy as np

from tools.errors import PeerError
from tools.peers.problem import Prepared, Problem
from tools.runtime.importing import import_tensorflow

import_tensorflow()

import keras  # noqa: E402
import tensorflow as tf  # noqa: E402

from tools.peers.keras_model import build_model  # noqa: E402
from tools.peers.layer_list import layers_of  # noqa: E402

__all__ = ["prepare"]


def prepare(problem: Problem, name: str) -> Prepared:
    """Builds the network in Keras, on TensorFlow's devices.

    Raises:
      PeerError: if Keras uses another backend, or a layer of the network is not translated.
    """
    if keras.backend.backend() != "tensorflow":
        raise PeerError(
            f"Keras uses {keras.backend.backend()}, but is compared on TensorFlow: set KERAS_BACKEND=tensorflow."
        )
    tf.config.threading.set_intra_op_parallelism_threads(problem.threads)
    tf.config.threading.set_inter_op_parallelism_threads(problem.threads)
    model = build_model(*layers_of(problem.graph_def(), problem.images_name, [problem.output_name]))
    images = tf.constant(problem.images())
    # The images are an argument, so that the function cannot compute with them when it is traced.
    compute = tf.function(lambda given: model(given, training=False))

    def step() -> np.ndarray:
        return compute(images)[problem.output_name].numpy()

    return Prepared(step, step(), f"{keras.__version__}, TensorFlow {tf.__version__}")
