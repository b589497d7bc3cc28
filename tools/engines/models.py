"""Models that engines have made, each in a folder of its own that is kept between runs and is safe to delete.

| file | content |
|---|---|
| `engine.json` | the key, input and outputs, how well they agree with TensorFlow's, and the sha256 of the others |
| `model.xml`, `model.bin` or `model.onnx` | the network in the engine's own format |

The name of the folder is the digest of the key: all that determines the model.
"""

import dataclasses
import functools
import hashlib
import json
import os
import shutil
import tempfile
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np

from checkpoints.files.atomic import new_folder
from checkpoints.files.hashing import sha256_of
from tools.engines import engine_module, model_file
from tools.engines.tensors import TensorInfo
from tools.errors import InputError
from tools.runtime.processes import run_module

__all__ = ["Model", "digest_of", "find_model", "make_model", "models_folder", "open_model", "write_model"]

_VARIABLE = "SLIMNETS_ENGINES"

_RECORD = "engine.json"

# What ``making`` reads.
GRAPH, SPECIFICATION, CALIBRATION = "graph.pb", "specification.json", "calibration.npy"


@dataclasses.dataclass(frozen=True)
class Model:
    """A network that an engine can load.

    folder: folder of its files.
    engine: name of the engine.
    precision: precision that it is made for.
    key: digest of ``settings``.
    settings: all that determines it, as values of JSON.
    version: version of the engine that made it.
    images: the network's input.
    outputs: the end points, by the names that the extractor was asked for.
    agreements: how well each output agrees with TensorFlow's.
    """

    folder: Path
    engine: str
    precision: str
    key: str
    settings: dict[str, Any]
    version: str
    images: TensorInfo
    outputs: tuple[TensorInfo, ...]
    agreements: dict[str, dict[str, float | None]]

    def load(
        self, *, threads: int | None = None, batch: int | None = None
    ) -> Callable[[np.ndarray], dict[str, np.ndarray]]:
        """Loads it; see the ``load`` of an engine's module. Smaller batches than ``batch`` are filled up."""
        compute = engine_module(self.engine).load(
            model_file(self.engine, self.folder),
            self.images,
            self.outputs,
            precision=self.precision,
            threads=threads,
            batch=batch,
        )

        def filled(images: np.ndarray) -> dict[str, np.ndarray]:
            count = len(images)
            if batch is None or count == batch:
                return compute(images)
            images = np.concatenate([images, np.zeros([batch - count, *images.shape[1:]], images.dtype)])
            return {name: values[:count] for name, values in compute(images).items()}

        return filled

    def _save(self) -> None:
        record = dataclasses.asdict(self) | {
            "images": self.images._asdict(),
            "outputs": [output._asdict() for output in self.outputs],
            "files": {file.name: sha256_of([file]) for file in sorted(self.folder.iterdir())},
        }
        del record["folder"]
        (self.folder / _RECORD).write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")

    @classmethod
    def _read(cls, folder: Path) -> Self | None:
        """Returns the model in a folder; None if it is not as it was written."""
        try:
            record = json.loads((folder / _RECORD).read_text(encoding="utf-8"))
            files = record.pop("files")
            if any(sha256_of([folder / name]) != sha256 for name, sha256 in files.items()):
                return None
            if record["key"] != digest_of(record["settings"]):
                return None
            record["images"] = TensorInfo.of(record["images"])
            record["outputs"] = tuple(map(TensorInfo.of, record["outputs"]))
            return cls(folder=folder, **record)
        except (AttributeError, KeyError, OSError, TypeError, ValueError):
            return None


def models_folder(given: str | Path | None = None) -> Path:
    """Returns the given folder, else that of the variable SLIMNETS_ENGINES, else one in the user's cache."""
    if chosen := given or os.environ.get(_VARIABLE):
        return Path(chosen).expanduser()
    import pooch  # takes a tenth of a second

    return pooch.os_cache("slimnets") / "engines"


def digest_of(key: Mapping[str, Any]) -> str:
    """Returns the digest of all that determines a model, as values of JSON."""
    return hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()


