"""Tests the options of v2; ``test_slim_parity`` compares the networks with tf_slim's."""

import contextlib

import numpy as np
import pytest
import tensorflow as tf
import tf_slim as slim

from nets import resnet_utils, resnet_v2
from tests.helpers.float64 import assert_as_exact, references
from tests.helpers.reference import assign, random_values

v1 = tf.compat.v1


def small_blocks():
    return [
        resnet_v2.resnet_v2_block("block1", base_depth=4, num_units=2, stride=2),
        resnet_v2.resnet_v2_block("block2", base_depth=8, num_units=2, stride=2),
        resnet_v2.resnet_v2_block("block3", base_depth=16, num_units=2, stride=1),
    ]


@contextlib.contextmanager
def graph_with_images(*shape):
    with tf.Graph().as_default():
        yield v1.placeholder(tf.float32, shape, name="images")


def build_small(images, num_classes=None, **kwargs):
    with slim.arg_scope(resnet_v2.resnet_arg_scope()):
        return resnet_v2.resnet_v2(images, small_blocks(), num_classes, scope="small", **kwargs)


def test_end_points_are_research_slims():
    with graph_with_images(2, 64, 64, 3) as images:
        net, end_points = build_small(images, 10)
    assert net.shape.as_list() == [2, 10]
    assert list(end_points)[-4:] == ["global_pool", "small/logits", "small/spatial_squeeze", "predictions"]
    assert end_points["global_pool"].shape.as_list() == [2, 1, 1, 64]
    assert end_points["small/logits"].name == "small/logits/BiasAdd:0"
    assert end_points["small/spatial_squeeze"].name == "small/SpatialSqueeze:0"
    assert end_points["predictions"].name == "small/predictions/Reshape_1:0"


@pytest.mark.parametrize("num_classes", [None, 0])
def test_without_classes_the_features_come_back(num_classes):
    with graph_with_images(2, 64, 64, 3) as images:
        net, end_points = build_small(images, num_classes)
        assert net.shape.as_list() == [2, 1, 1, 64]
        assert list(end_points)[-1] == "global_pool"
    with graph_with_images(2, 64, 64, 3) as images:
        net, end_points = build_small(images, num_classes, global_pool=False)
        assert net.shape.as_list() == [2, 4, 4, 64]
        assert list(end_points)[-1] == "small/block3"


def test_unknown_sizes():
    with graph_with_images(None, None, None, 3) as images:
        net, _ = build_small(images, 10, spatial_squeeze=False, global_pool=False, is_training=False)
        assert net.shape.as_list() == [None, None, None, 10]
        with v1.Session() as session:
            session.run(v1.global_variables_initializer())
            assert session.run(net, {images: np.zeros([3, 64, 96, 3])}).shape == (3, 4, 6, 10)


def test_without_root_block_the_input_goes_to_the_blocks():
    with graph_with_images(2, 32, 32, 5) as images:
        net, end_points = build_small(images, include_root_block=False, global_pool=False)
    assert next(iter(end_points)) == "small/block1/unit_1/bottleneck_v2/shortcut"
    assert net.shape.as_list() == [2, 8, 8, 64]


def test_reuse_takes_the_same_variables():
    with graph_with_images(2, 64, 64, 3) as images:
        first, _ = build_small(images, 10, is_training=False)
        variables, losses = len(v1.global_variables()), len(v1.losses.get_regularization_losses())
        second, _ = build_small(images, 10, is_training=False, reuse=True)
        assert len(v1.global_variables()) == variables == len(slim.get_model_variables())
        assert len(v1.losses.get_regularization_losses()) == losses
        with v1.variable_scope("small", reuse=True):
            weights = v1.get_variable("conv1/weights")
        assert weights is v1.global_variables()[0]
        with v1.Session() as session:
            session.run(v1.global_variables_initializer())
            one, other = session.run([first, second], {images: np.random.default_rng(0).normal(size=[2, 64, 64, 3])})
    assert np.array_equal(one, other)


@pytest.mark.numerical
def test_atrous_network_subsampled_equals_the_nominal_one():
    """Tests the identity behind atrous convolution; odd sizes align the corners (arXiv:1606.00915)."""
    images = np.random.default_rng(0).normal(size=[2, 81, 97, 3]).astype(np.float32)
    with graph_with_images(*images.shape) as placeholder:
        options = {"global_pool": False, "is_training": False}
        nominal, _ = build_small(placeholder, **options)
        dense, _ = build_small(placeholder, **options, output_stride=4, reuse=True)
        dense = resnet_utils.subsample(dense, 4)
        with v1.Session() as session:
            assign(session, random_values(v1.global_variables()))
            expected = references(session, {"nominal": nominal}, {placeholder: images})
            assert_as_exact(session.run(dense, {placeholder: images}), expected["nominal"])


