"""Compares graphs whose units' variables were copied with the same graphs made one variable at a time."""

import contextlib
import gc

import numpy as np
import pytest
import tensorflow as tf
import tf_slim as slim

from nets import fast_units, layers, nets_factory, resnet_v2
from nets.resnet_utils import Block, stack_blocks_dense

v1 = tf.compat.v1


def build(name="resnet_v2_50", surrounding=contextlib.nullcontext, **kwargs):
    with tf.Graph().as_default() as graph, surrounding():
        images = v1.placeholder(tf.float32, [None, 64, 64, 3])
        network = nets_factory.get_network(name)
        with slim.arg_scope(network.arg_scope()):
            network.builder(images, 11, **kwargs)
    return graph


@pytest.fixture
def copies(monkeypatch):
    """Returns a list that gets the scopes of the units whose ops are copied."""
    copied = []
    original = fast_units._Template.copy_ops

    def copy_ops(self, scopes):
        copied.extend(scopes)
        original(self, scopes)

    monkeypatch.setattr(fast_units._Template, "copy_ops", copy_ops)
    return copied


def as_written(graph):
    """Returns the nodes and the collections of a graph, by name."""
    nodes = {node.name: node.SerializeToString(deterministic=True) for node in graph.as_graph_def().node}
    collections = {
        key: [getattr(item, "name", item) for item in graph.get_collection(key)]
        for key in graph.get_all_collection_keys()
    }
    return nodes, collections


def one_by_one(monkeypatch, **kwargs):
    with monkeypatch.context() as patch:
        patch.setattr(fast_units, "_UNITS", {})
        return as_written(build(**kwargs))


# Number of copied units. All units of a block but the first are equal, and the others are copied from the second. In
# block1 of resnet_basic_34 the first unit is equal to the others too.
OTHERS = {
    "resnet_v1_50": 1 + 2 + 4 + 1,
    "resnet_basic_34": 2 + 2 + 4 + 1,
    "resnet_keras_50": 1 + 2 + 4 + 1,
    "resnet_cifar_32": 3 + 3 + 3,
    "resnet_cifar_164": 16 + 16 + 16,
}


@pytest.mark.parametrize(
    "name", [name if not name.endswith("164") else pytest.param(name, marks=pytest.mark.full) for name in OTHERS]
)
def test_copied_graphs_of_other_networks_equal_those_made_one_by_one(name, copies, monkeypatch):
    copied = as_written(build(name, is_training=True))
    assert len(copies) == OTHERS[name]
    assert copied == one_by_one(monkeypatch, name=name, is_training=True)


@pytest.mark.parametrize("is_training", [False, True])
def test_copied_graph_equals_the_one_made_one_by_one(is_training, copies, monkeypatch):
    copied = as_written(build(is_training=is_training))
    # The blocks have 3, 4, 6 and 3 units. All but the first are equal, and all but the second are copied.
    assert len(copies) == 1 + 2 + 4 + 1
    assert copied == one_by_one(monkeypatch, is_training=is_training)


@contextlib.contextmanager
def outer_initial_value():
    deviation = tf.constant(0.1, name="outer")
    with slim.arg_scope([slim.conv2d], weights_initializer=v1.random_normal_initializer(stddev=deviation)):
        yield


@contextlib.contextmanager
def colocation():
    with v1.colocate_with(tf.constant(1.0, name="anchor").op):
        yield


def freeze_one(getter, name, *args, **kwargs):
    if "block3/unit_4" in name:
        kwargs["trainable"] = False
    return getter(name, *args, **kwargs)


SURROUNDINGS = {
    "device": lambda: tf.device("/cpu:0"),
    "device function": lambda: v1.device(lambda op: "/cpu:0"),
    "colocation": colocation,
    "initial value from outside": outer_initial_value,
    "partitioner": lambda: v1.variable_scope("", partitioner=v1.fixed_size_partitioner(2)),
    "partitioner of some": lambda: v1.variable_scope(
        "", partitioner=v1.min_max_variable_partitioner(max_partitions=2, min_slice_size=256 << 10)
    ),
    "getter that freezes": lambda: v1.variable_scope("", custom_getter=freeze_one),
    "regularizer": lambda: v1.variable_scope("", regularizer=slim.l2_regularizer(0.1)),
    "name scope": lambda: tf.name_scope("tower"),
}


