"""Tests the learning rates against TensorFlow's own schedules, and against hand calculations."""

import numpy as np
import pytest
import tensorflow as tf

from tools.training.schedules import learning_rate_at

v1 = tf.compat.v1

STEPS = 50


def ours(**options):
    return [learning_rate_at(step, STEPS, learning_rate=0.3, **options) for step in range(STEPS)]


def theirs(schedule):
    """Evaluates a schedule of TensorFlow 1 at every step."""
    with tf.Graph().as_default(), v1.Session() as session:
        step = v1.placeholder(tf.int64, [])
        rate = schedule(step)
        return [session.run(rate, {step: number}) for number in range(STEPS)]


@pytest.mark.parametrize(
    ("options", "schedule"),
    [
        ({"schedule": "cosine"}, lambda step: v1.train.cosine_decay(0.3, step, STEPS)),
        (
            {"schedule": "cosine", "end_learning_rate": 0.03},
            lambda step: v1.train.cosine_decay(0.3, step, STEPS, alpha=0.1),
        ),
        (
            {"schedule": "polynomial", "end_learning_rate": 0.0001, "power": 1.0},
            lambda step: v1.train.polynomial_decay(0.3, step, STEPS, 0.0001),
        ),
        (
            {"schedule": "polynomial", "end_learning_rate": 0.01, "power": 2.0},
            lambda step: v1.train.polynomial_decay(0.3, step, STEPS, 0.01, power=2.0),
        ),
        (
            {"schedule": "exponential", "decay_factor": 0.94, "decay_steps": 7},
            lambda step: v1.train.exponential_decay(0.3, step, 7, 0.94, staircase=True),
        ),
        (
            # TensorFlow's boundaries are the last steps before the fall.
            {"schedule": "piecewise", "decay_factor": 0.1, "boundaries": [20, 35]},
            lambda step: v1.train.piecewise_constant(step, [np.int64(19), np.int64(34)], [0.3, 0.03, 0.003]),
        ),
        ({"schedule": "constant"}, lambda step: tf.constant(0.3) + 0 * tf.cast(step, tf.float32)),
    ],
)
def test_schedules_equal_those_of_tensorflow(options, schedule):
    # TensorFlow computes in float32.
    np.testing.assert_allclose(ours(**options), theirs(schedule), rtol=1e-6, atol=1e-7)


def test_the_warm_up_rises_in_equal_parts_and_the_rest_begins_after_it():
    rates = ours(schedule="cosine", warmup_steps=10)
    np.testing.assert_allclose(rates[:10], 0.03 * np.arange(1, 11))
    with_warm_up = [learning_rate_at(step, 40, schedule="cosine", learning_rate=0.3) for step in range(40)]
    assert rates[10:] == with_warm_up
    # Exponential and piecewise count from the start.
    stepped = ours(schedule="piecewise", warmup_steps=10, boundaries=[20], decay_factor=0.5)
    np.testing.assert_allclose(stepped[9:22], [0.3] * 11 + [0.15] * 2)
