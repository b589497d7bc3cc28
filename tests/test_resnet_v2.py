"""The v2 family against tf_slim's own networks, built in the same process and given the same weights."""

import contextlib
import os
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
import tf_slim as slim
from tf_slim.nets import resnet_v2 as tf_slim_v2

from nets import resnet_utils, resnet_v2
from tests.reference import assign, random_values, relative_difference
from tools.slim_reference import tf_slim_builder, tf_slim_scope

v1 = tf.compat.v1

UPDATE_OPS = v1.GraphKeys.UPDATE_OPS

DEPTHS = (
    "resnet_v2_50",
    pytest.param("resnet_v2_101", marks=pytest.mark.full),
    pytest.param("resnet_v2_152", marks=pytest.mark.full),
    pytest.param("resnet_v2_200", marks=pytest.mark.full),
)


def build(builder, scope, shape, **kwargs):
    """(graph, end points) of a network of 1001 classes on a placeholder 'images'."""
    graph = tf.Graph()
    with graph.as_default():
        images = v1.placeholder(tf.float32, shape, name="images")
        with scope:
            _, end_points = builder(images, 1001, **kwargs)
    return graph, end_points


def both(name, shape, **kwargs):
    """Our network and tf_slim's, in inference mode; ours with logits as tf_slim's, not squeezed."""
    ours = build(
        getattr(resnet_v2, name),
        slim.arg_scope(resnet_v2.resnet_arg_scope()),
        shape,
        is_training=False,
        spatial_squeeze=False,
        **kwargs,
    )
    theirs = build(tf_slim_builder(name), tf_slim_scope(), shape, is_training=False, **kwargs)
    return ours, theirs


def run(graph, end_points, values, images):
    with v1.Session(graph=graph) as session:
        assign(session, values)
        return session.run(dict(end_points), {"images:0": images})


def variables_of(graph):
    return graph.get_collection(v1.GraphKeys.GLOBAL_VARIABLES)


@pytest.mark.parametrize("name", DEPTHS)
def test_every_end_point_equals_tf_slims_to_the_bit(name):
    shape = [2, 224, 224, 3]
    (graph, end_points), (their_graph, their_end_points) = both(name, shape)
    values = random_values(variables_of(their_graph))
    images = np.random.default_rng(1).normal(size=shape).astype(np.float32)
    results = run(graph, end_points, values, images)
    expected = run(their_graph, their_end_points, values, images)
    assert all(np.isfinite(value).all() and value.std() > 0 for value in expected.values())
    unequal = [key for key in expected if not np.array_equal(results[key], expected[key])]
    assert unequal == []
    assert set(results) - set(expected) == {"global_pool"}


@pytest.mark.parametrize("name", DEPTHS)
@pytest.mark.parametrize("output_stride", [8, 16])
def test_end_points_under_output_stride_equal_tf_slims(name, output_stride):
    shape = [1, 97, 129, 3]
    options = {"output_stride": output_stride, "global_pool": False}
    (graph, end_points), (their_graph, their_end_points) = both(name, shape, **options)
    values = random_values(variables_of(their_graph))
    images = np.random.default_rng(1).normal(size=shape).astype(np.float32)
    results = run(graph, end_points, values, images)
    expected = run(their_graph, their_end_points, values, images)
    assert list(results) == list(expected)
    # Rounding of another order of sums is allowed for; a wrong dilation is of the order of 1.
    assert max(relative_difference(results[key], expected[key]) for key in expected) <= 1e-5


@pytest.mark.parametrize("name", DEPTHS)
@pytest.mark.parametrize("is_training", [False, True])
def test_names_and_collections_equal_tf_slims(name, is_training):
    shape = [None, 224, 224, 3]
    scope = slim.arg_scope(resnet_v2.resnet_arg_scope())
    graph, end_points = build(getattr(resnet_v2, name), scope, shape, is_training=is_training, spatial_squeeze=False)
    their_graph, their_end_points = build(tf_slim_builder(name), tf_slim_scope(), shape, is_training=is_training)

    def described(variables):
        return [(variable.name, variable.shape.as_list(), variable.dtype) for variable in variables]

    for collection in ("GLOBAL_VARIABLES", "MODEL_VARIABLES", "TRAINABLE_VARIABLES"):
        key = getattr(v1.GraphKeys, collection)
        assert described(graph.get_collection(key)) == described(their_graph.get_collection(key))
    losses, their_losses = (
        [loss.name for loss in one.get_collection(v1.GraphKeys.REGULARIZATION_LOSSES)] for one in (graph, their_graph)
    )
    assert losses == their_losses
    sizes, their_sizes = (
        {key: len(one.get_collection(key)) for key in one.get_all_collection_keys() if one.get_collection(key)}
        for one in (graph, their_graph)
    )
    assert sizes == their_sizes
    names = {key: tensor.name for key, tensor in end_points.items() if key != "global_pool"}
    assert names == {key: tensor.name for key, tensor in their_end_points.items()}
    assert [key for key in end_points if key != "global_pool"] == list(their_end_points)


