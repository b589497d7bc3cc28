"""Tests the measures of a classification against scikit-learn, a formula for intervals, and hand calculation."""

import math

import numpy as np
import pytest
from scipy.special import softmax
from sklearn import metrics as sklearn

from tools.evaluation.metrics import Accumulator, Confusion, wilson


def measured(logits, classes, batch_size=7):
    accumulator = Accumulator(logits.shape[1])
    for start in range(0, len(logits), batch_size):
        accumulator.add(logits[start : start + batch_size], classes[start : start + batch_size])
    return accumulator.metrics()


@pytest.mark.parametrize("num_classes", [2, 3, 5, 6, 40])
def test_measures_are_those_of_scikit_learn(num_classes):
    rng = np.random.default_rng(num_classes)
    classes = np.concatenate([np.arange(num_classes), rng.integers(0, num_classes, 300)])
    logits = rng.normal(0, 3, [len(classes), num_classes]).astype(np.float32)
    logits[np.arange(len(classes)), classes] += 2
    found = measured(logits, classes)
    probabilities = softmax(logits.astype(np.float64), axis=1)
    predicted = probabilities.argmax(axis=1)
    assert found.images == len(classes)
    assert found.top_1.value == sklearn.accuracy_score(classes, predicted)
    if num_classes > 5:
        assert found.top_5.value == sklearn.top_k_accuracy_score(classes, logits, k=5)
    else:
        assert found.top_5.value == 1
    assert found.cross_entropy == pytest.approx(sklearn.log_loss(classes, probabilities), rel=1e-12)
    np.testing.assert_array_equal(found.confusion, sklearn.confusion_matrix(classes, predicted))
    assert found.recall == sklearn.recall_score(classes, predicted, average=None).tolist()


def test_calibration_error_of_each_image_by_hand():
    """Bins the highest probabilities one by one: a bin includes its upper bound, and 0.6 is that of the ninth of 15."""
    probabilities = np.array([0.6, 0.61, 0.95, 0.99, 1.0])
    right = np.array([True, False, True, False, True])
    logits = np.log(np.stack([probabilities, np.maximum(1 - probabilities, 1e-300)], axis=1))
    found = measured(logits, np.where(right, 0, 1))
    # Bins: {0.6}, {0.61}, {0.95, 0.99, 1.0}
    expected = (abs(1 - 0.6) + abs(0 - 0.61) + abs(2 - (0.95 + 0.99 + 1.0))) / 5
    assert found.calibration_error == pytest.approx(expected, rel=1e-12)


def test_large_logits_do_not_overflow():
    found = measured(np.array([[1e4, 0, -1e4], [0, 1e4, 0]], np.float32), np.array([2, 1]))
    assert found.cross_entropy == 1e4
    assert (found.top_1.value, found.calibration_error) == (0.5, 0.5)


def test_of_equal_logits_the_lower_class_comes_first():
    accumulator = Accumulator(7)
    scores = accumulator.add(np.zeros([2, 7], np.float32), np.array([0, 5]))
    assert scores.top.tolist() == [[0, 1, 2, 3, 4]] * 2
    assert scores.probabilities == pytest.approx(np.full([2, 5], 1 / 7))
    assert scores.class_probability == pytest.approx([1 / 7] * 2)
    assert scores.cross_entropy == pytest.approx([math.log(7)] * 2)
    found = accumulator.metrics()
    assert (found.top_1.value, found.top_5.value) == (0.5, 0.5)


def test_recall_and_the_largest_confusions():
    logits = np.eye(4)[[0, 1, 1, 1, 2, 0, 2]] * 5
    found = measured(logits, np.array([0, 0, 0, 1, 1, 2, 2]))
    assert found.recall == [1 / 3, 0.5, 0.5, None]
    assert found.confusions(2) == [Confusion(0, 1, 2), Confusion(1, 2, 1)]
    assert found.confusions(9)[2:] == [Confusion(2, 0, 1)]


@pytest.mark.parametrize(
    ("hits", "images", "low", "high"),
    [
        # R. G. Newcombe, "Two-sided confidence intervals for the single proportion", 1998, table I, method 3.
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
        (20, 20, 0.8389, 1.0),
    ],
)
def test_intervals(hits, images, low, high):
    share = wilson(hits, images)
    assert share.value == hits / images
    assert share.low == pytest.approx(low, abs=5e-5)
    assert share.high == pytest.approx(high, abs=5e-5)
    assert 0 <= share.low <= share.value <= share.high <= 1
