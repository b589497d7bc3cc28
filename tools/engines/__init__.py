"""The engines other than TensorFlow that can compute a network's features: a table, and a model's way into them.

An engine's model is made once from the frozen network, in a process of its own (``making``), kept in a folder
(``models``), and loaded by the engine alone. Nothing here imports an engine or TensorFlow, so that listing them takes
no time.

One engine a file, with four functions::

    version() -> str
    precisions() -> set[str]    # in which it computes on this processor
    write(graph: Path, images, outputs, target: Path, *, dtype="float32", calibration=(), unquantized=None) -> None
    load(target: Path, images, outputs, *, precision="float32", threads=None, batch=None) -> Callable

``write`` converts a file with a frozen GraphDef, whose input and outputs are ``TensorInfo``. For the dtype 'int8' it
takes the ranges of activations from ``calibration``, batches of the input, and leaves those operations as they are
whose names begin with ``unquantized``. ``load`` returns a function from a batch of the input to arrays by the names
of the outputs. Its ``precision`` is that of what is not int8, or 'int8'; ``threads`` None is one for each core; and
``batch`` is the number of images in every batch, None for as many as the file takes.
"""

import importlib
import importlib.util
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

__all__ = ["ENGINES", "Engine", "check_engine", "engine_module", "installed", "model_file", "required_packages"]


class Engine(NamedTuple):
    """One engine.

    name: name of the engine.
    module: module in ``tools.engines``, see above.
    packages: packages that computing requires.
    making: packages that are required besides, to make a model.
    quantizing: packages that are required besides, to make a model with int8.
    extra: extra of the installation that holds all of them.
    precisions: precisions that it computes in.
    file: name of the model's file that ``load`` takes.
    """

    name: str
    module: str
    packages: tuple[str, ...]
    making: tuple[str, ...]
    quantizing: tuple[str, ...]
    extra: str
    precisions: tuple[str, ...]
    file: str


ENGINES: dict[str, Engine] = {
    engine.name: engine
    for engine in (
        Engine(
            name="openvino",
            module="openvino_engine",
            packages=("openvino",),
            making=(),
            quantizing=("nncf",),
            extra="openvino",
            precisions=("float32", "bfloat16", "int8"),
            file="model.xml",
        ),
        Engine(
            name="onnxruntime",
            module="onnx_engine",
            packages=("onnxruntime",),
            making=("onnx", "tf2onnx"),
            quantizing=(),
            extra="onnx",
            precisions=("float32", "int8"),
            file="model.onnx",
        ),
    )
}


def check_engine(name: str, precision: str) -> Engine:
    """Returns the engine of this name.

    Raises:
      ModuleNotFoundError: if a package that it requires is not installed; it names the extra.
      ValueError: for an unknown engine, or a precision that it, or this processor, does not compute in.
    """
    if name not in ENGINES:
        raise ValueError(f"engine must be one of tensorflow, {', '.join(ENGINES)}, auto, but is {name!r}.")
    engine = ENGINES[name]
    if precision not in engine.precisions:
        others = " or ".join(map(repr, engine.precisions))
        raise ValueError(f"engine={name!r} does not compute in precision={precision!r}: use {others}.")
    if missing := _missing(engine, precision):
        raise ModuleNotFoundError(
            f"engine={name!r} requires {', '.join(missing)}: pip install 'slimnets[{engine.extra}]'.", name=missing[0]
        )
    if precision not in engine_module(name).precisions():
        raise ValueError(
            f"engine={name!r} does not compute in precision={precision!r} on this processor: use float32 or int8."
        )
    return engine


def installed(precision: str) -> list[str]:
    """Returns the names of the engines that can compute in a precision here."""
    return [
        name
        for name, engine in ENGINES.items()
        if precision in engine.precisions
        and not _missing(engine, precision)
        and precision in engine_module(name).precisions()
    ]


def required_packages(name: str, precision: str = "float32") -> tuple[str, ...]:
    """Returns the packages that making and computing a model require."""
    engine = ENGINES[name]
    return engine.packages + engine.making + (engine.quantizing if precision == "int8" else ())


def _missing(engine: Engine, precision: str) -> list[str]:
    return [name for name in required_packages(engine.name, precision) if importlib.util.find_spec(name) is None]


def engine_module(name: str) -> ModuleType:
    """Imports the module of an engine, and the engine with it."""
    return importlib.import_module(f"tools.engines.{ENGINES[name].module}")


def model_file(name: str, folder: Path) -> Path:
    """Returns the path of the file that an engine loads."""
    return folder / ENGINES[name].file