# A training step. The network is small, so that sixteen of them take seconds; the full run has ResNet-50 too.


def small_blocks(module):
    return [
        module.resnet_v2_block("block1", base_depth=4, num_units=2, stride=2),
        module.resnet_v2_block("block2", base_depth=8, num_units=2, stride=2),
        module.resnet_v2_block("block3", base_depth=16, num_units=2, stride=1),
    ]


def small(module):
    def builder(images, num_classes, **kwargs):
        return module.resnet_v2(images, small_blocks(module), num_classes, scope="small", **kwargs)

    return builder


def training_step(builder, scope, shape, values, images, labels, updates_collections, mode, **kwargs):
    """Loss, gradients by variable, and the moving statistics after the step."""
    graph = tf.Graph()
    with graph.as_default():
        placeholder = v1.placeholder(tf.float32, shape, name="images")
        if mode == "python":
            is_training, feeds = True, {}
        else:
            is_training = v1.placeholder(tf.bool, [], name="is_training")
            feeds = {is_training: mode == "true tensor"}
        with scope:
            _, end_points = builder(placeholder, 11, is_training=is_training, **kwargs)
        logits = tf.reshape(next(tensor for key, tensor in end_points.items() if key.endswith("/logits")), [-1, 11])
        loss = v1.losses.sparse_softmax_cross_entropy(labels, logits)
        loss += tf.add_n(graph.get_collection(v1.GraphKeys.REGULARIZATION_LOSSES))
        variables = graph.get_collection(v1.GraphKeys.TRAINABLE_VARIABLES)
        gradients = {v.op.name: gradient for v, gradient in zip(variables, tf.gradients(loss, variables), strict=True)}
        updates = graph.get_collection(updates_collections) if updates_collections else []
        moving = {
            variable.op.name: variable
            for variable in graph.get_collection(v1.GraphKeys.GLOBAL_VARIABLES)
            if "/moving_" in variable.op.name
        }
        with v1.Session(graph=graph) as session:
            assign(session, values)
            results = session.run([loss, gradients, updates], {placeholder: images, **feeds})
            return results[0], results[1], session.run(moving)


def assert_same_step(step, expected):
    (loss, gradients, moving), (their_loss, their_gradients, their_moving) = step, expected
    assert loss == pytest.approx(their_loss, rel=1e-5)
    global_norm = np.sqrt(sum(np.sum(np.square(gradient)) for gradient in their_gradients.values()))
    assert gradients.keys() == their_gradients.keys()
    for name, gradient in their_gradients.items():
        difference = np.linalg.norm(gradients[name] - gradient)
        # The second bound is for gradients that vanish: of a bias in front of a batch norm.
        assert difference <= max(1e-5 * np.linalg.norm(gradient), 1e-7 * global_norm), name
    assert moving.keys() == their_moving.keys()
    for name, value in their_moving.items():
        assert relative_difference(moving[name], value) <= 1e-5, name


def compare_steps(builder, their_builder, shape, updates_collections, mode, **kwargs):
    """Compares the steps; returns the moving statistics before and after."""
    generator = np.random.default_rng(2)
    images = generator.normal(size=shape).astype(np.float32)
    labels = generator.integers(0, 11, shape[0])
    graph = tf.Graph()
    with graph.as_default(), slim.arg_scope(resnet_v2.resnet_arg_scope()):
        builder(v1.placeholder(tf.float32, shape), 11)
        values = random_values(variables_of(graph))
    step, expected = (
        training_step(one, scope, shape, values, images, labels, updates_collections, mode, **kwargs)
        for one, scope in (
            (
                builder,
                slim.arg_scope(resnet_v2.resnet_arg_scope(batch_norm_updates_collections=updates_collections)),
            ),
            (their_builder, tf_slim_scope(updates_collections)),
        )
    )
    assert_same_step(step, expected)
    return {name: values[name] for name in step[2]}, step[2]


