"""Tests that folded batch norms give the same values with fewer operations."""

import functools
from collections import Counter

import numpy as np
import pytest
import tensorflow as tf
import tf_slim as slim

from nets import nets_factory
from tests.helpers.float64 import assert_as_exact, references
from tools.runtime.folding import fold_batch_norms
from tools.runtime.freezing import freeze
from tools.runtime.random_weights import assign_random_weights, random_images

v1 = tf.compat.v1

IMAGES = np.random.default_rng(0).normal(size=[2, 5, 4, 3]).astype(np.float32)
KERNEL = np.random.default_rng(1).normal(size=[1, 1, 3, 6]).astype(np.float32)
BIAS = np.linspace(-2.0, 2.0, 6, dtype=np.float32)
EPSILON = 0.001

# gamma, beta, mean and variance, including a negative factor, a factor of 0 and a tiny variance.
GAMMA = np.array([1.0, -2.0, 0.0, 0.5, 3.0, 1.5], np.float32)
BETA = np.array([0.0, 1.0, -1.0, 4.0, 0.5, -3.0], np.float32)
MEAN = np.array([5.0, 0.0, 1.0, -2.0, 0.25, 10.0], np.float32)
VARIANCE = np.array([1.0, 4.0, 0.5, 1e-6, 100.0, 2.0], np.float32)


def normalized(images):
    return (images - MEAN) / np.sqrt(VARIANCE + EPSILON) * GAMMA + BETA


def batch_norm(images, **options):
    options = {"mean": MEAN, "variance": VARIANCE, "is_training": False} | options
    return v1.nn.fused_batch_norm(images, GAMMA, BETA, epsilon=EPSILON, **options)


def folded(build, depthwise=True):
    """Returns the values of the folded graph of ``build`` on the images, and its number of ops by type."""
    with tf.Graph().as_default() as graph:
        outputs = [tensor.name for tensor in build(v1.placeholder(tf.float32, [None, 5, 4, 3], name="images"))]
    graph_def = fold_batch_norms(graph.as_graph_def(), outputs, depthwise=depthwise)
    with tf.Graph().as_default() as graph, v1.Session() as session:
        tf.graph_util.import_graph_def(graph_def, name="")
        return session.run(outputs, {"images:0": IMAGES}), Counter(node.op for node in graph_def.node)


@pytest.mark.numerical
def test_after_a_convolution():
    (value,), ops = folded(lambda images: [batch_norm(tf.nn.conv2d(images, KERNEL, 1, "SAME"))[0]])
    np.testing.assert_allclose(value, normalized(IMAGES @ KERNEL[0, 0]), rtol=0, atol=1e-5 * np.abs(value).max())
    assert ops == {"Placeholder": 1, "Conv2D": 1, "BiasAdd": 1, "Const": 2}


@pytest.mark.numerical
def test_after_a_convolution_with_a_bias():
    def build(images):
        return [batch_norm(tf.nn.bias_add(tf.nn.conv2d(images, KERNEL, 1, "SAME"), BIAS))[0]]

    (value,), ops = folded(build)
    np.testing.assert_allclose(value, normalized(IMAGES @ KERNEL[0, 0] + BIAS), rtol=0, atol=1e-5 * np.abs(value).max())
    assert ops == {"Placeholder": 1, "Conv2D": 1, "BiasAdd": 1, "Const": 2}


def after_an_addition(images):
    tensor = tf.concat([images, images + 1], axis=3)
    return [batch_norm(tensor + tensor)[0]]


@pytest.mark.numerical
@pytest.mark.parametrize("depthwise", [True, False])
def test_after_an_addition(depthwise):
    (value,), ops = folded(after_an_addition, depthwise)
    expected = normalized(2 * np.concatenate([IMAGES, IMAGES + 1], axis=3))
    np.testing.assert_allclose(value, expected, rtol=0, atol=1e-5 * np.abs(value).max())
    assert (ops["DepthwiseConv2dNative"], ops["FusedBatchNormV3"]) == ((1, 0) if depthwise else (0, 1))


