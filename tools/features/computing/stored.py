"""An extractor without TensorFlow: what an earlier one found out about a checkpoint, and an engine's model.

The extractor that makes or finds a model writes a description of itself: what it read from the checkpoint, by which a
later process with the same arguments does without TensorFlow, whose import takes longer than all the rest. The
description counts only as long as the files of the checkpoint have the same content, and none came or went beside
them. Models are found, checked and loaded as ever.
"""

import functools
import hashlib
import json
import os
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from checkpoints.files.atomic import write_whole
from checkpoints.files.hashing import sha256_of
from tools.engines.models import Model, models_folder
from tools.features.computing import AUTO, TENSORFLOW, EngineOptions, FeatureBatch, resolved
from tools.features.computing.arithmetic import arithmetic
from tools.features.computing.preparing import Job, prepare
from tools.images import Inputs
from tools.images.batches import ArrayPipeline
from tools.images.fitting import FITTED
from tools.runtime.records import versions_of

if TYPE_CHECKING:
    from tools.features.extractor import FeatureExtractor

__all__ = ["NeedsTensorFlow", "StoredExtractor", "recall", "remember"]

# The folder of the descriptions, beside the models.
_DESCRIPTIONS = "extractors"

# The variable of the environment for the folder of the downloaded checkpoints, as in ``checkpoints.published.store``,
# which imports TensorFlow.
_STORE = "SLIMNETS_CHECKPOINTS"

# Arguments of an extractor that do not change its description.
_APART = ("threads", "freeze", "calibrate", "min_cosine", "engine_dir")

# Attributes of an extractor that its description takes over as they are, as values of JSON.
_FIELDS = (
    *("net", "num_classes", "scope", "exclude", "ema", "options", "preprocessing", "image_size", "assumed", "pool"),
    *("precision", "batch_size", "warnings"),
)


class NeedsTensorFlow(Exception):  # noqa: N818  # nothing is wrong: the caller makes a FeatureExtractor
    """Raised by ``StoredExtractor.prepare`` if a model must be made first."""


class _Checkpoint(NamedTuple):
    """A checkpoint, as the record of a job names it."""

    path: Path
    format: str
    hashes: dict[str, str]

    def sha256(self) -> dict[str, str]:
        return self.hashes


class _EndPoint(NamedTuple):
    name: str
    alias: str


def remember(extractor: "FeatureExtractor", arguments: Mapping[str, Any]) -> None:
    """Writes the description of an extractor whose engine is prepared, if it is one that can do without TensorFlow.

    Args:
      extractor: the extractor.
      arguments: the arguments that it was made with.
    """
    if extractor.engine_model is None or extractor.engine_key is None or extractor.preprocessing not in FITTED:
        return
    place, prefix = _place(arguments), extractor.reader.prefix.resolve()
    if place is None or extractor.input_shape[-1] != len("RGB"):
        return
    given = Path(arguments["checkpoint"])
    # One of the files of a checkpoint may have been given, and its notes have another name.
    if _beside(given) and given.resolve() != prefix:
        return
    described = {name: getattr(extractor, name) for name in _FIELDS} | {
        "end_points": {name: [point.name, point.alias] for name, point in extractor.end_points.items()},
        "shapes": extractor.shapes,
        "report": str(extractor.report),
        "path": str(extractor.reader.path.resolve()),
        "prefix": str(prefix),
        "format": extractor.reader.format,
        "hashes": extractor.reader.sha256(),
        "beside": _beside(prefix),
        "engine_key": extractor.engine_key,
    }
    text = json.dumps(described)
    with suppress(OSError):  # that models cannot be kept was said before
        place.parent.mkdir(parents=True, exist_ok=True)
        write_whole(place, json.dumps({"sha256": _digest(text), "described": text}).encode())


def recall(arguments: Mapping[str, Any]) -> "StoredExtractor | None":
    """Returns the extractor that these arguments of ``FeatureExtractor`` once made; None if that takes TensorFlow.

    Warns:
      UserWarning: as the extractor did, if its features are doubtful.
    """
    place = _place(arguments)
    if place is None:
        return None
    try:
        stored = json.loads(place.read_text(encoding="utf-8"))
        if _digest(stored["described"]) != stored["sha256"]:
            return None
        described = json.loads(stored["described"])
        prefix = Path(described["prefix"])
        if described["beside"] != _beside(prefix):
            return None
        files = [prefix.parent / name for name in described["hashes"]]
        with ThreadPoolExecutor() as pool:
            if [*pool.map(lambda file: sha256_of([file]), files)] != [*described["hashes"].values()]:
                return None
    except (KeyError, OSError, TypeError, ValueError):
        return None
    for sentence in described["warnings"]:
        warnings.warn(sentence, stacklevel=2)
    return StoredExtractor(described, arguments)


