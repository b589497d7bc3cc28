"""Tests the tests' own measure: networks in float64, and the distinction of errors from rounding."""

import numpy as np
import pytest
import tensorflow as tf

from tests.helpers.float64 import Reference, assert_as_exact, references, session_in_float64

v1 = tf.compat.v1

GENERATOR = np.random.default_rng(0)
IMAGES = GENERATOR.normal(size=[4, 6, 5, 3]).astype(np.float32)
KERNEL = GENERATOR.normal(size=[3, 3, 3, 8]).astype(np.float32)
SCALE, OFFSET, MEAN, VARIANCE = (GENERATOR.uniform(0.5, 1.5, 8).astype(np.float32) for _ in range(4))
EPSILON = float(np.float32(0.001))


def by_hand(images, kernel, scale, offset, training):
    """Returns a convolution, a batch norm and a ReLU, made of elementary ops in float64."""
    net = tf.nn.conv2d(images, kernel, 1, "SAME")
    mean, variance = tf.nn.moments(net, [0, 1, 2]) if training else (MEAN.astype(float), VARIANCE.astype(float))
    return tf.nn.relu((net - mean) * scale / tf.sqrt(variance + EPSILON) + offset)


@pytest.mark.parametrize("training", [False, True])
def test_a_graph_in_float64(training):
    """Outputs and gradients are those of elementary ops."""
    values = {"kernel": KERNEL, "scale": SCALE, "offset": OFFSET}
    with tf.Graph().as_default() as graph:
        images = v1.placeholder(tf.float32, IMAGES.shape)
        kernel, scale, offset = (v1.get_variable(name, initializer=value) for name, value in values.items())
        net = tf.nn.conv2d(images, kernel, 1, "SAME")
        statistics = {} if training else {"mean": MEAN, "variance": VARIANCE}
        net, *_ = v1.nn.fused_batch_norm(net, scale, offset, epsilon=0.001, is_training=training, **statistics)
        net = tf.nn.relu(net)
        tensors = [net, *tf.gradients(tf.square(net), [images, kernel, scale, offset])]
    with session_in_float64(graph, values, tensors) as session:
        results = session.run([tensor.name for tensor in tensors], {images.name: IMAGES})
    with tf.Graph().as_default(), v1.Session() as session:
        inputs = [tf.constant(value.astype(np.float64)) for value in (IMAGES, KERNEL, SCALE, OFFSET)]
        net = by_hand(*inputs, training)
        expected = session.run([net, *tf.gradients(tf.square(net), inputs)])
    for result, wanted in zip(results, expected, strict=True):
        assert result.dtype == np.float64
        np.testing.assert_allclose(result, wanted, rtol=0, atol=1e-12 * np.abs(wanted).max())


def test_references():
    with tf.Graph().as_default(), v1.Session() as session:
        images = v1.placeholder(tf.float32, IMAGES.shape)
        found = references(session, {"sum": tf.reduce_sum(images, axis=3)}, {images: IMAGES})["sum"]
    assert (found.single.dtype, found.double.dtype) == (np.float32, np.float64)
    np.testing.assert_allclose(found.double, IMAGES.sum(axis=3, dtype=np.float64), rtol=0, atol=1e-14)


# What passes.


def exact(count=64, size=1.0):
    return size * np.random.default_rng(1).normal(size=count)


def off(values, share, seed):
    """Returns float32 values with errors of a share of the largest value."""
    errors = np.random.default_rng(seed).normal(size=values.shape)
    return (values + share * np.abs(values).max() * errors).astype(np.float32)


@pytest.mark.parametrize("size", [1e-20, 1.0, 1e20])
def test_rounding_of_another_order_passes(size):
    values = exact(size=size)
    assert_as_exact(off(values, 2e-6, seed=2), Reference(off(values, 1e-6, seed=3), values))
    # A reference that is right to the bit does not require the same.
    assert_as_exact(off(values, 5e-7, seed=2), Reference(values.astype(np.float32), values))


@pytest.mark.parametrize("share", [1e-5, 1e-4, 0.1])
def test_what_is_more_than_rounding_fails(share):
    values = exact()
    with pytest.raises(AssertionError, match="from float64, where the reference is"):
        assert_as_exact(off(values, share, seed=2), Reference(off(values, 1e-6, seed=3), values))


def test_a_sum_that_cancels_has_the_scale_of_its_terms():
    """1.6e-5 of a logit near 0 is rounding if its terms are 100 times as large, and an error if they are small."""
    logit = np.array([0.01])
    reference = Reference(logit.astype(np.float32), logit)
    result = (logit * (1 + 1.6e-5)).astype(np.float32)
    assert_as_exact(result, reference, scale=1.0)
    with pytest.raises(AssertionError, match="from float64"):
        assert_as_exact(result, reference, scale=0.01)
    with pytest.raises(AssertionError, match="give the scale of so few values"):
        assert_as_exact(result, reference)


def test_a_reference_that_is_another_network_excuses_nothing():
    values = exact()
    wrong = off(values, 0.01, seed=2)
    with pytest.raises(AssertionError, match="the reference itself is"):
        assert_as_exact(wrong, Reference(wrong, values))
    with pytest.raises(AssertionError):
        assert_as_exact(values, Reference(wrong, values))  # not float32
    with pytest.raises(AssertionError):
        assert_as_exact(values[:9].astype(np.float32), Reference(values.astype(np.float32), values))
    values[0] = np.nan
    with pytest.raises(AssertionError):
        assert_as_exact(values.astype(np.float32), Reference(values.astype(np.float32), values))
