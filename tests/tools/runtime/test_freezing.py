"""Tests that a frozen network computes the same, whole or in halves."""

import logging
import threading

import numpy as np
import pytest
import tensorflow as tf

from checkpoints.restoring.assignment import assign
from nets import nets_factory
from tests.helpers.float64 import assert_as_exact, references
from tools.runtime import freezing
from tools.runtime.freezing import freeze, import_frozen, import_thawed, worth_splitting
from tools.runtime.random_weights import assign_random_weights, random_images

v1 = tf.compat.v1

IMAGES = random_images([8, 32, 32, 3], "inception")

NAMES = ("resnet_v2_tiny/block2", "resnet_v2_tiny/logits")


@pytest.fixture(scope="module")
def network():
    """Returns a session, its images, two end points, and their values for 8 images."""
    with tf.Graph().as_default(), v1.Session() as session:
        images = v1.placeholder(tf.float32, [None, 32, 32, 3], name="images")
        logits, end_points = nets_factory.get_network_fn("resnet_v2_tiny", 10)(images)
        assign_random_weights(session, images, logits, IMAGES)
        outputs = [end_points[name] for name in NAMES]
        expected = references(session, dict(zip(NAMES, outputs, strict=True)), {images: IMAGES})
        yield session, images, outputs, [expected[name] for name in NAMES]


def test_what_is_left_of_the_graph(network):
    session, _, outputs, _ = network
    graph_def = freeze(session, outputs[:1])
    kinds = {node.op for node in graph_def.node}
    assert "Const" in kinds
    assert not {"VarHandleOp", "ReadVariableOp", "Softmax"} & kinds
    assert not [node.name for node in graph_def.node if "block3" in node.name]


def test_a_thawed_graph_has_the_variables_of_the_network(network):
    session, images, outputs, _ = network
    graph_def = freeze(session, outputs, [images])
    with session.graph.as_default():
        wanted = {variable.op.name: variable for variable in v1.global_variables()}
    values = session.run(wanted)
    with tf.Graph().as_default() as graph, v1.Session() as thawed:
        variables = import_thawed(graph_def)
        assign(thawed, variables)
        assert {variable.op.name for variable, _ in variables} == wanted.keys()
        found = thawed.run({variable.op.name: variable for variable, _ in variables})
        assert all(np.array_equal(found[name], values[name]) for name in wanted)
        computed = thawed.run([tensor.name for tensor in outputs], {images.name: IMAGES})
        constants = [op for op in graph.get_operations() if op.type == "Const" and op.name in wanted]
    assert not constants
    for value, own in zip(computed, session.run(outputs, {images: IMAGES}), strict=True):
        assert np.array_equal(value, own)


@pytest.mark.numerical
@pytest.mark.parametrize("split", [False, True])
@pytest.mark.parametrize("count", [1, 2, 3, 8])
def test_the_same_network(network, split, count):
    """It takes any number of images, even a single one, which has no halves, and keeps their order."""
    session, images, outputs, expected = network
    graph_def = freeze(session, outputs)
    with tf.Graph().as_default() as graph, v1.Session() as frozen:
        fed = v1.placeholder(tf.float32, [None, 32, 32, 3])
        tensors = import_frozen(graph_def, {images.name: fed}, [tensor.name for tensor in outputs], split=split)
        values = frozen.run(tensors, {fed: IMAGES[:count]})
        constants = [op for op in graph.get_operations() if op.type == "Const"]
    for value, whole in zip(values, expected, strict=True):
        # Other batch sizes and fused ops round differently.
        assert_as_exact(value, whole[:count])
    # The halves share the weights.
    assert sum(op.outputs[0].shape == [3, 3, 128, 128] for op in constants) == 1


def test_weights_that_no_graph_can_hold(network, monkeypatch):
    session, _, outputs, _ = network
    monkeypatch.setattr(freezing, "_LARGEST", 1000)
    with pytest.raises(ValueError, match="are more than the 2 GiB that a graph can hold as constants"):
        freeze(session, outputs)


@pytest.mark.parametrize(
    ("batch_size", "threads", "gpus", "expected"),
    [(32, 2, [], True), (1, 2, [], False), (32, 1, [], False), (32, 2, ["a GPU"], False)],
)
def test_when_halves_are_worth_it(monkeypatch, batch_size, threads, gpus, expected):
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: gpus)
    assert worth_splitting(batch_size, threads) is expected


