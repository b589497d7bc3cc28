"""The table of the engines that can compute the same network.

Nothing here imports an engine or TensorFlow, so that listing the engines takes no time.
"""

import importlib.util
from typing import NamedTuple

from tools.engines import ENGINES as MODELS
from tools.engines import required_packages
from tools.errors import PeerError

__all__ = ["ENGINES", "OURS", "Engine", "get_engine", "missing_packages", "precision_of"]

OURS = "slimnets"


class Engine(NamedTuple):
    """One engine.

    name: name of the engine.
    module: module in ``tools.peers.engines`` with ``prepare(problem, name) -> Prepared``; only the engine's own process
      imports it.
    packages: packages that it requires.
    what: one line that describes it.
    precisions: precisions that it can be compared in; the name of a lower one follows the engine's, 'openvino:int8'.
    """

    name: str
    module: str
    packages: tuple[str, ...]
    what: str
    precisions: tuple[str, ...] = ("float32",)


ENGINES: dict[str, Engine] = {
    engine.name: engine
    for engine in (
        Engine(OURS, "slimnets_engine", ("tensorflow", "tf_slim"), "this project's own session, weights as constants"),
        Engine("slim", "slim_engine", ("tensorflow", "tf_slim"), "tf_slim's own graph in a session, with variables"),
        Engine("keras", "keras_engine", ("tensorflow", "keras"), "Keras' layers, called by a tf.function"),
        Engine("torch", "torch_engine", ("tensorflow", "torch"), "PyTorch's layers, channels last, in inference mode"),
        Engine("torch-compile", "torch_engine", ("tensorflow", "torch"), "the same through torch.compile"),
        Engine(
            "onnxruntime",
            "model_engine",
            required_packages("onnxruntime"),
            "ONNX Runtime on the processor, graph converted by tf2onnx",
            MODELS["onnxruntime"].precisions,
        ),
        Engine(
            "openvino",
            "model_engine",
            required_packages("openvino"),
            "OpenVINO on the processor, which reads TensorFlow's graph",
            MODELS["openvino"].precisions,
        ),
    )
}


def get_engine(name: str) -> Engine:
    """Returns the engine with this name, which may end in a precision, 'openvino:int8'.

    Raises:
      PeerError: for an unknown name, or a precision that the engine does not have.
    """
    engine, _, precision = name.partition(":")
    if engine not in ENGINES:
        raise PeerError(f"Engine unknown: {name!r}; the engines are {', '.join(ENGINES)}.")
    if precision and precision not in ENGINES[engine].precisions:
        raise PeerError(f"{engine} is compared in {' and '.join(ENGINES[engine].precisions)}, and not in {precision}.")
    return ENGINES[engine]


def precision_of(name: str) -> str:
    """Returns the precision in an engine's name: 'int8' of 'openvino:int8'."""
    return name.partition(":")[2] or "float32"


def missing_packages(name: str) -> list[str]:
    """Returns the packages that the engine requires and that are not installed.

    Raises:
      PeerError: for an unknown name.
    """
    return [package for package in get_engine(name).packages if importlib.util.find_spec(package) is None]