def _place(arguments: Mapping[str, Any]) -> Path | None:
    """Returns the file of a description; None for arguments with which there is none."""
    checkpoint = arguments["checkpoint"]
    if arguments["engine"] in (TENSORFLOW, AUTO) or arguments.get("engine_model") is not None:
        return None
    # In a folder, the newest checkpoint counts.
    if not isinstance(checkpoint, str | Path) or Path(checkpoint).is_dir():
        return None
    asked = {name: value for name, value in arguments.items() if name not in _APART}
    asked["versions"] = versions_of("slimnets", "tf-slim", "numpy")
    if _beside(Path(checkpoint)):
        asked["checkpoint"] = str(Path(checkpoint).resolve())
    else:  # a key of the catalog
        asked["store"] = os.environ.get(_STORE)
    try:
        digest = _digest(json.dumps(asked, sort_keys=True))
    except TypeError:  # a function as the network
        return None
    return models_folder(arguments.get("engine_dir")) / _DESCRIPTIONS / f"{digest}.json"


def _beside(checkpoint: Path) -> dict[str, str | None]:
    """Returns the files whose names begin with that of a checkpoint, and the content of the notes among them."""
    with suppress(OSError):
        files = sorted(file for file in checkpoint.parent.iterdir() if file.name.startswith(checkpoint.name))
        return {file.name: sha256_of([file]) if file.suffix == ".json" else None for file in files}
    return {}


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


class StoredExtractor(AbstractContextManager):
    """Computes the features that the ``FeatureExtractor`` of the same arguments computes, to the bit.

    Its attributes are those of that extractor.
    """

    def __init__(self, described: Mapping[str, Any], arguments: Mapping[str, Any]) -> None:
        for name in _FIELDS:
            setattr(self, name, described[name])
        self.assumed, self.warnings = tuple(described["assumed"]), tuple(described["warnings"])
        self.report: str = described["report"]
        self.end_points = {name: _EndPoint(*point) for name, point in described["end_points"].items()}
        self.shapes = {name: tuple(shape) for name, shape in described["shapes"].items()}
        self.reader = _Checkpoint(Path(described["path"]), described["format"], described["hashes"])
        self.threads: int | None = arguments.get("threads")
        self.engine = resolved(arguments["engine"], self.precision)
        self.engine_model: Model | None = None
        self.engine_rates: Mapping[str, float] = {}
        self._engine_key = described["engine_key"]
        self._arguments = arguments
        self._pipeline = ArrayPipeline(self.preprocessing, self.image_size, self.threads)

    def prepare(self, images: Inputs, *, before: tuple[str, str | None] | None = None) -> None:
        """Finds the model for a job; see ``FeatureExtractor.prepare``.

        Raises:
          NeedsTensorFlow: if it is not there.
        """
        if self.engine_model is not None:
            return
        engine, key = before or (self.engine, None)
        job = Job(
            num_images=len(images),
            batch_size=self.batch_size,
            threads=self.threads,
            key=self._engine_key,
            inputs=functools.partial(self._inputs, images),
            reference=_refuse,
            frozen=_refuse,
            optimized=_refuse,
            model_before=key if engine == self.engine else None,
        )
        options = {name: self._arguments[name] for name in ("calibrate", "min_cosine", "engine_dir")}
        asked = EngineOptions(self.engine, self.precision, engine_model=None, **options)
        self.engine_model, self.engine_rates = prepare(job, asked)

    def _inputs(self, images: Inputs, rows: Sequence[int]) -> np.ndarray:
        """Returns the network's input for rows of a job; images that cannot be decoded are left out."""
        found = []
        size = min(self.batch_size, len(images))
        for statuses, batch in self._pipeline.batches(images, rows, size, lambda batch: {"": batch.copy()}):
            found.append(batch[""][[row for row, status in enumerate(statuses) if status.error is None]])
        return np.concatenate(found)

    def arithmetic(self, num_images: int) -> tuple[int, int]:
        """Returns what determines the last bits of its rows; see ``computing.arithmetic``."""
        return arithmetic(num_images, self.batch_size, self.precision, False, self.engine)

    def batches(self, images: Inputs, rows: Sequence[int] | None = None) -> Iterator[FeatureBatch]:
        """Yields the features of images, a batch at a time; see ``FeatureExtractor.batches``."""
        size = min(self.batch_size, len(images))
        rows = range(len(images)) if rows is None else rows
        for computed in self._pipeline.batches(images, rows, size, self._load(size)):
            yield FeatureBatch(*computed)

    @functools.lru_cache(maxsize=1)  # noqa: B019  # ends with the process, as its extractor does
    def _load(self, size: int) -> Callable[[np.ndarray], dict[str, np.ndarray]]:
        return self.engine_model.load(threads=self.threads, batch=size)

    def close(self) -> None:
        """Does nothing: it is there because a ``FeatureExtractor`` has a session to close."""

    def __exit__(self, *error: object) -> None:
        self.close()


def _refuse(*_: object) -> Any:
    raise NeedsTensorFlow