# Inputs that are not placeholders: functions from a placeholder of [None, 4, 4, 2] to the input.
INPUTS = {
    "an identity": tf.identity,
    "a cast": lambda images: tf.cast(tf.cast(images, tf.float64), tf.float32),
    "an addition": lambda images: images + 1.0,
    "a default": lambda images: v1.placeholder_with_default(np.ones([3, 4, 4, 2], np.float32), [None, 4, 4, 2]),
    "a reshape": lambda images: tf.reshape(images, [-1, 4, 4, 2]),
    "a concatenation": lambda images: tf.concat([images, images], axis=0),
    "one component of a dataset": lambda images: dataset(images=True).get_next()["images"],
    "the first of two components": lambda images: dataset(images=True, labels=True).get_next()["images"],
    "a split": lambda images: tf.split(images, 1, axis=0)[0],
    "under a control dependency": lambda images: after_a_check(images, tf.negative),
    "a variable": lambda images: v1.get_variable("fed", initializer=np.ones([3, 4, 4, 2], np.float32)).read_value(),
}


def dataset(**components):
    """Returns an iterator over a batch of ones for each component."""
    batches = tf.data.Dataset.from_tensors({name: np.ones([3, 4, 4, 2], np.float32) for name in components})
    return v1.data.make_one_shot_iterator(batches)


def after_a_check(images, function):
    with tf.control_dependencies([v1.assert_less(tf.reduce_max(images), 100.0)]):
        return function(images)


def on_its_own(graph_def, name, feed, output):
    """Returns the value of a graph's output in a session of its own, with a fed input."""
    with tf.Graph().as_default(), v1.Session() as session:
        value, placeholder = tf.graph_util.import_graph_def(graph_def, return_elements=[output, name], name="")
        assert placeholder.op.type == "Placeholder"
        assert {attribute for attribute in placeholder.op.node_def.attr if attribute[0] != "_"} == {"dtype", "shape"}
        return session.run(value, {placeholder: feed})


@pytest.mark.parametrize("case", INPUTS)
def test_any_tensor_becomes_a_placeholder(case):
    feed = np.random.default_rng(0).normal(size=[3, 4, 4, 2]).astype(np.float32)
    with tf.Graph().as_default(), v1.Session() as session:
        images = INPUTS[case](v1.placeholder(tf.float32, [None, 4, 4, 2]))
        kernel = v1.get_variable("kernel", [3, 3, 2, 5])
        outputs = tf.nn.conv2d(images, kernel, 1, "SAME")
        session.run(v1.global_variables_initializer())
        expected = session.run(outputs, {images: feed})
        graph_def = freeze(session, [outputs], [images])
    result = on_its_own(graph_def, images.name, feed, outputs.name)
    np.testing.assert_array_equal(result, expected)


def test_what_else_hangs_on_what_made_the_input_is_kept_apart():
    """One operation is colocated with a removed one, and another waits for the input."""
    with tf.Graph().as_default(), v1.Session() as session:
        pixels = v1.placeholder(tf.float32, [2], name="pixels")
        scaled = tf.multiply(pixels, 2.0, name="scaled")
        images = tf.add(scaled, 1.0, name="images")
        with v1.colocate_with(scaled.op):
            beside = tf.multiply(images, 3.0)
        with tf.control_dependencies([images]):
            outputs = tf.add(beside, tf.constant([10.0, 20.0]))
        graph_def = freeze(session, [outputs], [images])
    assert {node.name for node in graph_def.node}.isdisjoint({"pixels", "scaled"})
    assert on_its_own(graph_def, "images:0", np.float32([1, 2]), outputs.name).tolist() == [13.0, 26.0]


def test_an_input_that_no_placeholder_can_replace():
    with tf.Graph().as_default(), v1.Session() as session:
        first, second = tf.split(v1.placeholder(tf.float32, [4, 2]), 2, axis=0)
        with pytest.raises(ValueError, match=r"split:1 is not the first output .* tf.identity"):
            freeze(session, [second + 1.0], [second])
        with pytest.raises(ValueError, match=r"also uses split:1, which is lost .* tf.identity of split:0"):
            freeze(session, [first + second], [first])
        images = tf.identity(second)
        outputs = tf.add(images, first)
        graph_def = freeze(session, [outputs], [images])
        assert {"split", images.op.name} <= {node.name for node in graph_def.node}
        with tf.Graph().as_default():
            other = v1.placeholder(tf.float32, [2, 2], name=images.op.name)
        with pytest.raises(ValueError, match="belongs to another graph than the session"):
            freeze(session, [outputs], [other])


def test_threads_that_freeze_leave_tensorflows_messages_as_they_were(network):
    session, _, outputs, _ = network
    level = logging.getLogger("tensorflow").level
    barrier, frozen = threading.Barrier(4), []

    def work():
        barrier.wait()
        frozen.append(freeze(session, outputs))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(frozen) == 4
    assert logging.getLogger("tensorflow").level == level
