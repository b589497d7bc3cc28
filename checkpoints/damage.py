"""What is wrong with stored values: what cannot be read, is no number, or was never trained."""

from collections.abc import Callable, Collection, Mapping
from typing import NamedTuple

import numpy as np

from checkpoints.reader import CheckpointError, CheckpointReader

__all__ = ["Problem", "shortened", "untrained_statistics", "value_problems"]


class Problem(NamedTuple):
    """Something that is wrong with a checkpoint.

    kind: one word or two, for programs.
    sentence: what is wrong, and what to do.
    """

    kind: str
    sentence: str


def shortened(names: Collection[str], limit: int = 5) -> str:
    """The first of the names, and how many more there are."""
    shown = ", ".join(list(names)[:limit])
    return shown if len(names) <= limit else f"{shown}, and {len(names) - limit} more"


def value_problems(
    reader: CheckpointReader, variables: Collection[str], advance: Callable[[int], None]
) -> list[Problem]:
    """Reads everything in a checkpoint, and tells what is wrong with it.

    Args:
      reader: of the checkpoint.
      variables: names of the model's variables, among them moving statistics.
      advance: is told how many more were read.
    """
    unreadable, not_finite, negative, zero = [], [], [], []
    statistics: dict[str, np.ndarray] = {}
    reason = ""
    for name in reader.shapes:
        advance(1)
        try:
            value = reader.read(name)
        except CheckpointError as error:
            unreadable.append(name)
            reason = reason or str(error.__cause__ or error).splitlines()[0]
            continue
        # Of numpy's own types and TensorFlow's bfloat16, which it counts as void.
        if value.dtype.kind not in "fcV":
            continue
        value = np.asarray(value, np.float32) if value.dtype.kind == "V" else value
        # A sum is finite if all is, or it overflows, which is seldom: then look at each.
        if not np.isfinite(value.sum(dtype=np.float64)) and not np.isfinite(value).all():
            not_finite.append(name)
        elif name in variables and value.ndim > 1 and not value.any():
            zero.append(name)
        elif name in variables and name.endswith(("/moving_mean", "/moving_variance")):
            statistics[name] = value
            if name.endswith("/moving_variance") and (value < 0).any():
                negative.append(name)
    problems = []
    if unreadable:
        sentence = (
            f"{reader.path} is damaged: {len(unreadable)} of {len(reader.shapes)} variables cannot be read "
            f"({shortened(unreadable)}: {reason}): fetch or copy it again."
        )
        problems.append(Problem("damaged", sentence))
    if not_finite:
        sentence = (
            f"{len(not_finite)} variables hold NaN or infinite values ({shortened(not_finite)}): "
            "the training diverged, or the file is damaged; take an earlier checkpoint."
        )
        problems.append(Problem("not finite", sentence))
    if zero:
        sentence = (
            f"{len(zero)} kernels are nothing but zeros ({shortened(zero)}), which no training leaves: "
            "they were saved before they had their values; take another checkpoint."
        )
        problems.append(Problem("zero weights", sentence))
    if negative:
        sentence = (
            f"{len(negative)} moving variances are negative ({shortened(negative)}), which no training leaves: "
            "the values are damaged or were converted wrongly; take the original file."
        )
        problems.append(Problem("negative variance", sentence))
    if sentence := untrained_statistics(statistics):
        problems.append(Problem("untrained statistics", sentence))
    return problems


def untrained_statistics(values: Mapping[str, np.ndarray]) -> str | None:
    """A sentence on the batch norms among these values whose moving statistics are the initial ones, 0 and 1.

    None where there is none: a mean of exactly 0 and a variance of exactly 1 in all channels come from no data.
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