@pytest.mark.numerical
def test_stored_activations_are_those_before_the_stride():
    images = np.random.default_rng(0).normal(size=[2, 64, 64, 3]).astype(np.float32)
    with graph_with_images(*images.shape) as placeholder:
        net, end_points = build_small(placeholder, is_training=False)
        stored_net, stored = build_small(placeholder, is_training=False, reuse=True, store_non_strided_activations=True)
        assert stored["small/block1"].shape.as_list() == [2, 16, 16, 16]
        with v1.Session() as session:
            assign(session, random_values(v1.global_variables()))
            nominal = {"net": net, "block1": end_points["small/block1"]}
            expected = references(session, nominal, {placeholder: images})
            results = session.run([stored_net, stored["small/block1"][:, ::2, ::2]], {placeholder: images})
    assert_as_exact(results[0], expected["net"])
    assert_as_exact(results[1], expected["block1"])


@pytest.mark.parametrize("size", [64, 65])
def test_pool1_padding_pad1_is_zero_padding_and_valid_pooling(size):
    images = np.random.default_rng(0).normal(size=[1, size, size, 3]).astype(np.float32)
    with graph_with_images(*images.shape) as placeholder:
        build_small(placeholder, is_training=False, pool1_padding="PAD1")
        graph = v1.get_default_graph()
        conv1, pool1 = (graph.get_tensor_by_name(f"small/{name}:0") for name in ("conv1/BiasAdd", "pool1/MaxPool"))
        with v1.Session() as session:
            assign(session, random_values(v1.global_variables()))
            conv1, pool1 = session.run([conv1, pool1], {placeholder: images})
    padded = np.pad(conv1, [(0, 0), (1, 1), (1, 1), (0, 0)])
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(1, 2))[:, ::2, ::2]
    assert np.array_equal(pool1, windows.max(axis=(-2, -1)))


def test_pool1_padding_follows_the_arg_scope_unless_given():
    for padding, size in ((None, 15), ("SAME", 16)):
        with graph_with_images(1, 64, 64, 3) as images, slim.arg_scope(resnet_v2.resnet_arg_scope()):
            with slim.arg_scope([slim.max_pool2d], padding="VALID"):
                resnet_v2.resnet_v2_tiny(images, pool1_padding=padding)
            pool1 = images.graph.get_tensor_by_name("resnet_v2_tiny/pool1/MaxPool:0")
            assert pool1.shape.as_list() == [1, size, size, 64]


# Who says whether the network trains.


def trains(**kwargs):
    """Returns whether the batch norms of a network built in the current arg scope train."""
    with graph_with_images(2, 64, 64, 3) as images:
        resnet_v2.resnet_v2(images, small_blocks(), scope="small", **kwargs)
        ops = {op.get_attr("is_training") for op in images.graph.get_operations() if op.type == "FusedBatchNormV3"}
    assert len(ops) == 1
    return ops.pop()


def test_is_training_is_the_builders_then_the_arg_scopes_then_true():
    with slim.arg_scope(resnet_v2.resnet_arg_scope()):
        assert trains()
        assert not trains(is_training=False)
    with slim.arg_scope(resnet_v2.resnet_arg_scope(is_training=False)):
        assert not trains()
        assert trains(is_training=True)


def test_normalizer_params_that_contradict_the_builder_are_refused():
    with slim.arg_scope(resnet_v2.resnet_arg_scope()):
        parameters = {"is_training": False, "scale": True}
        with slim.arg_scope([slim.conv2d], normalizer_params=parameters):
            with pytest.raises(ValueError, match="normalizer_params"):
                trains(is_training=True)
            assert not trains(is_training=False)


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"output_stride": 6}, "strides 4, 8, 16, and 6 was"),
        ({"output_stride": 64}, "cannot be reached: the network passes through the strides 4, 8, 16, and 64 was"),
        ({"num_classes": -1}, "num_classes"),
        ({"num_classes": 10, "global_pool": False}, "spatial_squeeze"),
        ({"pool1_padding": "PAD2"}, "pool1_padding"),
        ({"pool1_padding": "PAD1", "include_root_block": False}, "include_root_block"),
    ],
)
def test_impossible_arguments_are_refused(kwargs, message):
    with graph_with_images(2, 64, 64, 3) as images, pytest.raises(ValueError, match=message):
        build_small(images, **kwargs)


@pytest.mark.parametrize("shape", [(64, 64, 3), (2, 64, 64, None)])
def test_inputs_of_another_rank_or_unknown_channels_are_refused(shape):
    with graph_with_images(*shape) as images, pytest.raises(ValueError, match="inputs must be"):
        build_small(images)
