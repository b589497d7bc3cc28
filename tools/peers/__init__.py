"""The table of the engines that can compute the same network.

Nothing here imports an engine or TensorFlow, so that listing the engines takes no time.
"""

import importlib.util
from typing import NamedTuple

from tools.errors import PeerError

__all__ = ["ENGINES", "OURS", "Engine", "get_engine", "missing_packages"]

OURS = "slimnets"


class Engine(NamedTuple):
    """One engine.

    name: name of the engine.
    module: module in ``tools.peers.engines`` with ``prepare(problem, name) -> Prepared``; only the engine's own process
      imports it.
    packages: packages that it requires.
    what: one line that describes it.
    """

    name: str
    module: str
    packages: tuple[str, ...]
    what: str


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
            "onnx_engine",
            ("tensorflow", "onnx", "onnxruntime", "tf2onnx"),
            "ONNX Runtime on the processor, graph converted by tf2onnx",
        ),
        Engine(
            "openvino",
            "openvino_engine",
            ("tensorflow", "onnx", "openvino", "tf2onnx"),
            "OpenVINO on the processor, from the same ONNX file",
        ),
    )
}


def get_engine(name: str) -> Engine:
    """Returns the engine with this name.

    Raises:
      PeerError: for an unknown name.
    """
    if name not in ENGINES:
        raise PeerError(f"Engine unknown: {name!r}; the engines are {', '.join(ENGINES)}.")
    return ENGINES[name]


def missing_packages(name: str) -> list[str]:
    """Returns the packages that the engine requires and that are not installed.

    Raises:
      PeerError: for an unknown name.
    """
    return [package for package in get_engine(name).packages if importlib.util.find_spec(package) is None]
