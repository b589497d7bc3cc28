"""Compares the slim families with tf_slim's networks, built in the same process and given the same weights."""

import itertools
import os
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
import tf_slim as slim
from tf_slim.nets import resnet_v1 as tf_slim_v1
from tf_slim.nets import resnet_v2 as tf_slim_v2

from nets import nets_factory, resnet_v1, resnet_v2
from nets.resnet_utils import resnet_arg_scope
from tests.helpers.float64 import Reference, assert_as_exact, references, session_in_float64
from tests.helpers.reference import assign, random_values
from tools.peers.slim_reference import tf_slim_builder, tf_slim_scope

v1 = tf.compat.v1

UPDATE_OPS = v1.GraphKeys.UPDATE_OPS

NETWORKS = (
    "resnet_v1_50",
    *(pytest.param(f"resnet_v1_{depth}", marks=pytest.mark.full) for depth in (101, 152, 200)),
    "resnet_v2_50",
    *(pytest.param(f"resnet_v2_{depth}", marks=pytest.mark.full) for depth in (101, 152, 200)),
    "resnet_v2_tiny",
)
FAMILIES = {"v1": (resnet_v1, tf_slim_v1), "v2": (resnet_v2, tf_slim_v2)}


def build(builder, scope, shape, **kwargs):
    """Returns (graph, end points) of a network of 1001 classes on a placeholder 'images'."""
    graph = tf.Graph()
    with graph.as_default():
        images = v1.placeholder(tf.float32, shape, name="images")
        with scope:
            _, end_points = builder(images, 1001, **kwargs)
    return graph, end_points


