"""The measures by which two implementations of a network are compared."""

import numpy as np

__all__ = ["logit_size", "mean_cosine", "relative_difference", "same_top_class"]


def logit_size(features: np.ndarray, kernel: np.ndarray) -> float:
    """Returns the size that logits have when the terms of their sums do not cancel.

    Few logits may all be near zero, and rounding errors are then large beside them. They stay small beside this size.
    The largest of many logits is a few times as large as it.

    Args:
      features: [..., channels], the inputs of the logits' layer.
      kernel: [..., channels, classes], its weights.
    """
    features, kernel = features.astype(np.float64), kernel.astype(np.float64)
    norms = np.linalg.norm(features, axis=-1).max() * np.linalg.norm(kernel, axis=-2).max()
    return float(norms / np.sqrt(features.shape[-1]))


def relative_difference(result: np.ndarray, expected: np.ndarray, least_scale: float = 0.0) -> float:
    """Returns the largest difference by the largest expected value, or by ``least_scale`` if that is larger.

    Args:
      result, expected: arrays of one shape. If one of them has a value that is not a number, the result is none either.
      least_scale: such as ``logit_size``.
    """
    scale = max(np.max(np.abs(expected)), least_scale, np.finfo(np.float32).tiny)
    with np.errstate(invalid="ignore"):  # the difference of infinities is not a number
        return float(np.max(np.abs(result - expected)) / scale)


def mean_cosine(result: np.ndarray, expected: np.ndarray) -> float:
    """Returns the mean over the images of the cosine between two outputs, after the mean of all images was taken away.

    Otherwise what all images have in common would hide how well their differences agree.

    Args:
      result, expected: arrays [N, ...] of one shape.
    """
    first, second = (
        (values - values.mean(axis=0)).reshape(len(values), -1).astype(np.float64) for values in (result, expected)
    )
    norms = np.linalg.norm(first, axis=1) * np.linalg.norm(second, axis=1)
    products = np.sum(first * second, axis=1)
    # Two constant outputs agree.
    return float(np.mean(np.where(norms > 0, products / np.where(norms > 0, norms, 1), 1.0)))


def same_top_class(result: np.ndarray, expected: np.ndarray) -> float | None:
    """Returns the share of images [N, classes] whose largest scores have the same place; None for anything else."""
    if expected.ndim != 2 or expected.shape[1] < 2:
        return None
    return float(np.mean(result.argmax(1) == expected.argmax(1)))
