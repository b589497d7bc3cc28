"""Tests that the batch norms of a graph are found, with the statistics that NumPy computes in float64."""

import numpy as np
import pytest
import tensorflow as tf
import tf_slim as slim

from nets import layers, nets_factory
from nets.batch_statistics import batch_norms
from tests.helpers.networks import small_size
from tools.peers.slim_reference import tf_slim_scope

v1 = tf.compat.v1

# One with fused batch norms, and two with separate ops. The others are built with `make test-all`.
FEW = ("resnet_v2_tiny", "resnet_keras_18_digits", "resnet_cifar_20")


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name in FEW else pytest.mark.full) for name in nets_factory.NETWORKS]
)
def test_all_batch_norms_of_a_network_are_found_under_any_scope(name):
    with tf.Graph().as_default() as graph:
        size = small_size(name, 32)
        images = v1.placeholder(tf.float32, [None, size, size, nets_factory.get_network(name).channels])
        with v1.variable_scope("mine"):
            nets_factory.get_network_fn(name, 10, is_training=True)(images)
        moving = [each.op.name for each in v1.global_variables() if each.op.name.endswith("moving_mean")]
        found = batch_norms(graph)
    assert [norm.moving_mean for norm in found] == moving
    assert [norm.scope + "/moving_variance" for norm in found] == [norm.moving_variance for norm in found]
    assert bool(moving) != name.startswith(("alexnet", "overfeat", "vgg"))
    assert all(each.startswith("mine/") for each in moving)
    for norm in found:
        assert norm.mean.shape.rank == norm.variance.shape.rank == 1


def values(shape, dtype=np.float32):
    return np.random.default_rng(0).normal(3, 2, shape).astype(dtype)


@pytest.mark.numerical
@pytest.mark.parametrize("fused", [None, False])
@pytest.mark.parametrize("shape", [(7, 5), (1, 5), (2, 3, 5), (2, 3, 4, 5), (1, 1, 1, 5), (2, 2, 3, 2, 5)])
def test_statistics_are_those_of_the_population(shape, fused):
    """Bessel's correction would be 25 % of the variance of five values."""
    given = values(shape)
    with tf.Graph().as_default() as graph, v1.Session() as session:
        layers.batch_norm(v1.placeholder_with_default(given, [None, *shape[1:]]), is_training=True, fused=fused)
        session.run(v1.global_variables_initializer())
        [norm] = batch_norms(graph)
        mean, variance = session.run([norm.mean, norm.variance])
    axes = tuple(range(len(shape) - 1))
    np.testing.assert_allclose(mean, given.mean(axes, np.float64), rtol=1e-6)
    np.testing.assert_allclose(variance, given.var(axes, np.float64), rtol=1e-5, atol=1e-10)


@pytest.mark.numerical
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_has_statistics_in_float32(dtype):
    with tf.Graph().as_default() as graph, v1.Session() as session:
        given = tf.cast(tf.constant(values((4, 6, 6, 5))), dtype)
        layers.batch_norm(given, is_training=True)
        session.run(v1.global_variables_initializer())
        [norm] = batch_norms(graph)
        rounded, mean, variance = session.run([tf.cast(given, tf.float64), norm.mean, norm.variance])
    assert mean.dtype == variance.dtype == np.float32
    np.testing.assert_allclose(mean, rounded.mean((0, 1, 2)), rtol=1e-5)
    np.testing.assert_allclose(variance, rounded.var((0, 1, 2)), rtol=1e-4)


@pytest.mark.numerical
@pytest.mark.parametrize("fused", [None, False])
def test_layers_of_tf_slim_are_understood_too(fused):
    given = values((2, 3, 3, 5))
    with tf.Graph().as_default() as graph, v1.Session() as session:
        with tf_slim_scope():
            slim.batch_norm(tf.constant(given), is_training=True, fused=fused, scope="theirs")
        session.run(v1.global_variables_initializer())
        [norm] = batch_norms(graph)
        variance = session.run(norm.variance)
    assert norm.scope == "theirs"
    np.testing.assert_allclose(variance, given.var((0, 1, 2), np.float64), rtol=1e-5)


def test_nothing_else_is_taken_for_a_batch_norm():
    with tf.Graph().as_default() as graph:
        assert batch_norms(graph) == []
        counter = v1.get_variable("counter", [5])
        average = tf.train.ExponentialMovingAverage(0.9)
        for update in (counter.assign_add(tf.ones([5])), counter.assign_sub(tf.ones([5])), average.apply([counter])):
            v1.add_to_collection(v1.GraphKeys.UPDATE_OPS, update)
        layers.batch_norm(tf.ones([2, 5]), is_training=False)
        assert batch_norms(graph) == []


def test_a_mode_that_is_a_tensor_is_refused():
    with tf.Graph().as_default() as graph:
        layers.batch_norm(tf.ones([2, 2, 2, 5]), is_training=v1.placeholder(tf.bool, []), scope="norm")
        with pytest.raises(ValueError, match="batch norm of norm/moving_mean is a tensor: build the network with"):
            batch_norms(graph)
