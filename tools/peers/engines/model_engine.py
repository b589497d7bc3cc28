"""The engines that can compute an extractor's features too: OpenVINO and ONNX Runtime, each with a model of its own."""

import numpy as np

from tools.engines import check_engine, engine_module, model_file
from tools.engines.models import write_model
from tools.engines.tensors import TensorInfo
from tools.errors import InputError, PeerError
from tools.peers import get_engine, precision_of
from tools.peers.problem import Prepared, Problem

__all__ = ["prepare"]


def prepare(problem: Problem, name: str) -> Prepared:
    """Makes and loads a model. For int8, the problem's own images calibrate it.

    Raises:
      PeerError: if the network cannot be converted, or the engine does not compute in the precision here.
    """
    engine, precision = get_engine(name).name, precision_of(name)
    images = problem.images()
    folder = problem.folder / name.replace(":", "-")
    tensors = (
        TensorInfo("images", problem.images_name, "float32", images.shape),
        [TensorInfo("output", problem.output_name, "float32", ())],
    )
    try:
        check_engine(engine, precision)
        folder.mkdir()
        calibration = images if precision == "int8" else None
        write_model(folder, engine, precision, problem.graph_file.read_bytes(), *tensors, calibration)
    except (InputError, ModuleNotFoundError, ValueError) as error:
        raise PeerError(str(error)) from error
    module = engine_module(engine)
    compute = module.load(
        model_file(engine, folder), *tensors, precision=precision, threads=problem.threads, batch=len(images)
    )

    def step() -> np.ndarray:
        return compute(images)["output"]

    return Prepared(step, step(), module.version())