# The others are of the same kind, and in the full run.
QUICK = ("initial value from outside", "partitioner of some", "regularizer")


@pytest.mark.parametrize(
    "name", [name if name in QUICK else pytest.param(name, marks=pytest.mark.full) for name in SURROUNDINGS]
)
def test_graph_is_the_same_in_any_surroundings(name, monkeypatch):
    surrounding = SURROUNDINGS[name]
    assert as_written(build(surrounding=surrounding)) == one_by_one(monkeypatch, surrounding=surrounding)


def test_graph_is_the_same_under_another_normalizer(monkeypatch):
    """The shape of layer norm's variables depends on the size of the image."""

    def build_normalized():
        with tf.Graph().as_default() as graph:
            images = v1.placeholder(tf.float32, [2, 64, 64, 3])
            normalizer = {"normalizer_fn": slim.layer_norm, "normalizer_params": {"begin_params_axis": 1}}
            with slim.arg_scope(resnet_v2.resnet_arg_scope()), slim.arg_scope([slim.conv2d], **normalizer):
                resnet_v2.resnet_v2_50(images)
        return as_written(graph)

    copied = build_normalized()
    monkeypatch.setattr(fast_units, "_UNITS", {})
    assert copied == build_normalized()


def test_names_that_are_taken_are_not_copied_to(copies):
    """An imported graph has the ops, and get_variable does not know them."""
    graph_def = build().as_graph_def()
    with tf.Graph().as_default():
        tf.graph_util.import_graph_def(graph_def, name="")
        images = v1.placeholder(tf.float32, [None, 64, 64, 3])
        copies.clear()
        with slim.arg_scope(resnet_v2.resnet_arg_scope()):
            resnet_v2.resnet_v2_50(images, 11)
    assert copies == []


def test_variables_differ_in_nothing_but_their_names(copies):
    graph = build()
    variables = graph.get_collection(v1.GraphKeys.GLOBAL_VARIABLES)
    assert len({type(variable) for variable in variables}) == 1
    with graph.as_default():
        for variable in variables:
            assert variable.initializer.name == variable.op.name + "/Assign"
            assert variable.initial_value.op.name.startswith(variable.op.name + "/Initializer/")
            assert variable.trainable == ("/moving_" not in variable.name)
    assert copies


def test_initial_values_of_copied_weights_are_drawn_anew(copies):
    graph = build()
    with v1.Session(graph=graph) as session:
        session.run([variable.initializer for variable in graph.get_collection(v1.GraphKeys.GLOBAL_VARIABLES)])
        scope = "resnet_v2_50/block3/unit_{}/bottleneck_v2/conv2/weights"
        weights = [
            session.run(variable)
            for unit in (2, 3, 4)
            for variable in graph.get_collection(v1.GraphKeys.GLOBAL_VARIABLES, scope.format(unit))
        ]
    assert len(weights) == 3
    assert "resnet_v2_50/block3/unit_4/" in copies
    # He et al.: variance 2 / fan in, truncated.
    assert [value.std() for value in weights] == pytest.approx([np.sqrt(2 / (9 * 256))] * 3, rel=0.02)
    assert np.corrcoef([value.ravel() for value in weights])[np.triu_indices(3, 1)] == pytest.approx(0, abs=0.01)


def test_with_a_seed_each_variable_draws_its_own(copies):
    with tf.Graph().as_default() as graph:
        v1.set_random_seed(1)
        images = v1.placeholder(tf.float32, [None, 64, 64, 3])
        with slim.arg_scope(resnet_v2.resnet_arg_scope()):
            resnet_v2.resnet_v2_50(images, 11)
    seeds = [op.get_attr("seed2") for op in graph.get_operations() if op.type == "TruncatedNormal"]
    assert len(seeds) == len(set(seeds)) == 54
    assert copies == []


