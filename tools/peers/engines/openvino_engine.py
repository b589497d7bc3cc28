"""OpenVINO on the processor, with the network that tf2onnx converts."""

import os

import numpy as np
import openvino

from tools.peers.onnx_export import onnx_file
from tools.peers.problem import Prepared, Problem

__all__ = ["prepare"]


def prepare(problem: Problem, name: str) -> Prepared:
    """Compiles a model of OpenVINO.

    Raises:
      PeerError: if the network cannot be converted.
    """
    config = {
        "PERFORMANCE_HINT": "LATENCY",
        # The default is bfloat16 on processors that have it.
        "INFERENCE_PRECISION_HINT": "f32",
        "INFERENCE_NUM_THREADS": problem.threads,
    }
    compiled = openvino.Core().compile_model(os.fspath(onnx_file(problem)), "CPU", config)
    request = compiled.create_infer_request()
    images = problem.images()
    request.set_input_tensor(openvino.Tensor(images, shared_memory=True))

    def step() -> np.ndarray:
        request.infer()
        return request.get_output_tensor().data

    return Prepared(step, step().copy(), openvino.__version__.partition("-")[0])
