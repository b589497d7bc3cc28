"""Tests the options that v1 has beyond v2's; ``test_slim_parity`` compares the networks with tf_slim's."""

import inspect

import numpy as np
import pytest
import tensorflow as tf
import tf_slim as slim

from nets import resnet_v1
from tests.helpers.float64 import assert_as_exact, references
from tests.helpers.reference import assign, random_values

v1 = tf.compat.v1


@pytest.fixture(autouse=True)
def graph():
    with tf.Graph().as_default() as graph, slim.arg_scope(resnet_v1.resnet_arg_scope()):
        yield graph


def small(images, num_classes=None, **kwargs):
    blocks = [
        resnet_v1.resnet_v1_block("block1", base_depth=4, num_units=2, stride=2),
        resnet_v1.resnet_v1_block("block2", base_depth=8, num_units=2, stride=1),
    ]
    return resnet_v1.resnet_v1(images, blocks, num_classes, scope="small", **kwargs)


# The signatures of research/slim/nets/resnet_v1.py; its two deepest networks have two arguments in another order.
COMMON = ["inputs", "num_classes", "is_training", "global_pool", "output_stride"]
SQUEEZE, STORE = "spatial_squeeze", "store_non_strided_activations"
LAST = ["min_base_depth", "depth_multiplier", "reuse", "scope"]
POSITIONS = {
    "resnet_v1_50": [*COMMON, SQUEEZE, STORE, *LAST],
    "resnet_v1_101": [*COMMON, SQUEEZE, STORE, *LAST],
    "resnet_v1_152": [*COMMON, STORE, SQUEEZE, *LAST],
    "resnet_v1_200": [*COMMON, STORE, SQUEEZE, *LAST],
}


@pytest.mark.parametrize("name", POSITIONS)
def test_arguments_have_research_slims_positions(name):
    builder = getattr(resnet_v1, name)
    parameters = inspect.signature(builder).parameters.values()
    assert [one.name for one in parameters if one.kind is one.POSITIONAL_OR_KEYWORD] == POSITIONS[name]
    images = v1.placeholder(tf.float32, [1, 32, 32, 3])
    squeeze_at = POSITIONS[name].index(SQUEEZE)
    arguments = [images, 10, False, True, None, False, False]
    logits, _ = builder(*arguments, 8, 0.125)
    assert logits.shape.as_list() == [1, 1, 1, 10]
    arguments[squeeze_at] = True
    logits, _ = builder(*arguments, 8, 0.125, reuse=True)
    assert logits.shape.as_list() == [1, 10]


@pytest.mark.parametrize(
    ("multiplier", "least", "depths"),
    [
        (1, 8, (64, 128, 256, 512)),
        (0.25, 8, (16, 32, 64, 128)),
        (0.1, 20, (20, 20, 25, 51)),
        (1.5, 8, (96, 192, 384, 768)),
    ],
)
def test_depth_multiplier_scales_the_units_and_not_below_the_least(multiplier, least, depths):
    images = v1.placeholder(tf.float32, [1, 32, 32, 3])
    _, end_points = resnet_v1.resnet_v1_50(images, depth_multiplier=multiplier, min_base_depth=least)
    for i, depth in enumerate(depths, start=1):
        unit = f"resnet_v1_50/block{i}/unit_1/bottleneck_v1"
        assert end_points[f"{unit}/conv2"].shape[-1] == depth
        assert end_points[unit].shape[-1] == 4 * depth
    assert end_points["resnet_v1_50/conv1"].shape[-1] == 64


def run(end_points, size=64):
    images = np.random.default_rng(1).normal(size=[2, size, size, 3]).astype(np.float32)
    with v1.Session() as session:
        values = random_values(v1.global_variables())
        assign(session, {name: value * (4 if "gamma" in name else 1) for name, value in values.items()})
        return session.run(end_points, {"images:0": images})


def test_bounded_activations():
    """Computes the output by hand from the values that a unit adds: each is bounded, and so is the sum."""
    images = v1.placeholder(tf.float32, [2, 64, 64, 3], name="images")
    with slim.arg_scope([resnet_v1.bottleneck], use_bounded_activations=True):
        _, end_points = small(images, is_training=False)
    values = run(end_points)
    unit = "small/block1/unit_1/bottleneck_v1"
    shortcut, residual = values[f"{unit}/shortcut"], values[f"{unit}/conv3"]
    assert np.abs(residual).max() > 6
    assert (shortcut.min(), shortcut.max()) == (0, 6)
    expected = np.clip(shortcut + np.clip(residual, -6, 6), 0, 6)
    np.testing.assert_array_equal(values[unit], expected)
    # A shortcut that is the input itself is bounded already, by the previous unit.
    second = "small/block1/unit_2/bottleneck_v1"
    expected = np.clip(values[unit][:, ::2, ::2] + np.clip(values[f"{second}/conv3"], -6, 6), 0, 6)
    np.testing.assert_array_equal(values[second], expected)


@pytest.mark.numerical
def test_stored_activations_are_those_before_the_stride():
    images = v1.placeholder(tf.float32, [2, 64, 64, 3], name="images")
    _, end_points = small(images, is_training=False)
    _, stored = small(images, is_training=False, reuse=True, store_non_strided_activations=True)
    feeds = {images: np.random.default_rng(1).normal(size=[2, 64, 64, 3]).astype(np.float32)}
    with v1.Session() as session:
        assign(session, random_values(v1.global_variables()))
        nominal = references(session, {"block1": end_points["small/block1"]}, feeds)["block1"]
        dense = session.run(stored["small/block1"], feeds)
    assert dense.shape[1:3] == (16, 16)
    assert_as_exact(np.ascontiguousarray(dense[:, ::2, ::2]), nominal)


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"depth_multiplier": 0}, "depth_multiplier must be a number above 0, and is 0"),
        ({"min_base_depth": 0}, "min_base_depth must be a whole number of at least 1, and is 0"),
        ({"output_stride": 6}, "strides 4, 8, 16, 32, and 6 was"),
        ({"output_stride": 64}, "strides 4, 8, 16, 32, and 64 was"),
        ({"num_classes": -1}, "num_classes must be a whole number of at least 0, and is -1"),
        ({"num_classes": 10, "global_pool": False}, "spatial_squeeze=True needs logits of 1x1, and they are 2x2"),
    ],
)
def test_impossible_arguments_are_refused(kwargs, message):
    with pytest.raises(ValueError, match=message):
        resnet_v1.resnet_v1_50(v1.placeholder(tf.float32, [1, 64, 64, 3]), **kwargs)