@pytest.mark.parametrize("updates_collections", [UPDATE_OPS, None, "my_updates"])
@pytest.mark.parametrize("mode", ["python", "true tensor", "false tensor"])
def test_training_step_equals_tf_slims(updates_collections, mode):
    before, after = compare_steps(small(resnet_v2), small(tf_slim_v2), [4, 65, 65, 3], updates_collections, mode)
    changed = {name for name in before if not np.array_equal(before[name], after[name])}
    assert changed == (set() if mode == "false tensor" else set(before))


@pytest.mark.parametrize("onednn", ["0", "1"])
def test_atrous_training_step_equals_tf_slims(onednn):
    """In a process of its own: whether TensorFlow uses oneDNN is settled when it is imported."""
    call = "from tests import test_resnet_v2; test_resnet_v2.compare_atrous_steps()"
    environment = {**os.environ, "TF_ENABLE_ONEDNN_OPTS": onednn}
    done = subprocess.run([sys.executable, "-c", call], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def compare_atrous_steps():
    compare_steps(
        small(resnet_v2), small(tf_slim_v2), [2, 65, 65, 3], UPDATE_OPS, "python", output_stride=4, global_pool=True
    )


@pytest.mark.full
@pytest.mark.parametrize("updates_collections", [UPDATE_OPS, None])
def test_training_step_of_resnet_50_equals_tf_slims(updates_collections):
    compare_steps(
        resnet_v2.resnet_v2_50, tf_slim_builder("resnet_v2_50"), [8, 97, 97, 3], updates_collections, "python"
    )


# The options of the contract.


@contextlib.contextmanager
def graph_with_images(*shape):
    with tf.Graph().as_default():
        yield v1.placeholder(tf.float32, shape, name="images")


def build_small(images, num_classes=None, **kwargs):
    with slim.arg_scope(resnet_v2.resnet_arg_scope()):
        return resnet_v2.resnet_v2(images, small_blocks(resnet_v2), num_classes, scope="small", **kwargs)


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


def test_atrous_network_subsampled_equals_the_nominal_one():
    """The identity that atrous convolution rests on; odd sizes align the corners (arXiv:1606.00915)."""
    images = np.random.default_rng(0).normal(size=[2, 81, 97, 3]).astype(np.float32)
    with graph_with_images(*images.shape) as placeholder:
        options = {"global_pool": False, "is_training": False}
        nominal, _ = build_small(placeholder, **options)
        dense, _ = build_small(placeholder, **options, output_stride=4, reuse=True)
        dense = resnet_utils.subsample(dense, 4)
        with v1.Session() as session:
            assign(session, random_values(v1.global_variables()))
            expected, result = session.run([nominal, dense], {placeholder: images})
    assert relative_difference(result, expected) <= 1e-5


def test_stored_activations_are_those_before_the_stride():
    images = np.random.default_rng(0).normal(size=[2, 64, 64, 3]).astype(np.float32)
    with graph_with_images(*images.shape) as placeholder:
        net, end_points = build_small(placeholder, is_training=False)
        stored_net, stored = build_small(placeholder, is_training=False, reuse=True, store_non_strided_activations=True)
        assert stored["small/block1"].shape.as_list() == [2, 16, 16, 16]
        with v1.Session() as session:
            assign(session, random_values(v1.global_variables()))
            results = session.run(
                [net, stored_net, end_points["small/block1"], stored["small/block1"][:, ::2, ::2]],
                {placeholder: images},
            )
    assert relative_difference(results[1], results[0]) <= 1e-5
    assert relative_difference(results[3], results[2]) <= 1e-5


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
    """Whether the batch norms of a network built in the current arg scope train."""
    with graph_with_images(2, 64, 64, 3) as images:
        resnet_v2.resnet_v2(images, small_blocks(resnet_v2), scope="small", **kwargs)
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
        ({"output_stride": 6}, "multiple of 4"),
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
