"""Prepares the engine of an extractor for a job: chooses it, makes or finds its model, and proves it.

TensorFlow is the reference. A model is proved when it is made, on images of the job: in float32 all values must agree,
and in the lower precisions the directions of the features.
"""

import hashlib
import json
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from tools.engines import engine_module, installed
from tools.engines.models import Model, digest_of, find_model, make_model, models_folder, open_model
from tools.errors import InputError
from tools.features.computing import AUTO, TENSORFLOW, EngineOptions
from tools.images.inputs import spread_rows
from tools.runtime.agreement import mean_cosine, relative_difference, same_top_class

__all__ = ["Job", "Prepared", "prepare"]

# Upper bound of the largest difference in an output in float32, relative to its largest value.
_TOLERANCE = 1e-4

# Images on which int8 is proved, and the smallest number of images to calibrate and to prove with.
_PROVE, _LEAST = 64, 64

# Images on which the other precisions are proved.
_BATCH = 32

# The smallest number of images for which engines are timed: making their models takes half a minute.
_WORTH_TIMING = 4000

# Seconds for which each engine is timed, and of a turn.
_SECONDS, _TURN = 1.5, 0.3


class Job(NamedTuple):
    """The images that an extractor is about to compute, and the ways to compute them in TensorFlow.

    num_images: number of images.
    batch_size: number of images in every batch.
    threads: number of threads; None for one for each core.
    key: all that determines the network and its end points, as values of JSON; None if a function builds it.
    inputs: returns the network's input for rows of the job. Images that cannot be decoded are left out.
    reference: returns it with the features in TensorFlow, by name.
    frozen: returns the network with its weights as constants, as ``make_model`` takes it: graph, images and outputs.
    optimized: returns a function that computes features in TensorFlow as fast as it can.
    model_before: key of the model of an earlier part of the job; None for none.
    """

    num_images: int
    batch_size: int
    threads: int | None
    key: Mapping[str, Any] | None
    inputs: Callable[[Sequence[int]], np.ndarray]
    reference: Callable[[Sequence[int]], tuple[np.ndarray, dict[str, np.ndarray]]]
    frozen: Callable[[], dict[str, Any]]
    optimized: Callable[[], Callable[[np.ndarray], dict[str, np.ndarray]]]
    model_before: str | None = None


class Prepared(NamedTuple):
    """An engine that is ready for a job.

    model: its model; None for TensorFlow.
    rates: images/s of each engine that was timed; empty if none was.
    """

    model: Model | None
    rates: dict[str, float]


def prepare(job: Job, options: EngineOptions) -> Prepared:
    """Prepares the engine.

    Raises:
      InputError: if the images do not suffice for int8, or the model does not compute the network's features.
    """
    if options.engine_model is not None:
        return Prepared(_given(job, options), {})
    if options.engine != AUTO:
        return Prepared(_model(job, options), {})
    others = installed(options.precision)
    if job.num_images < _WORTH_TIMING or not others:
        return Prepared(None, {})
    models = {name: _model(job, options._replace(engine=name)) for name in others}
    size = min(job.batch_size, job.num_images)
    images = job.inputs(spread_rows(job.num_images, size))
    if not len(images):
        return Prepared(None, {})
    images = np.resize(images, [size, *images.shape[1:]])
    computing = {name: model.load(threads=job.threads, batch=size) for name, model in models.items()}
    seconds = _timed({TENSORFLOW: job.optimized(), **computing}, images)
    chosen = min(seconds, key=seconds.get)
    return Prepared(models.get(chosen), {name: size / each for name, each in seconds.items()})


def _timed(engines: Mapping[str, Callable[[np.ndarray], object]], images: np.ndarray) -> dict[str, float]:
    """Returns the median of the seconds that each engine takes for a batch; they take turns of several batches.

    The first batch of a turn does not count: an engine's threads are busy for a while after its last one, as they
    expect the next.
    """
    durations: dict[str, list[float]] = {name: [] for name in engines}
    for compute in engines.values():
        compute(images)
    while min(map(sum, durations.values())) < _SECONDS:
        for name, compute in engines.items():
            compute(images)
            turn = [_seconds(compute, images)]
            while sum(turn) < _TURN:
                turn.append(_seconds(compute, images))
            durations[name] += turn
    return {name: statistics.median(each) for name, each in durations.items()}


def _seconds(compute: Callable[[np.ndarray], object], images: np.ndarray) -> float:
    start = time.perf_counter()
    compute(images)
    return time.perf_counter() - start


def _key(job: Job, options: EngineOptions) -> dict[str, Any]:
    """Returns all that determines a model, but for the images of int8 and a network that a function builds."""
    return dict(job.key or {}) | {
        "engine": options.engine,
        "version": engine_module(options.engine).version(),
        "precision": options.precision,
    }


