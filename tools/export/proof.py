"""Proves an exported file: its own runtime computes what our network computes, from the same pictures on."""

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from tools.errors import InputError
from tools.export.description import CLASSES, PREDICTIONS, Description
from tools.export.staging import EXPECTED, OUTPUTS, joined
from tools.export.worker import run_worker
from tools.runtime.agreement import mean_cosine, relative_difference, same_top_class

__all__ = ["MIN_COSINE", "Agreement", "check_file", "default_tolerance"]

# Default upper bounds of the largest difference in an output, relative to its largest value. Float16 keeps 11 bits of
# each weight. Torchvision's preprocessing rounds to whole levels, and a few pixels come out one level apart.
_TOLERANCES = {"float32": 1e-4, "float16": 1e-2}
_TOLERANCE_OF_LEVELS = 1e-3

# Default lower bound of the mean cosine of an int8 network's outputs. Few bits move single values by much more than the
# whole.
MIN_COSINE = 0.95

_CLASS_SCORES = ("logits", PREDICTIONS)


def default_tolerance(description: Description, *, portable: bool) -> float:
    """Returns the upper bound of the differences for float32 and float16, unless another one is asked for."""
    rounds = portable and description.input == "pixels" and description.preprocessing == "torchvision"
    return max(_TOLERANCES[description.dtype], _TOLERANCE_OF_LEVELS if rounds else 0.0)


class Agreement(NamedTuple):
    """How well one output of the exported file agrees with our network.

    output: name of the output.
    difference: largest difference, relative to the output's largest value.
    cosine: mean over the images of the cosine between both outputs, after the mean over the images has been taken from
      each; None for classes and labels, and for float32: where all images have nearly the same output, only rounding is
      left of it.
    top_1: share of the images whose largest value has the same place; None if the output holds no scores of classes.
    """

    output: str
    difference: float
    cosine: float | None
    top_1: float | None


def check_file(
    description: Description, folder: Path, target: Path, tolerance: float | None, min_cosine: float | None
) -> list[Agreement]:
    """Runs an exported file in a process of its own, and compares all its outputs.

    Args:
      description: of the file.
      folder: the staged network; the file's outputs are added to it.
      target: the exported file or folder.
      tolerance: upper bound of the differences; None for none.
      min_cosine: lower bound of the cosines; None for none.

    Raises:
      InputError: if the file cannot be run, lacks an output, or exceeds a bound.
    """
    run_worker("run", folder, target)
    results = joined([dict(np.load(file)) for file in sorted((folder / OUTPUTS).iterdir())])
    expected = dict(np.load(folder / EXPECTED))
    found = [_compare(output.name, results, expected, description) for output in description.outputs]
    for one in found:
        # Written so that what is not a number exceeds the bound.
        if tolerance is not None and not one.difference <= tolerance:
            said = f"with a difference of {one.difference:.2g} of its largest value, more than {tolerance=:g}"
        elif min_cosine is not None and one.cosine is not None and not one.cosine >= min_cosine:
            said = f"with a mean cosine of {one.cosine:.3f} to the network's own, less than {min_cosine=:g}"
        else:
            continue
        raise InputError(f"The {description.format} file computes {one.output} {said}: nothing is written.")
    return found


def _compare(
    name: str, results: Mapping[str, np.ndarray], expected: Mapping[str, np.ndarray], description: Description
) -> Agreement:
    if name not in results:
        raise InputError(f"The {description.format} file lacks the output {name}: nothing is written.")
    result = results[name]
    if name == CLASSES:
        return _compare_classes(result, expected[PREDICTIONS])
    if name == "probabilities":
        predictions = expected[PREDICTIONS]
        wanted = -np.sort(-predictions, axis=1)[:, : result.shape[1]]
        return Agreement(name, _difference(name, result, wanted), None, None)
    if name == "labels":
        labels = np.array([label.encode() for label in description.labels])
        wrong = np.mean(labels[results[CLASSES]] != result)
        return Agreement(name, float(wrong), None, None)
    wanted = expected[name]
    difference = _difference(name, result, wanted)
    top_1 = same_top_class(result, wanted) if name in _CLASS_SCORES else None
    return Agreement(name, difference, None if description.dtype == "float32" else mean_cosine(result, wanted), top_1)


def _compare_classes(classes: np.ndarray, predictions: np.ndarray) -> Agreement:
    """Compares classes by their probabilities, since the order of classes with nearly the same one is arbitrary."""
    wanted = -np.sort(-predictions, axis=1)[:, : classes.shape[1]]
    chosen = np.take_along_axis(predictions, classes.astype(np.int64), axis=1)
    top_1 = float(np.mean(classes[:, 0] == predictions.argmax(1)))
    return Agreement(CLASSES, _difference(CLASSES, chosen, wanted), None, top_1)


def _difference(name: str, result: np.ndarray, expected: np.ndarray) -> float:
    """Returns the relative difference. Raises InputError for another shape."""
    if result.shape != expected.shape:
        raise InputError(
            f"The exported {name} has shape {list(result.shape)} and not {list(expected.shape)}: nothing is written."
        )
    return relative_difference(result.astype(np.float64), expected)