def find_model(key: str, folder: Path) -> Model | None:
    """Returns the model of a key, or None.

    Warns:
      UserWarning: if there is one that is not as it was written. It is removed.
    """
    place = folder / key
    if not place.is_dir():
        return None
    model = Model._read(place)
    if model is not None and model.key == key:
        return model
    warnings.warn(f"The model in {place} is damaged, and is made again.", stacklevel=2)
    shutil.rmtree(place, ignore_errors=True)
    return None


def open_model(folder: str | Path) -> Model:
    """Returns the model in a folder.

    Raises:
      InputError: if there is none, or it is not as it was written.
    """
    model = Model._read(Path(folder))
    if model is None:
        raise InputError(
            f"{folder} holds no model of an engine, or a damaged one: share the folder that SLIMNETS_ENGINES names "
            "with all workers, or run the same command again."
        )
    return model


def make_model(
    settings: Mapping[str, Any],
    folder: Path,
    *,
    engine: str,
    precision: str,
    graph: bytes,
    images: TensorInfo,
    outputs: Sequence[TensorInfo],
    calibration: np.ndarray | None,
    prove: Callable[[Model], dict[str, dict[str, float | None]]],
) -> Model:
    """Makes a model in a process of its own, and keeps it if it is proved.

    Args:
      settings: all that determines it, as values of JSON.
      folder: of all models. If it cannot be written, the model lasts as long as this process.
      engine, precision: of the model.
      graph: serialized GraphDef with the weights as constants.
      images, outputs: of the graph.
      calibration: for int8, inputs of the network from which the ranges of activations are taken.
      prove: returns how well its outputs agree with TensorFlow's, or raises.

    Raises:
      InputError: if the engine cannot express the network.
    """
    folder, key = _writable(folder), digest_of(settings)
    made = None
    try:
        with new_folder(folder / key) as unfinished:
            write_model(unfinished, engine, precision, graph, images, outputs, calibration)
            version = engine_module(engine).version()
            made = Model(unfinished, engine, precision, key, dict(settings), version, images, tuple(outputs), {})
            made = dataclasses.replace(made, agreements=prove(made))
            made._save()
    except OSError:
        # Another process was faster.
        if made is None or not made.agreements or (found := find_model(key, folder)) is None:
            raise
        return found
    return dataclasses.replace(made, folder=folder / key)


def write_model(
    target: Path,
    engine: str,
    precision: str,
    graph: bytes,
    images: TensorInfo,
    outputs: Iterable[TensorInfo],
    calibration: np.ndarray | None,
) -> None:
    """Writes a model's files in a process of its own; see ``make_model``.

    Raises:
      InputError: if the engine cannot express the network.
    """
    with tempfile.TemporaryDirectory() as name:
        staged = Path(name)
        (staged / GRAPH).write_bytes(graph)
        specification = {
            "engine": engine,
            "dtype": "int8" if precision == "int8" else "float32",
            "images": images._asdict(),
            "outputs": [output._asdict() for output in outputs],
        }
        (staged / SPECIFICATION).write_text(json.dumps(specification), encoding="utf-8")
        if calibration is not None:
            np.save(staged / CALIBRATION, calibration)
        said = run_module("tools.engines.making", staged, target)
    if said is not None:
        raise InputError(f"{engine} cannot compute this network in {precision} ({said}): use engine='tensorflow'.")


def _writable(folder: Path) -> Path:
    """Returns the folder, or a temporary one if it cannot be written, which is said."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return folder
    except OSError as error:
        warnings.warn(
            f"Models of engines cannot be kept in {folder} ({error.strerror}): this one is made for this run only; "
            "SLIMNETS_ENGINES names another folder.",
            stacklevel=2,
        )
    return Path(_temporary_folder().name)


@functools.cache
def _temporary_folder() -> tempfile.TemporaryDirectory:
    """Returns a folder that is removed when this process ends."""
    return tempfile.TemporaryDirectory(prefix="slimnets-engines-")
