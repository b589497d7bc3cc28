"""ONNX Runtime on the processor, with the network that tf2onnx converts."""

import os

import numpy as np
import onnxruntime

from tools.peers.onnx_export import onnx_file
from tools.peers.problem import Prepared, Problem

__all__ = ["prepare"]


def prepare(problem: Problem, name: str) -> Prepared:
    """Opens a session of ONNX Runtime.

    Raises:
      PeerError: if the network cannot be converted.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = problem.threads
    session = onnxruntime.InferenceSession(os.fspath(onnx_file(problem)), options, providers=["CPUExecutionProvider"])
    feeds = {session.get_inputs()[0].name: problem.images()}

    def step() -> np.ndarray:
        return session.run(None, feeds)[0]

    return Prepared(step, step(), onnxruntime.__version__)
