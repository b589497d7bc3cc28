"""A frozen network is the same network, whole or in halves."""

import numpy as np
import pytest
import tensorflow as tf

from nets import nets_factory
from tools import freezing
from tools.freezing import freeze, import_frozen, worth_splitting
from tools.peers.making import assign_random_weights, random_images

v1 = tf.compat.v1

IMAGES = random_images([8, 32, 32, 3], "inception")

NAMES = ("resnet_v2_tiny/block2", "resnet_v2_tiny/logits")


@pytest.fixture(scope="module")
def network():
    """A session, its images, two of its end points, and their values for 8 images."""
    with tf.Graph().as_default(), v1.Session() as session:
        images = v1.placeholder(tf.float32, [None, 32, 32, 3], name="images")
        logits, end_points = nets_factory.get_network_fn("resnet_v2_tiny", 10)(images)
        assign_random_weights(session, images, logits, IMAGES)
        outputs = [end_points[name] for name in NAMES]
        yield session, images, outputs, session.run(outputs, {images: IMAGES})


def test_what_is_left_of_the_graph(network):
    session, _, outputs, _ = network
    graph_def = freeze(session, outputs[:1])
    kinds = {node.op for node in graph_def.node}
    assert "Const" in kinds
    assert not {"VarHandleOp", "ReadVariableOp", "Softmax"} & kinds
    assert not [node.name for node in graph_def.node if "block3" in node.name]


@pytest.mark.parametrize("split", [False, True])
@pytest.mark.parametrize("count", [1, 2, 3, 8])
def test_the_same_network(network, split, count):
    """Of any number of images, also of one, which has no halves; in the order of the images."""
    session, images, outputs, expected = network
    graph_def = freeze(session, outputs)
    with tf.Graph().as_default() as graph, v1.Session() as frozen:
        fed = v1.placeholder(tf.float32, [None, 32, 32, 3])
        tensors = import_frozen(graph_def, {images.name: fed}, [tensor.name for tensor in outputs], split=split)
        values = frozen.run(tensors, {fed: IMAGES[:count]})
        constants = [op for op in graph.get_operations() if op.type == "Const"]
    for value, whole in zip(values, expected, strict=True):
        # Other batch sizes and fused ops round otherwise.
        np.testing.assert_allclose(value, whole[:count], rtol=0, atol=1e-5 * np.abs(whole).max())
    # The weights are there once.
    assert sum(op.outputs[0].shape == [3, 3, 128, 128] for op in constants) == 1


def test_weights_that_no_graph_can_hold(network, monkeypatch):
    session, _, outputs, _ = network
    monkeypatch.setattr(freezing, "_LARGEST", 1000)
    with pytest.raises(ValueError, match="are more than a graph can hold as constants"):
        freeze(session, outputs)


@pytest.mark.parametrize(
    ("batch_size", "threads", "gpus", "expected"),
    [(32, 2, [], True), (1, 2, [], False), (32, 1, [], False), (32, 2, ["a GPU"], False)],
)
def test_when_halves_are_worth_it(monkeypatch, batch_size, threads, gpus, expected):
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: gpus)
    assert worth_splitting(batch_size, threads) is expected