def _given(job: Job, options: EngineOptions) -> Model:
    """Returns the model that was given. Raises InputError if it is damaged, or not the one of these arguments."""
    model = open_model(options.engine_model)
    wanted = json.loads(json.dumps(_key(job, options)))
    differing = [name for name, value in wanted.items() if model.settings.get(name) != value]
    if differing:
        raise InputError(
            f"engine_model={str(options.engine_model)!r} was made for another {differing[0]}: omit it, or give the "
            "same arguments as then."
        )
    return model


def _model(job: Job, options: EngineOptions) -> Model:
    """Finds or makes the model of an engine."""
    folder = models_folder(options.engine_dir)
    key = _key(job, options)
    calibration = None
    prove_on = spread_rows(job.num_images, _BATCH)
    if options.precision == "int8":
        # The rest of a job must not be calibrated on other images than its first part.
        if job.model_before is not None and (found := find_model(job.model_before, folder)) is not None:
            return found
        calibrate_on, prove_on = _parts(job.num_images, options.calibrate)
        calibration = job.inputs(calibrate_on)
        _check_images(calibration)
        key["calibration"] = hashlib.sha256(calibration).hexdigest()
    frozen = None
    if job.key is None:
        frozen = job.frozen()
        key["graph"] = hashlib.sha256(frozen["graph"]).hexdigest()
    if (found := find_model(digest_of(key), folder)) is not None:
        _check_bound(found.engine, found.agreements, options)
        return found
    frozen = frozen or job.frozen()

    def prove(model: Model) -> dict[str, dict[str, float | None]]:
        images, expected = job.reference(prove_on)
        if not len(images):
            raise InputError(
                f"{options.engine} cannot be checked on images of the job, as none of those that were tried can be "
                "decoded: use engine='tensorflow'."
            )
        if options.precision == "int8" and len(images) + len(calibration) < _LEAST:
            raise _too_few(len(images) + len(calibration))
        # Batches of the size that the job has, since an engine may compute others in another way.
        size = min(job.batch_size, job.num_images)
        agreements = _agreements(model.load(threads=job.threads, batch=size), images, expected, size)
        _check_bound(model.engine, agreements, options)
        return agreements

    return make_model(
        key,
        folder,
        engine=options.engine,
        precision=options.precision,
        **frozen,
        calibration=calibration,
        prove=prove,
    )


def _parts(num_images: int, calibrate: int) -> tuple[list[int], list[int]]:
    """Returns the rows to calibrate with, and others to prove with; both are spread over the job."""
    if num_images < _LEAST:
        raise _too_few(num_images)
    rows = spread_rows(num_images, calibrate + _PROVE)
    step = max(2, -(-len(rows) // min(_PROVE, len(rows) // 3)))
    return [row for place, row in enumerate(rows) if place % step], rows[::step]


def _too_few(count: int) -> InputError:
    return InputError(
        f"precision='int8' requires at least {_LEAST} images of the job to calibrate with and to check on, but there "
        f"are {count}: use float32 or bfloat16."
    )


def _check_images(images: np.ndarray) -> None:
    """Raises InputError for images from which no ranges can be taken."""
    if not len(images):
        raise _too_few(0)
    if (images == images[0]).all():
        raise InputError(
            "precision='int8' takes the ranges of values from images of the job, and these are all the same: use "
            "float32 or bfloat16."
        )


def _agreements(
    compute: Callable[[np.ndarray], dict[str, np.ndarray]],
    images: np.ndarray,
    expected: Mapping[str, np.ndarray],
    batch_size: int,
) -> dict[str, dict[str, float | None]]:
    """Returns how well each output agrees with TensorFlow's."""
    batches = [compute(images[start : start + batch_size]) for start in range(0, len(images), batch_size)]
    found = {}
    for name, wanted in expected.items():
        result = np.concatenate([batch[name] for batch in batches])
        if result.shape != wanted.shape:
            raise InputError(f"The engine's {name} has shape {list(result.shape)} and not {list(wanted.shape)}.")
        found[name] = {
            "difference": relative_difference(result.astype(np.float64), wanted),
            "cosine": mean_cosine(result, wanted) if len(result) > 1 else None,
            "top_1": same_top_class(result, wanted) if name.endswith(("logits", "predictions")) else None,
        }
    return found


def _check_bound(engine: str, agreements: Mapping[str, Mapping[str, float | None]], options: EngineOptions) -> None:
    """Raises InputError if an output agrees less than it must. Written so that what is not a number does not pass."""
    for name, one in agreements.items():
        if options.precision == "float32":
            if not one["difference"] <= _TOLERANCE:
                raise InputError(
                    f"{engine} computes {name} with a difference of {one['difference']:.2g} of its largest value from "
                    f"TensorFlow's, more than {_TOLERANCE:g}: use engine='tensorflow'."
                )
        elif one["cosine"] is not None and not one["cosine"] >= options.min_cosine:
            raise InputError(
                f"{engine} computes {name} in {options.precision} with a mean cosine of {one['cosine']:.4f} to "
                f"float32, less than min_cosine={options.min_cosine:g}: use another precision, or allow less."
            )
