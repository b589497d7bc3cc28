"""This project's own engine: ``tools.runtime.freezing`` and ``tools.runtime.sessions`` run the frozen graph."""

import numpy as np

from tools.peers.problem import Prepared, Problem
from tools.runtime.importing import import_tensorflow

import_tensorflow()

import tensorflow as tf  # noqa: E402

from tools.runtime.freezing import import_frozen, worth_splitting  # noqa: E402
from tools.runtime.on_device import load_images, resident_images  # noqa: E402
from tools.runtime.sessions import open_session, session_config  # noqa: E402

__all__ = ["prepare"]

v1 = tf.compat.v1


def prepare(problem: Problem, name: str) -> Prepared:
    """Opens a session of the frozen graph.

    Raises:
      ValueError: if TensorFlow does not compute in the problem's precision on this machine.
    """
    images = problem.images()
    config = session_config(problem.precision, frozen=True, threads=problem.threads)
    with tf.Graph().as_default() as graph:
        resident = resident_images(images.shape)
        (output,) = import_frozen(
            problem.graph_def(),
            {problem.images_name: resident.read_value()},
            [problem.output_name],
            split=worth_splitting(len(images), problem.threads),
        )
    session = open_session(graph, config)
    load_images(session, resident, images)

    def step() -> np.ndarray:
        return session.run(output)

    return Prepared(step, step(), f"TensorFlow {tf.__version__}")
