"""Measures of a classification, from logits and classes, batch by batch: nothing is kept of a single image.

All are computed in float64. Shares are fractions of 1. Of equal logits, the one of the lower class number counts as the
higher.
"""

from statistics import NormalDist
from typing import NamedTuple

import numpy as np

__all__ = ["BINS", "TOP", "Accumulator", "Confusion", "Metrics", "Scores", "Share", "wilson"]

# Number of bins of the calibration error, as in C. Guo et al., "On Calibration of Modern Neural Networks", ICML 2017.
BINS = 15

# Number of classes among which top_5 looks for the right one.
TOP = 5

# Half the width of an interval that holds 95 % of a normal distribution, in standard deviations.
_Z = NormalDist().inv_cdf(0.975)


class Share(NamedTuple):
    """A share of images, with the bounds of its 95 % interval."""

    value: float
    low: float
    high: float


class Confusion(NamedTuple):
    """The number of images of one class that were taken for another one."""

    of: int
    predicted: int
    images: int


class Scores(NamedTuple):
    """The results of single images.

    top: int64 [N, k], the most probable classes, the most probable first.
    probabilities: float64 [N, k], their probabilities.
    class_probability: float64 [N], the probability of the image's class.
    cross_entropy: float64 [N], minus its natural logarithm.
    """

    top: np.ndarray
    probabilities: np.ndarray
    class_probability: np.ndarray
    cross_entropy: np.ndarray


class Metrics(NamedTuple):
    """Measures of a classification.

    images: their number.
    top_1: share of images whose class has the highest logit.
    top_5: share of images whose class is among the five with the highest logits, or among all if there are fewer.
    cross_entropy: mean, with the natural logarithm.
    calibration_error: expected difference of the highest probability and the accuracy, over 15 bins of equal width.
    confusion: int64 [classes, classes], the number of images by class (row) and by predicted class (column).
    """

    images: int
    top_1: Share
    top_5: Share
    cross_entropy: float
    calibration_error: float
    confusion: np.ndarray

    @property
    def recall(self) -> list[float | None]:
        """For each class, the share of its images whose class has the highest logit; None if it has no images."""
        right, counts = self.confusion.diagonal().tolist(), self.confusion.sum(axis=1).tolist()
        return [hits / count if count else None for hits, count in zip(right, counts, strict=True)]

    def confusions(self, most: int) -> list[Confusion]:
        """Returns the largest confusions, at most so many, the largest first; equal ones by their numbers."""
        of, predicted = np.nonzero(self.confusion)
        wrong = of != predicted
        of, predicted = of[wrong], predicted[wrong]
        images = self.confusion[of, predicted]
        order = np.argsort(-images, kind="stable")[:most]
        columns = (column[order].tolist() for column in (of, predicted, images))
        return [Confusion(*row) for row in zip(*columns, strict=True)]


def wilson(hits: int, images: int) -> Share:
    """Returns a share with its 95 % interval.

    The interval is that of E. B. Wilson, "Probable inference, the law of succession, and statistical inference", 1927.
    """
    share, squared = hits / images, _Z * _Z / images
    centre = share + squared / 2
    half = _Z * np.sqrt(share * (1 - share) / images + squared / images / 4)
    low, high = ((centre - half) / (1 + squared), (centre + half) / (1 + squared))
    # Rounding must not exclude a share of 0 or 1.
    return Share(share, min(max(float(low), 0.0), share), max(min(float(high), 1.0), share))


class Accumulator:
    """Sums up a classification.

    Args:
      num_classes: number of classes.
    """

    def __init__(self, num_classes: int) -> None:
        self._k = min(TOP, num_classes)
        self._images = self._hits = 0
        self._cross_entropy = 0.0
        self._confusion = np.zeros([num_classes, num_classes], np.int64)
        # The sum of the differences of accuracy and highest probability in each bin.
        self._differences = np.zeros(BINS)

    def add(self, logits: np.ndarray, classes: np.ndarray) -> Scores:
        """Adds images.

        Args:
          logits: [N, classes], finite.
          classes: [N], the numbers of their classes.

        Returns:
          The results of each.
        """
        logits = logits.astype(np.float64)
        rows = np.arange(len(logits))
        top = self._highest(logits)
        highest = logits[rows[:, np.newaxis], top]
        # Relative to the highest, so that the exponentials do not overflow.
        log_sum = highest[:, 0] + np.log(np.exp(logits - highest[:, :1]).sum(axis=1))
        cross_entropy = log_sum - logits[rows, classes]
        probabilities = np.exp(highest - log_sum[:, np.newaxis])
        hits = top == np.asarray(classes)[:, np.newaxis]
        self._images += len(logits)
        self._hits += int(np.count_nonzero(hits))
        self._cross_entropy += float(cross_entropy.sum())
        np.add.at(self._confusion, (classes, top[:, 0]), 1)
        # A bin excludes its lower bound and includes its upper one.
        bins = np.clip(np.ceil(probabilities[:, 0] * BINS).astype(int) - 1, 0, BINS - 1)
        np.add.at(self._differences, bins, hits[:, 0] - probabilities[:, 0])
        return Scores(top, probabilities, np.exp(-cross_entropy), cross_entropy)

    def _highest(self, logits: np.ndarray) -> np.ndarray:
        """Returns the numbers of the classes with the highest logits, [N, k]. That is faster than sorting them all."""
        left, rows = logits.copy(), np.arange(len(logits))
        top = np.empty([len(logits), self._k], np.int64)
        for place in range(self._k):
            top[:, place] = left.argmax(axis=1)
            left[rows, top[:, place]] = -np.inf
        return top

    def metrics(self) -> Metrics:
        """Returns the measures of the images so far, of which there must be one at least."""
        return Metrics(
            images=self._images,
            top_1=wilson(int(self._confusion.trace()), self._images),
            top_5=wilson(self._hits, self._images),
            cross_entropy=self._cross_entropy / self._images,
            calibration_error=float(np.abs(self._differences).sum()) / self._images,
            confusion=self._confusion,
        )
