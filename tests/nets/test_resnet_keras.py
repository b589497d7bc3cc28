"""Compares the Keras tutorial's networks with functional models of Keras, given the same weights."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
import tf_slim as slim

from nets import nets_factory, resnet_keras
from nets.layer_info import describe_layers
from nets.resnet_utils import Block
from tests.helpers import float64
from tests.helpers.float64 import assert_as_exact
from tests.helpers.reference import assign
from tools.cli import main

v1 = tf.compat.v1

NAMES = (
    "resnet_keras_18",
    pytest.param("resnet_keras_34", marks=pytest.mark.full),
    "resnet_keras_50",
    pytest.param("resnet_keras_101", marks=pytest.mark.full),
    pytest.param("resnet_keras_152", marks=pytest.mark.full),
    "resnet_keras_18_digits",
)
# The summary of the 18-layer network that the tutorial prints: layer, output shape, parameters.
PRINTED = Path(__file__).parents[1] / "golden" / "resnet_keras_18_layers.csv"


def keras_model(name, **kwargs):
    from tests.helpers import keras_resnet

    if name.endswith("_digits"):
        return keras_resnet.digits(**kwargs)
    return keras_resnet.resnet(int(name.rpartition("_")[2]), **kwargs)


@pytest.mark.numerical
@pytest.mark.parity
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("size", [64, 45])
def test_outputs_equal_keras(name, size):
    from tests.helpers import keras_resnet

    model = keras_model(name, num_classes=11, image_size=size)
    keras_resnet.randomize(model, seed=0)
    images = np.random.default_rng(1).normal(size=[2, *model.input.shape[1:]]).astype(np.float32)
    expected, _ = float64.of_keras(model, images)
    values = keras_resnet.values_by_slim_name(model, name)
    with tf.Graph().as_default(), slim.arg_scope(resnet_keras.resnet_keras_arg_scope()):
        placeholder = v1.placeholder(tf.float32, images.shape)
        logits, end_points = nets_factory.networks_map[name](placeholder, 11, is_training=False)
        with v1.Session() as session:
            assign(session, values)
            logits, predictions = session.run([logits, end_points["predictions"]], {placeholder: images})
    assert expected.double.std() > 0.01
    assert_as_exact(predictions, expected)
    # The model ends in a softmax: the logits are its logarithm, up to a constant.
    assert_as_exact(centred(logits), expected.map(lambda values: centred(np.log(values.astype(np.float64)))))


def centred(values):
    return values - values.mean(axis=-1, keepdims=True)


def without_dropout(name):
    return {} if name.endswith("_digits") else {"dropout_rate": 0.0}


@pytest.mark.numerical
@pytest.mark.parametrize(
    "name", ["resnet_keras_18", pytest.param("resnet_keras_50", marks=pytest.mark.full), "resnet_keras_18_digits"]
)
def test_training_statistics_equal_keras(name):
    """Batch statistics normalize, and the moving ones become 0.99 old + 0.01 new, as in Keras."""
    from tests.helpers import keras_resnet

    model = keras_model(name, num_classes=11, image_size=32)
    keras_resnet.randomize(model, seed=0)
    images = np.random.default_rng(1).normal(size=[8, *model.input.shape[1:]]).astype(np.float32)
    before = keras_resnet.values_by_slim_name(model, name)
    for layer in model.layers:
        if type(layer).__name__ == "Dropout":
            layer.rate = 0.0
    expected, exact = float64.of_keras(model, images, training=True)
    after, exactly_after = (keras_resnet.values_by_slim_name(one, name) for one in (model, exact))
    with tf.Graph().as_default(), slim.arg_scope(resnet_keras.resnet_keras_arg_scope()):
        placeholder = v1.placeholder(tf.float32, images.shape)
        _, end_points = nets_factory.networks_map[name](placeholder, 11, is_training=True, **without_dropout(name))
        with v1.Session() as session:
            assign(session, before)
            updates = v1.get_collection(v1.GraphKeys.UPDATE_OPS)
            predictions, _ = session.run([end_points["predictions"], updates], {placeholder: images})
            result = session.run({v.op.name: v for v in v1.global_variables() if "/moving_" in v.op.name})
    # Batch statistics over few values amplify rounding.
    assert_as_exact(predictions, expected, near=1e-3)
    assert len(result) == 2 * len(keras_resnet.slim_scopes(name))
    for key, value in result.items():
        assert not np.array_equal(after[key], before[key])
        assert_as_exact(value, float64.Reference(after[key], exactly_after[key]))


@pytest.mark.numerical
def test_logits_are_dropped_in_training_alone():
    images = np.random.default_rng(1).normal(size=[4, 32, 32, 3]).astype(np.float32)
    with tf.Graph().as_default(), slim.arg_scope(resnet_keras.resnet_keras_arg_scope()):
        placeholder, training = v1.placeholder(tf.float32, images.shape), v1.placeholder(tf.bool, [])
        net, end_points = resnet_keras.resnet_keras_18(placeholder, 1000, is_training=training)
        tensors = [end_points["resnet_keras_18/logits"], net, end_points["predictions"]]
        with v1.Session() as session:
            session.run(v1.global_variables_initializer())
            logits, dropped, predictions = session.run(tensors, {placeholder: images, training: True})
            kept = dropped != 0
            # Fewer than 42 % or more than 58 % of 4,000 coins are heads once in 10^23 times.
            assert 0.42 < kept.mean() < 0.58
            np.testing.assert_allclose(dropped[kept], 2 * logits[kept], rtol=1e-6)
            np.testing.assert_allclose(predictions.sum(axis=-1), 1, rtol=1e-5)
            logits, dropped, _ = session.run(tensors, {placeholder: images, training: False})
            assert np.array_equal(dropped, logits)
        # With a bool, too.
        net, _ = resnet_keras.resnet_keras_18(placeholder, 1000, is_training=True, reuse=True)
        with v1.Session() as session:
            session.run(v1.global_variables_initializer())
            assert 0.42 < (session.run(net, {placeholder: images}) == 0).mean() < 0.58


def test_dropout_from_a_seed():
    """The same seed drops the same logits, in another graph and session too."""
    images = np.random.default_rng(1).normal(size=[4, 16, 16, 3]).astype(np.float32)
    blocks = [Block("block1", resnet_keras.basic_keras, [{"depth": 8, "stride": 2}])]

    def dropped(is_training, *seeds):
        with tf.Graph().as_default(), v1.Session() as session:
            seed, mode = v1.placeholder(tf.int64, [2]), v1.placeholder_with_default(True, [])
            mode = mode if is_training is None else is_training
            net, _ = resnet_keras.resnet_keras(tf.constant(images), blocks, 1000, mode, dropout_seed=seed)
            session.run(v1.global_variables_initializer())
            return [session.run(net, {seed: one}) == 0 for one in seeds]

    first, second, again = dropped(True, [3, 1], [3, 2], [3, 1])
    assert 0.42 < first.mean() < 0.58
    assert 0.42 < (first == second).mean() < 0.58
    assert np.array_equal(first, again)
    assert np.array_equal(dropped(None, [3, 1])[0], first)  # the mode is a tensor
    assert not dropped(False, [3, 1])[0].any()


# Layers as Keras lists them.


@pytest.mark.parametrize("name", NAMES)
def test_layers_equal_keras_summary(name):
    from tests.helpers import keras_resnet

    expected = keras_resnet.summary_rows(keras_model(name))
    network = nets_factory.get_network(name)
    with tf.Graph().as_default():
        size = network.image_size
        images = v1.placeholder(tf.float32, [None, size, size, network.channels])
        _, end_points = nets_factory.get_network_fn(name, network.num_classes)(images)
        layers = describe_layers(images, end_points["predictions"])
    rows = [(layer.name, layer.kind, (None, *layer.shape), layer.parameters) for layer in layers]
    if name.endswith("_digits"):
        # It calls its activations ReLU layers, flattens nothing, and has the softmax inside the dense layer.
        rows = [(kind, shape, parameters) for _, kind, shape, parameters in rows if kind not in ("Flatten", "Softmax")]
        expected = [(kind.replace("ReLU", "Activation"), shape, parameters) for _, kind, shape, parameters in expected]
    assert rows == expected
    assert sum(row[-1] for row in rows) == network.parameters


def test_printed_layers_are_the_tutorials(capsys):
    assert main(["nets", "resnet_keras_18", "--layers", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    with PRINTED.open(encoding="utf-8", newline="") as file:
        expected = list(csv.reader(file))
    assert len(expected) == 78
    printed = [[row["name"], "x".join(map(str, row["shape"])), str(row["parameters"])] for row in rows]
    # The input layer, which today's Keras names differently.
    printed[0][0] = "input_1"
    assert printed == expected
    assert main(["nets", "resnet_keras_18", "--layers"]) == 0
    table = capsys.readouterr().out
    assert "conv2d_3 (Conv2D)" in table
    assert table.splitlines()[-1] == "11,708,328 parameters: 11,698,600 trainable, 9,728 not"


def test_layers_are_those_of_one_network_alone():
    """Another network in the graph trains the same variables."""
    with tf.Graph().as_default(), slim.arg_scope(resnet_keras.resnet_keras_arg_scope()):
        images = v1.placeholder(tf.float32, [None, 32, 32, 3])
        resnet_keras.resnet_keras_18(images, 10, is_training=True)
        _, end_points = resnet_keras.resnet_keras_18(images, 10, is_training=False, reuse=True)
        beside = describe_layers(images, end_points["predictions"])
        with pytest.raises(ValueError, match="Const:0 does not depend on Placeholder:0"):
            describe_layers(images, tf.constant([[1.0]]))
    with tf.Graph().as_default():
        images = v1.placeholder(tf.float32, [None, 32, 32, 3])
        _, end_points = nets_factory.get_network_fn("resnet_keras_18", 10)(images)
        alone = describe_layers(images, end_points["predictions"])
    assert [layer[:2] + layer[3:] for layer in beside] == [layer[:2] + layer[3:] for layer in alone]


# Bad input.


@pytest.mark.parametrize(
    ("shape", "kwargs", "message"),
    [
        ((1, 64, 64, 3), {"num_classes": -1}, "num_classes must be a whole number of at least 0, and is -1"),
        ((1, 64, 64, 3), {"dropout_rate": 1.0}, "dropout_rate must be a number of at least 0 and below 1, and is 1.0"),
        ((64, 64, 3), {}, "inputs must be"),
        ((1, 64, 64, None), {}, "inputs must be"),
    ],
)
def test_impossible_arguments_are_refused(shape, kwargs, message):
    with tf.Graph().as_default(), pytest.raises(ValueError, match=message):
        resnet_keras.resnet_keras_18(v1.placeholder(tf.float32, shape), **kwargs)


def test_there_is_no_dilated_unit():
    images = tf.Graph()
    with images.as_default(), pytest.raises(ValueError, match="rate must be 1"):
        resnet_keras.basic_keras(v1.placeholder(tf.float32, [1, 8, 8, 4]), 4, 1, rate=2)