@pytest.mark.numerical
def test_what_is_asked_for_stays():
    """The convolution's own output, and a second use of it, stay beside the normalized output."""

    def build(images):
        conv = tf.nn.conv2d(images, KERNEL, 1, "SAME")
        return [conv, batch_norm(conv)[0], tf.nn.relu(conv)]

    (conv, norm, relu), _ = folded(build)
    expected = IMAGES @ KERNEL[0, 0]
    for value, wanted in ((conv, expected), (norm, normalized(expected)), (relu, np.maximum(expected, 0))):
        np.testing.assert_allclose(value, wanted, rtol=0, atol=1e-5 * np.abs(wanted).max())


@pytest.mark.numerical
def test_a_kernel_of_two_convolutions():
    def build(images):
        kernel = tf.constant(KERNEL)
        return [
            batch_norm(tf.nn.conv2d(images, kernel, 1, "SAME"))[0],
            tf.nn.conv2d(images, kernel, 2, "VALID"),
        ]

    (norm, plain), ops = folded(build)
    expected = IMAGES @ KERNEL[0, 0]
    np.testing.assert_allclose(norm, normalized(expected), rtol=0, atol=1e-5 * np.abs(norm).max())
    np.testing.assert_allclose(plain, expected[:, ::2, ::2], rtol=0, atol=1e-5 * np.abs(plain).max())
    assert "FusedBatchNormV3" not in ops


def with_statistics_of_the_batch(images):
    return [batch_norm(tf.nn.conv2d(images, KERNEL, 1, "SAME"), mean=None, variance=None, is_training=True)[0]]


def with_statistics_asked_for(images):
    return batch_norm(tf.nn.conv2d(images, KERNEL, 1, "SAME"))[:2]


def with_statistics_that_are_no_constants(images):
    conv = tf.nn.conv2d(images, KERNEL, 1, "SAME")
    return [batch_norm(conv, mean=tf.reduce_mean(conv, [0, 1, 2]))[0]]


def in_half_precision(images):
    return [batch_norm(tf.nn.conv2d(tf.cast(images, tf.float16), KERNEL.astype(np.float16), 1, "SAME"))[0]]


@pytest.mark.parametrize(
    "build",
    [
        with_statistics_of_the_batch,
        with_statistics_asked_for,
        with_statistics_that_are_no_constants,
        in_half_precision,
    ],
)
def test_what_is_left_alone(build):
    with tf.Graph().as_default() as graph:
        outputs = [tensor.name for tensor in build(v1.placeholder(tf.float32, [None, 5, 4, 3]))]
    nodes = {node.name: node for node in graph.as_graph_def().node}
    folded_nodes = {node.name: node for node in fold_batch_norms(graph.as_graph_def(), outputs).node}
    assert "FusedBatchNormV3" in {node.op for node in folded_nodes.values()}
    assert folded_nodes == {name: nodes[name] for name in folded_nodes}


@pytest.mark.numerical
@pytest.mark.parametrize(
    ("name", "options"),
    [
        pytest.param("resnet_v1_50", {}, marks=pytest.mark.full),
        pytest.param("resnet_v2_50", {}, marks=pytest.mark.full),
        pytest.param("resnet_v2_50", {"output_stride": 8}, marks=pytest.mark.full),
        pytest.param("resnet_basic_18", {}, marks=pytest.mark.full),
        pytest.param("resnet_keras_18", {}, marks=pytest.mark.full),
        ("resnet_cifar_32", {}),
    ],
)
def test_whole_networks(name, options):
    """A folded network computes the same as a session with variables."""
    network = nets_factory.get_network(name)
    build = functools.partial(nets_factory.networks_map[name], num_classes=10, is_training=False, **options)
    images = random_images([8, 64, 64, network.channels], network.preprocessing)
    with tf.Graph().as_default(), v1.Session() as session:
        fed = v1.placeholder(tf.float32, images.shape, name="images")
        with slim.arg_scope(nets_factory.arg_scopes_map[name]()):
            logits, _ = build(fed)
        assign_random_weights(session, fed, logits, images)
        expected = references(session, {"logits": logits}, {fed: images})["logits"]
        graph_def = freeze(session, [logits])
    before = Counter(node.op for node in graph_def.node)
    graph_def = fold_batch_norms(graph_def, [logits.name])
    with tf.Graph().as_default(), v1.Session() as session:
        tf.graph_util.import_graph_def(graph_def, name="")
        value = session.run(logits.name, {"images:0": images})
    assert_as_exact(value, expected)
    assert before["FusedBatchNormV3"] >= 20
    assert not [node.name for node in graph_def.node if node.op == "FusedBatchNormV3"]
