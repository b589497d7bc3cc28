"""The scale by which two implementations of a network are compared."""

import numpy as np

__all__ = ["logit_size"]


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
