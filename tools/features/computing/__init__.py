"""The engine that computes an extractor's features: which one, its model, and the proof that it is the same network."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np

from tools.engines import check_engine, installed
from tools.engines.models import Model
from tools.images import Inputs
from tools.images.reading import ImageStatus

__all__ = ["AUTO", "CALIBRATE", "MIN_COSINE", "TENSORFLOW", "EngineOptions", "Extractor", "FeatureBatch", "resolved"]

# The default engine, which is also the reference of all others; and the name that leaves the choice to us.
TENSORFLOW, AUTO = "tensorflow", "auto"

# Default number of images to calibrate with, and lower bound of the mean cosine of the lower precisions.
CALIBRATE, MIN_COSINE = 128, 0.99


class FeatureBatch(NamedTuple):
    """Features of some images, one row for each. The row of an image that could not be decoded is NaN."""

    statuses: list[ImageStatus]
    features: dict[str, np.ndarray]


class Extractor(Protocol):
    """An extractor as a job needs it: a ``FeatureExtractor``, or a ``StoredExtractor``; see there."""

    reader: Any
    net: str
    num_classes: int | None
    scope: str | None
    exclude: list[str]
    ema: bool
    options: dict[str, Any]
    end_points: Mapping[str, Any]
    preprocessing: str
    image_size: int
    pool: str
    precision: str
    engine: str
    engine_model: Model | None
    engine_rates: Mapping[str, float]
    batch_size: int
    warnings: tuple[str, ...]

    @property
    def shapes(self) -> dict[str, tuple[int | None, ...]]: ...

    def arithmetic(self, num_images: int) -> tuple[int, int]: ...

    def prepare(self, images: Any, *, before: tuple[str, str | None] | None = None) -> None: ...

    def batches(self, images: Inputs, rows: Sequence[int] | None = None) -> Iterator[FeatureBatch]: ...


class EngineOptions(NamedTuple):
    """The choice of an engine that an extractor was asked for.

    engine: 'tensorflow', a name in ``tools.engines.ENGINES``, or 'auto'.
    precision: of the features.
    calibrate: for int8, number of images to calibrate with.
    min_cosine: for the lower precisions, lower bound of the mean cosine of each end point.
    engine_dir: folder of the models.
    engine_model: folder of the model to load; None to find or make one.
    """

    engine: str
    precision: str
    calibrate: int
    min_cosine: float
    engine_dir: str | None
    engine_model: str | None


def resolved(engine: str, precision: str) -> str:
    """Returns the engine for a precision; 'auto' only if several can be timed, which are those of float32.

    Raises:
      ModuleNotFoundError: if a package that the engine requires is not installed.
      ValueError: for an unknown engine, or one that does not compute in the precision here.
    """
    if engine == AUTO and precision != "int8":
        from tools.runtime.sessions import has_gpu  # imports TensorFlow

        if has_gpu():
            return TENSORFLOW  # the others compute on the processor
    if engine == AUTO and precision != "float32":
        # TensorFlow has no int8. In bfloat16 it is slower than any engine that has it, and float16 is for its GPU.
        engine = next(iter(installed(precision)), "openvino" if precision == "int8" else TENSORFLOW)
    if engine == TENSORFLOW and precision == "int8":
        raise ValueError(
            "engine='tensorflow' does not compute in precision='int8': use engine='openvino' or 'onnxruntime'."
        )
    if engine in (TENSORFLOW, AUTO):
        return engine
    check_engine(engine, precision)
    return engine
