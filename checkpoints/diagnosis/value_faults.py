"""Finds faults of stored values: damage, values that are not finite, and variables that were never trained."""

from collections.abc import Callable, Collection, Mapping

import numpy as np

from checkpoints.errors import CheckpointError, Problem, shortened
from checkpoints.files import CheckpointReader
from checkpoints.names import STATISTICS

__all__ = ["untrained_statistics", "value_kind", "value_problems"]


# The sentences on faults of values, in the order in which they are reported.
_FINDINGS = {
    "damaged": (
        "{count} of {total} variables cannot be read ({names}), as the file is damaged: fetch or copy it again."
    ),
    "not finite": (
        "{count} variables hold NaN or infinite values ({names}): the training diverged, or the file is damaged; take "
        "an earlier checkpoint."
    ),
    "zero weights": (
        "{count} kernels are nothing but zeros ({names}), which no training produces: they were saved before they were "
        "initialized; take another checkpoint."
    ),
    "negative variance": (
        "{count} moving variances are negative ({names}), which no training produces: the values are damaged or were "
        "converted wrongly; take the original file."
    ),
}


def value_problems(
    reader: CheckpointReader, variables: Collection[str], advance: Callable[[int], None]
) -> list[Problem]:
    """Reads all values of a checkpoint and returns what is wrong with them.

    Args:
      reader: reader of the checkpoint.
      variables: names of the model's variables, including moving statistics.
      advance: called with the number of variables just read.
    """
    found: dict[str, list[str]] = {kind: [] for kind in _FINDINGS}
    statistics: dict[str, np.ndarray] = {}
    for name in reader.shapes:
        advance(1)
        try:
            value = reader.read(name)
        except CheckpointError:
            found["damaged"].append(name)
            continue
        if kind := value_kind(value, weight=name in variables):
            found[kind].append(name)
        elif name in variables and name.endswith(STATISTICS):
            statistics[name] = value
            if name.endswith("/moving_variance") and (value < 0).any():
                found["negative variance"].append(name)
    total = len(reader.shapes)
    problems = [
        Problem(kind, _FINDINGS[kind].format(count=len(names), total=total, names=shortened(names)))
        for kind, names in found.items()
        if names
    ]
    if sentence := untrained_statistics(statistics):
        problems.append(Problem("untrained statistics", sentence))
    return problems


def value_kind(value: np.ndarray, weight: bool = False) -> str | None:
    """Returns the fault of a single value: 'not finite' or, for a ``weight``, 'zero weights'; None if there is none."""
    # "V" is TensorFlow's bfloat16, which NumPy regards as void.
    if value.dtype.kind not in "fcV":
        return None
    value = np.asarray(value, np.float32) if value.dtype.kind == "V" else value
    # A finite sum means that all values are finite. If it is not, it may have overflowed: then look at each value.
    with np.errstate(all="ignore"):
        if not np.isfinite(value.sum()) and not np.isfinite(value).all():
            return "not finite"
    return "zero weights" if weight and value.ndim > 1 and not value.any() else None


def untrained_statistics(values: Mapping[str, np.ndarray]) -> str | None:
    """Returns a sentence on batch norms whose moving statistics were never trained; None if there are none.

    Such statistics still have their initial values: no data leads to exactly 0 and 1 in all channels.
    """
    scopes = [name.removesuffix("/moving_mean") for name in values if name.endswith("/moving_mean")]
    untrained = [
        scope
        for scope in scopes
        if not values[f"{scope}/moving_mean"].any() and (values.get(f"{scope}/moving_variance", np.zeros(1)) == 1).all()
    ]
    if not untrained:
        return None
    return (
        f"The moving statistics of {len(untrained)} of {len(scopes)} batch norms are still at their initial values "
        f"({shortened(untrained)}): training never ran the updates in tf.GraphKeys.UPDATE_OPS, and inference needs "
        "them; train on with slim.learning.create_train_op, which runs them, or take a checkpoint that has them."
    )