def test_somebody_elses_variable_creator_sees_every_variable(copies):
    names = []

    def creator(next_creator, **kwargs):
        names.append(kwargs["name"])
        return next_creator(**kwargs)

    with tf.Graph().as_default(), tf.variable_creator_scope(creator):
        images = v1.placeholder(tf.float32, [None, 64, 64, 3])
        with slim.arg_scope(resnet_v2.resnet_arg_scope()):
            resnet_v2.resnet_v2_50(images, 11)
        assert names == [variable.op.name for variable in v1.global_variables()]
    assert copies == []


def test_a_custom_getter_sees_every_variable():
    names = []

    def getter(getter, name, *args, **kwargs):
        names.append(name)
        return getter(name, *args, **kwargs)

    with tf.Graph().as_default(), v1.variable_scope("outer", custom_getter=getter):
        images = v1.placeholder(tf.float32, [None, 64, 64, 3])
        with slim.arg_scope(resnet_v2.resnet_arg_scope()):
            resnet_v2.resnet_v2_50(images, 11)
        assert names == [variable.op.name for variable in v1.global_variables()]


def test_a_unit_that_is_not_as_the_one_before_keeps_its_own_variables():
    """A user's unit function may depend on more than its arguments, and take arguments without a hash."""
    sizes = iter([3, 5, 7])

    def unit(net, rate, depth, list_of_something):
        return layers.conv2d(net, depth, [next(sizes), 1], normalizer_fn=None, scope="conv")

    block = Block("block1", unit, [{"depth": 4, "list_of_something": []}] * 3)
    with tf.Graph().as_default():
        stack_blocks_dense(v1.placeholder(tf.float32, [None, 8, 8, 4]), [block])
        kernels = [variable for variable in v1.global_variables() if variable.op.name.endswith("weights")]
    assert [variable.shape.as_list()[0] for variable in kernels] == [3, 5, 7]
    assert [variable.op.name for variable in kernels] == [f"block1/unit_{i}/conv/weights" for i in (1, 2, 3)]


@pytest.mark.parametrize(
    "regularizer",
    [
        lambda weights, factor: tf.reduce_sum(tf.abs(weights)),
        lambda weights, factor: factor * tf.nn.l2_loss(weights),
        lambda weights, factor: None,
        lambda weights, factor: tf.nn.l2_loss(tf.nn.dropout(weights, 0.5, seed=3)),
    ],
    ids=["of the weights alone", "of a tensor from outside", "of nothing", "of a seed"],
)
def test_losses_of_another_regularizer(regularizer, copies, monkeypatch):
    """The graph is the same whether the losses are copied or made one by one."""

    def graph():
        with tf.Graph().as_default() as graph:
            factor = v1.placeholder(tf.float32, [], name="factor")
            images = v1.placeholder(tf.float32, [None, 64, 64, 3])
            scope = slim.arg_scope([layers.conv2d], weights_regularizer=lambda weights: regularizer(weights, factor))
            with slim.arg_scope(resnet_v2.resnet_arg_scope()), scope:
                resnet_v2.resnet_v2_50(images, 11, is_training=False)
        return as_written(graph)

    copied = graph()
    assert copies
    monkeypatch.setattr(fast_units, "_UNITS", {})
    assert copied == graph()


@pytest.mark.parametrize("enabled", [True, False])
def test_the_garbage_collector_is_left_as_it_was(enabled):
    (gc.enable if enabled else gc.disable)()
    try:
        build("resnet_v2_tiny")
        assert gc.isenabled() is enabled
        with pytest.raises(ValueError, match="output_stride"), tf.Graph().as_default():
            stack_blocks_dense(v1.placeholder(tf.float32, [None, 8, 8, 3]), [], output_stride=3)
        assert gc.isenabled() is enabled
    finally:
        gc.enable()