def both(name, shape, **kwargs):
    """Returns our network and tf_slim's, in inference mode; our logits are not squeezed, like tf_slim's."""
    ours = build(
        nets_factory.networks_map[name],
        slim.arg_scope(resnet_arg_scope()),
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


@pytest.mark.numerical
@pytest.mark.parity
@pytest.mark.parametrize("name", NETWORKS)
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


@pytest.mark.numerical
@pytest.mark.parametrize(
    ("name", "output_stride"),
    [
        step if step == ("resnet_v2_50", 8) else pytest.param(*step, marks=pytest.mark.full)
        for step in itertools.product((getattr(each, "values", (each,))[0] for each in NETWORKS), (8, 16))
    ],
)
def test_end_points_under_output_stride_equal_tf_slims(name, output_stride):
    shape = [1, 97, 129, 3]
    options = {"output_stride": output_stride, "global_pool": False}
    (graph, end_points), (their_graph, their_end_points) = both(name, shape, **options)
    values = random_values(variables_of(their_graph))
    images = np.random.default_rng(1).normal(size=shape).astype(np.float32)
    results = run(graph, end_points, values, images)
    with v1.Session(graph=their_graph) as session:
        assign(session, values)
        fed = their_graph.get_tensor_by_name("images:0")
        expected = references(session, their_end_points, {fed: images})
    assert list(results) == list(expected)
    for key, value in expected.items():
        assert_as_exact(results[key], value)


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("is_training", [pytest.param(False, marks=pytest.mark.full), True])
def test_names_and_collections_equal_tf_slims(name, is_training):
    shape = [None, 224, 224, 3]
    scope = slim.arg_scope(resnet_arg_scope())
    graph, end_points = build(
        nets_factory.networks_map[name], scope, shape, is_training=is_training, spatial_squeeze=False
    )
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


# A training step. The network is small, so that many of them take little time; the full run has the whole networks.


def small(module, family):
    generator, block = getattr(module, f"resnet_{family}"), getattr(module, f"resnet_{family}_block")
    blocks = [
        block("block1", base_depth=4, num_units=2, stride=2),
        block("block2", base_depth=8, num_units=1, stride=1),
    ]

    def builder(images, num_classes, **kwargs):
        return generator(images, blocks, num_classes, scope="small", **kwargs)

    return builder


def both_small(family):
    return [small(module, family) for module in FAMILIES[family]]


def training_step(builder, scope, shape, values, images, labels, updates_collections, mode, *, double=False, **kwargs):
    """Returns the loss, the gradients by variable, and the moving statistics after the step."""
    graph = tf.Graph()
    with graph.as_default():
        placeholder = v1.placeholder(tf.float32, shape, name="images")
        if mode == "python" or double:
            # A graph to compute in float64 must have no conditions, because their branches are functions.
            is_training, feeds = mode != "false tensor", {}
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
        if double:
            return step_in_float64(graph, values, [loss, gradients, updates], moving, images)
        with v1.Session(graph=graph) as session:
            assign(session, values)
            results = session.run([loss, gradients, updates], {placeholder: images, **feeds})
            return results[0], results[1], session.run(moving)


def step_in_float64(graph, values, fetches, moving, images):
    read = {name: variable.value() for name, variable in moving.items()}
    needed = tf.nest.flatten([fetches, read])
    with session_in_float64(graph, values, needed) as session:
        loss, gradients, _ = session.run(tf.nest.map_structure(lambda one: one.name, fetches), {"images:0": images})
        return loss, gradients, session.run({name: tensor.name for name, tensor in read.items()})


def assert_same_step(step, expected, exact):
    (loss, gradients, moving), (their_loss, their_gradients, their_moving), (_, exact_gradients, exact_moving) = (
        step,
        expected,
        exact,
    )
    # A sum of positive terms, which do not cancel.
    assert loss == pytest.approx(their_loss, rel=1e-5)
    global_norm = np.sqrt(sum(np.sum(np.square(gradient)) for gradient in their_gradients.values()))
    assert gradients.keys() == their_gradients.keys()
    for name, gradient in their_gradients.items():
        # The second scale is for gradients that vanish: of a bias in front of a batch norm.
        scale = max(np.abs(exact_gradients[name]).max(), 0.1 * global_norm / np.sqrt(gradient.size))
        assert_as_exact(gradients[name], Reference(gradient, exact_gradients[name]), scale=scale)
    assert moving.keys() == their_moving.keys()
    for name, value in their_moving.items():
        # A tenth of the mean of values of order 1, which may cancel.
        scale = max(np.abs(exact_moving[name]).max(), 0.1)
        assert_as_exact(moving[name], Reference(value, exact_moving[name]), scale=scale)


def compare_steps(builder, their_builder, shape, updates_collections, mode, *, in_float64=True, **kwargs):
    """Compares the steps; returns the moving statistics before and after.

    Where the ops are the same, and the network is so deep that gradients of float32 are not near float64's,
    ``in_float64=False`` compares with the other float32 alone.
    """
    generator = np.random.default_rng(2)
    images = generator.normal(size=shape).astype(np.float32)
    labels = generator.integers(0, 11, shape[0])
    graph = tf.Graph()
    with graph.as_default(), slim.arg_scope(resnet_arg_scope()):
        builder(v1.placeholder(tf.float32, shape), 11)
        values = random_values(variables_of(graph))
    given = [shape, values, images, labels, updates_collections, mode]
    our_scope = slim.arg_scope(resnet_arg_scope(batch_norm_updates_collections=updates_collections))
    step = training_step(builder, our_scope, *given, **kwargs)
    expected = exact = training_step(their_builder, tf_slim_scope(updates_collections), *given, **kwargs)
    if in_float64:
        exact = training_step(their_builder, tf_slim_scope(updates_collections), *given, double=True, **kwargs)
    assert_same_step(step, expected, exact)
    return {name: values[name] for name in step[2]}, step[2]


STEPS = [
    (family, updates_collections, mode)
    for family in FAMILIES
    for updates_collections in (UPDATE_OPS, None, "my_updates")
    for mode in ("python", "true tensor", "false tensor")
]
# Every collection and every mode once per family.
QUICK_STEPS = [
    ("v1", UPDATE_OPS, "python"),
    ("v2", None, "true tensor"),
]


@pytest.mark.numerical
@pytest.mark.parametrize(
    ("family", "updates_collections", "mode"),
    [step if step in QUICK_STEPS else pytest.param(*step, marks=pytest.mark.full) for step in STEPS],
)
def test_training_step_equals_tf_slims(family, updates_collections, mode):
    before, after = compare_steps(*both_small(family), [4, 65, 65, 3], updates_collections, mode)
    assert changed(before, after) == (set() if mode == "false tensor" else set(before))


def changed(before, after):
    """Returns the names of the moving statistics that a step changed."""
    return {name for name in before if not np.array_equal(before[name], after[name])}


@pytest.mark.full
@pytest.mark.numerical
@pytest.mark.parametrize("onednn", ["0", pytest.param("1", marks=pytest.mark.full)])
def test_atrous_training_step_equals_tf_slims(onednn):
    """Runs in its own process, since TensorFlow decides about oneDNN when it is imported."""
    call = "from tests.nets import test_slim_parity; test_slim_parity.compare_atrous_steps()"
    environment = {**os.environ, "TF_ENABLE_ONEDNN_OPTS": onednn}
    done = subprocess.run([sys.executable, "-c", call], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def compare_atrous_steps():
    for family in FAMILIES:
        compare_steps(*both_small(family), [2, 65, 65, 3], UPDATE_OPS, "python", output_stride=4, global_pool=True)


@pytest.mark.numerical
@pytest.mark.full
@pytest.mark.parametrize(
    "name", [name for name in nets_factory.NETWORKS if name.startswith(("resnet_v1", "resnet_v2"))]
)
def test_training_step_of_whole_networks_equals_tf_slims(name):
    ours, theirs = nets_factory.networks_map[name], tf_slim_builder(name)
    for updates_collections in (UPDATE_OPS, None):
        before, after = compare_steps(ours, theirs, [8, 97, 97, 3], updates_collections, "python", in_float64=False)
        assert changed(before, after) == set(before)
