"""Compares single layers with NumPy, and tests them under tf_slim's arg scopes and in every mode of graphs."""

import functools
import os
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
import tf_slim as slim

from nets import layers
from tests.helpers import bfloat16
from tests.helpers.reference import assign, random_values
from tools.peers.slim_reference import tf_slim_scope

v1 = tf.compat.v1


@pytest.fixture(autouse=True)
def graph():
    with tf.Graph().as_default() as graph:
        yield graph


def evaluate(tensors, values=None, feeds=None):
    with v1.Session() as session:
        assign(session, random_values(v1.global_variables()) if values is None else values)
        return session.run(tensors, feeds)


def images(*shape, dtype=np.float32, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(dtype)


# conv2d


@pytest.mark.numerical
def test_conv2d_is_a_correlation_with_bias_and_relu():
    inputs = images(2, 5, 6, 3)
    outputs = layers.conv2d(inputs, 4, [3, 1], padding="VALID", scope="conv")
    result, weights, biases = evaluate([outputs, *v1.global_variables()])
    expected = np.zeros([2, 3, 6, 4])
    for row in range(3):
        for column in range(6):
            window = inputs[:, row : row + 3, column : column + 1]
            expected[:, row, column] = np.tensordot(window, weights, axes=3) + biases
    # Sums of 9 products in float32, in any order: this many roundings of at most the sum of their sizes.
    sizes = np.abs(inputs).max() * np.abs(weights).sum((0, 1, 2)).max()
    np.testing.assert_allclose(result, np.maximum(expected, 0), rtol=0, atol=9 * 2**-24 * sizes)


def test_conv2d_variables_are_in_all_their_collections():
    layers.conv2d(
        images(1, 4, 4, 3),
        2,
        1,
        weights_regularizer=slim.l2_regularizer(0.5),
        variables_collections={"weights": ["mine"], "biases": ["mine", "more"]},
        outputs_collections="outputs",
        scope="conv",
    )
    weights, biases = slim.get_model_variables()
    assert [weights.op.name, biases.op.name] == ["conv/weights", "conv/biases"]
    assert v1.get_collection("mine") == [weights, biases]
    assert v1.get_collection("more") == [biases]
    assert [output.op.name for output in v1.get_collection("outputs")] == ["conv/Relu"]
    (loss,) = v1.losses.get_regularization_losses()
    assert loss.name == "conv/kernel/Regularizer/l2_regularizer:0"
    value, loss = evaluate([weights, loss])
    assert loss == pytest.approx(0.5 * np.sum(value**2) / 2)


def test_reused_layer_has_no_second_loss_and_joins_new_collections():
    options = {"weights_regularizer": slim.l2_regularizer(0.5), "scope": "conv"}
    layers.conv2d(images(1, 4, 4, 3), 2, 1, **options)
    layers.conv2d(images(1, 4, 4, 3), 2, 1, reuse=True, variables_collections=["mine"], **options)
    assert len(v1.global_variables()) == 2
    assert len(v1.losses.get_regularization_losses()) == 1
    assert v1.get_collection("mine") == v1.global_variables()


def test_untrainable_layer():
    layers.conv2d(images(1, 4, 4, 3), 2, 1, trainable=False)
    layers.batch_norm(images(1, 4, 4, 3), trainable=False)
    assert v1.trainable_variables() == []
    assert len(v1.global_variables()) == 5


def test_layers_answer_to_the_scopes_of_their_slim_namesakes():
    with slim.arg_scope([slim.conv2d], activation_fn=None), slim.arg_scope([slim.max_pool2d], padding="SAME"):
        net = layers.conv2d(images(1, 5, 5, 3), 2, 1, scope="conv")
        assert net.op.type == "BiasAdd"
        assert layers.max_pool2d(net, 3).shape.as_list() == [1, 3, 3, 2]
    assert slim.arg_scoped_arguments(slim.conv2d) == slim.arg_scoped_arguments(layers.conv2d)


@pytest.mark.parametrize("normalizer", [slim.batch_norm, functools.partial(slim.batch_norm, scale=True)])
def test_slims_batch_norm_as_normalizer_is_ours(normalizer):
    net = layers.conv2d(images(1, 4, 4, 3), 2, 1, normalizer_fn=normalizer, scope="conv")
    assert net.op.inputs[0].op.type == "FusedBatchNormV3"
    gamma = [variable for variable in v1.global_variables() if variable.op.name == "conv/BatchNorm/gamma"]
    assert len(gamma) == isinstance(normalizer, functools.partial)


def test_custom_getter_and_partitioner_are_obeyed():
    names = []

    def getter(getter, name, *args, **kwargs):
        names.append(name)
        return getter(name, *args, **kwargs)

    partitioner = v1.fixed_size_partitioner(2)
    with v1.variable_scope("outer", custom_getter=getter, partitioner=partitioner):
        net = layers.conv2d(
            images(1, 4, 4, 3),
            2,
            [2, 2],
            normalizer_fn=slim.batch_norm,
            weights_regularizer=slim.l2_regularizer(1.0),
            variables_collections=["mine"],
            scope="conv",
        )
    kinds = ["weights", "BatchNorm/beta", "BatchNorm/moving_mean", "BatchNorm/moving_variance"]
    assert names == [f"outer/conv/{kind}" for kind in kinds]
    cut = ["weights/part_0", "weights/part_1", "BatchNorm/beta/part_0", "BatchNorm/beta/part_1", *kinds[2:]]
    assert [variable.op.name for variable in slim.get_model_variables()] == [f"outer/conv/{name}" for name in cut]
    assert v1.get_collection("mine") == slim.get_model_variables()[:2]
    assert len(v1.losses.get_regularization_losses()) == 2
    assert np.isfinite(evaluate(net)).all()


@pytest.mark.numerical
def test_rate_is_a_dilation():
    inputs = images(1, 9, 9, 1)
    outputs = layers.conv2d(inputs, 1, 3, rate=2, padding="VALID", activation_fn=None, biases_initializer=None)
    result, weights = evaluate([outputs, v1.global_variables()[0]])
    expected = [
        [np.sum(inputs[0, row : row + 5 : 2, column : column + 5 : 2, 0] * weights[..., 0, 0]) for column in range(5)]
        for row in range(5)
    ]
    np.testing.assert_allclose(result[0, ..., 0], expected, atol=1e-5)


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"data_format": "NCHW"}, "data_format='NCHW'"),
        ({"stride": 2, "rate": 2}, "stride is .* and rate"),
    ],
)
def test_conv2d_refuses(kwargs, message):
    with pytest.raises(ValueError, match=message):
        layers.conv2d(images(1, 4, 4, 3), 2, 3, **kwargs)


@pytest.mark.parametrize("shape", [[4, 3], [None, 4, 4, None]])
def test_conv2d_refuses_inputs(shape):
    with pytest.raises(ValueError, match="conv2d"):
        layers.conv2d(v1.placeholder(tf.float32, shape), 2, 3)


# batch_norm


def batch_norm_in_numpy(inputs, values, training, epsilon=0.001, bessel=True):
    """Returns the outputs, and the statistics that enter the moving averages."""
    axes = tuple(range(inputs.ndim - 1))
    if training:
        mean, variance = inputs.mean(axes), inputs.var(axes)
    else:
        mean, variance = values["BatchNorm/moving_mean"], values["BatchNorm/moving_variance"]
    outputs = (inputs - mean) / np.sqrt(variance + epsilon) * values["BatchNorm/gamma"] + values["BatchNorm/beta"]
    count = np.prod([inputs.shape[axis] for axis in axes])
    return outputs, mean, variance * count / (count - 1) if bessel else variance


# slim has no fused op for rank 3, and one for rank 5 if the updates go to UPDATE_OPS, as they do here.
@pytest.mark.parametrize("shape", [(8, 5, 6, 3), (32, 3), (4, 7, 3), (2, 3, 4, 5, 3)])
@pytest.mark.numerical
@pytest.mark.parametrize("fused", [None, True, False])
@pytest.mark.parametrize("training", [True, False])
def test_batch_norm_equals_numpy(shape, fused, training):
    inputs = images(*shape) * 3 + 1
    outputs = layers.batch_norm(inputs, scale=True, decay=0.9, fused=fused, is_training=training)
    updates = v1.get_collection(v1.GraphKeys.UPDATE_OPS)
    assert len(updates) == (2 if training else 0)
    values = random_values(v1.global_variables())
    with v1.Session() as session:
        assign(session, values)
        result = session.run(outputs)
        session.run(updates)
        after = session.run({variable.op.name: variable for variable in v1.global_variables()})
    bessel = fused is not False and len(shape) != 3
    expected, mean, variance = batch_norm_in_numpy(inputs.astype(np.float64), values, training, bessel=bessel)
    np.testing.assert_allclose(result, expected, atol=1e-5)
    if training:
        for name, statistic in (("BatchNorm/moving_mean", mean), ("BatchNorm/moving_variance", variance)):
            # A tenth of values of up to 10 enters; means may cancel.
            np.testing.assert_allclose(after[name], 0.9 * values[name] + 0.1 * statistic, rtol=0, atol=8 * 2**-23)


@pytest.mark.parametrize(("rank", "bessel"), [(2, True), (3, False), (4, True), (5, False)])
def test_updates_in_place_have_the_variance_of_slim(rank, bessel):
    """Slim uses a fused op only for ranks 2 and 4 if the collection is not UPDATE_OPS."""
    inputs = images(*[4] * (rank - 1), 3) * 3 + 1
    outputs = layers.batch_norm(inputs, decay=0.0, updates_collections=None)
    with v1.Session() as session:
        session.run(v1.global_variables_initializer())
        session.run(outputs)
        variance = session.run(slim.get_variables_by_name("moving_variance")[0])
    axes = tuple(range(rank - 1))
    np.testing.assert_allclose(variance, inputs.astype(np.float64).var(axes, ddof=int(bessel)), rtol=1e-5)


@pytest.mark.parametrize("shape", [(None, 7, 3), (None, None, None, None, 3)])
def test_sizes_may_be_unknown_at_any_rank(shape):
    sizes = [4 if size is None else size for size in shape]
    fed, training = v1.placeholder(tf.float32, shape), v1.placeholder(tf.bool, [])
    outputs = layers.batch_norm(fed, scale=True, is_training=training)
    assert outputs.shape.as_list() == list(shape)
    values = random_values(v1.global_variables())
    for mode in (True, False):
        result = evaluate(outputs, values, {fed: images(*sizes), training: mode})
        expected, *_ = batch_norm_in_numpy(images(*sizes).astype(np.float64), values, mode)
        np.testing.assert_allclose(result, expected, atol=1e-5)


@pytest.mark.parametrize("shape", [(3,), (2, 2, 2, 2, 2, 3), None, (2, 4, 4, None)])
def test_batch_norm_refuses_inputs(shape):
    with pytest.raises(ValueError, match=r"batch_norm (takes inputs of rank 2 to 5|needs a known number of channels)"):
        layers.batch_norm(v1.placeholder(tf.float32, shape))


@pytest.mark.parametrize("data_format", ["NCDHW", "NDHWC", "NCHW", "NWC"])
def test_other_data_formats_are_refused_as_by_slim(data_format):
    with pytest.raises(ValueError, match=f"data_format='{data_format}' is not supported: .* channels last"):
        layers.batch_norm(images(2, 4, 4, 4, 3), data_format=data_format)


@pytest.mark.numerical
@pytest.mark.parametrize("dtype", [tf.float16, tf.bfloat16])
@pytest.mark.parametrize("fused", [None, False])
def test_half_precision_has_float32_parameters(dtype, fused):
    inputs = images(4, 5, 5, 3)
    outputs = layers.batch_norm(tf.cast(inputs, dtype), scale=True, fused=fused)
    assert outputs.dtype == dtype
    assert {variable.dtype.base_dtype for variable in v1.global_variables()} == {tf.float32}
    values = random_values(v1.global_variables())
    if dtype == tf.bfloat16 and fused is None and not bfloat16.batch_norms():
        with pytest.raises(tf.errors.AbortedError, match="batch normalization forward"):
            evaluate(outputs, values)
        return
    result = evaluate(tf.cast(outputs, tf.float32), values)
    expected, *_ = batch_norm_in_numpy(inputs, values, training=True)
    # bfloat16 has 8 bits of significand, so half a unit in the last place of a value up to 4 is 2^-7.
    np.testing.assert_allclose(result, expected, atol=4 * 2**-7 if dtype == tf.bfloat16 else 4 * 2**-10)


@pytest.mark.numerical
def test_updates_in_place_run_with_the_output():
    inputs = images(4, 5, 5, 3) + 1
    outputs = layers.batch_norm(inputs, decay=0.0, updates_collections=None)
    assert v1.get_collection(v1.GraphKeys.UPDATE_OPS) == []
    with v1.Session() as session:
        session.run(v1.global_variables_initializer())
        session.run(outputs)
        moving_mean = session.run(slim.get_variables_by_name("moving_mean")[0])
    np.testing.assert_allclose(moving_mean, inputs.mean((0, 1, 2)), rtol=1e-5)


def test_a_constant_tensor_as_is_training_is_settled_in_the_graph():
    layers.batch_norm(images(4, 5, 5, 3), is_training=tf.constant(False))
    assert "If" not in {op.type for op in v1.get_default_graph().get_operations()}
    assert v1.get_collection(v1.GraphKeys.UPDATE_OPS) == []


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"renorm": True}, "renorm"),
        ({"renorm_clipping": {"rmax": 2.0}}, "renorm_clipping"),
        ({"renorm_decay": 0.9}, "renorm_decay"),
        ({"batch_weights": np.ones(4, np.float32)}, "batch_weights"),
        ({"zero_debias_moving_mean": True}, "zero_debias_moving_mean"),
        ({"adjustment": lambda shape: (1.0, 0.0)}, "adjustment"),
        ({"data_format": "NCHW"}, "NCHW"),
        ({"param_initializers": {"gama": None}}, "gama"),
        ({"param_regularizers": {"moving_mean": None}}, "moving_mean"),
        ({"is_training": None}, "is_training"),
    ],
)
def test_batch_norm_refuses(kwargs, message):
    with pytest.raises(ValueError, match=message):
        layers.batch_norm(images(4, 5, 5, 3), **kwargs)


def test_param_initializers_and_regularizers():
    layers.batch_norm(
        images(4, 5, 5, 3),
        scale=True,
        param_initializers={"gamma": v1.constant_initializer(3.0), "moving_mean": v1.constant_initializer(2.0)},
        param_regularizers={"gamma": slim.l2_regularizer(1.0)},
    )
    with v1.Session() as session:
        session.run(v1.global_variables_initializer())
        values = session.run({variable.op.name: variable for variable in v1.global_variables()})
        (loss,) = session.run(v1.losses.get_regularization_losses())
    assert values["BatchNorm/gamma"].tolist() == [3.0] * 3
    assert values["BatchNorm/moving_mean"].tolist() == [2.0] * 3
    assert loss == pytest.approx(3 * 9 / 2)


# Initial values: slim's own initializers draw them, so only the default needs a test.


def test_default_initializer_is_slims():
    """Glorot and Bengio's is uniform within sqrt(6 / (fan in + fan out)); the variance is 2 / (fan in + fan out)."""
    layers.conv2d(images(1, 8, 8, 64), 64, 3, scope="conv")
    with tf_slim_scope(), slim.arg_scope([slim.conv2d], weights_initializer=slim.xavier_initializer()):
        slim.conv2d(images(1, 8, 8, 64), 64, 3, scope="theirs")
    with v1.Session() as session:
        session.run(v1.global_variables_initializer())
        ours, theirs = session.run([slim.get_unique_variable(f"{scope}/weights") for scope in ("conv", "theirs")])
    for weights in (ours, theirs):
        assert weights.var() == pytest.approx(2 / (9 * 64 * 2), rel=0.03)
        assert abs(weights).max() <= np.sqrt(6 / (9 * 64 * 2))


# max_pool2d and softmax


@pytest.mark.numerical
def test_max_pool2d_and_softmax_equal_numpy():
    inputs = images(2, 7, 8, 3)
    pooled = layers.max_pool2d(inputs, [3, 3], stride=2, scope="pool")
    assert pooled.name == "pool/MaxPool:0"
    windows = np.lib.stride_tricks.sliding_window_view(inputs, (3, 3), axis=(1, 2))[:, ::2, ::2]
    predictions = layers.softmax(inputs, scope="predictions")
    assert predictions.name == "predictions/Reshape_1:0"
    exponents = np.exp(inputs)
    with v1.Session() as session:
        assert np.array_equal(session.run(pooled), windows.max((-2, -1)))
        result = session.run(predictions)
    np.testing.assert_allclose(result, exponents / exponents.sum(-1, keepdims=True), rtol=1e-5)


@pytest.mark.parametrize("kwargs", [{"data_format": "NCHW"}, {"inputs": np.zeros([4, 3], np.float32)}])
def test_max_pool2d_refuses(kwargs):
    with pytest.raises(ValueError, match=r"NCHW|rank 4"):
        layers.max_pool2d(**{"inputs": images(1, 4, 4, 3), "kernel_size": 2, **kwargs})


# Tests that change a process for good run in their own process.


def run_in_process(*arguments):
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    return subprocess.run(
        [sys.executable, *arguments], env=environment, capture_output=True, text=True, check=False, timeout=300
    )


@pytest.mark.numerical
@pytest.mark.full
@pytest.mark.parametrize("family", ["v1", "v2"])
def test_tf_slims_own_suites_pass_on_our_networks(family):
    done = run_in_process("-m", "tests.helpers.tf_slim_suite", family)
    assert done.returncode == 0, done.stderr[-5000:]
    assert "OK" in done.stderr


MODES = {
    "graph": "",
    "disable_eager_execution": "v1.disable_eager_execution()",
    "disable_v2_behavior": "v1.disable_v2_behavior()",
    "disable_resource_variables": "v1.disable_resource_variables()",
}


@pytest.mark.numerical
@pytest.mark.parametrize(
    "mode",
    [
        pytest.param("graph", marks=pytest.mark.full),
        "disable_v2_behavior",
        pytest.param("disable_eager_execution", marks=pytest.mark.full),
        pytest.param("disable_resource_variables", marks=pytest.mark.full),
    ],
)
def test_research_slim_training_code_runs(mode, tmp_path):
    """Runs a training script for research/slim, with a head that calls slim.batch_norm itself."""
    done = run_in_process("-m", "tests.helpers.research_slim_script", MODES[mode], str(tmp_path / "model.ckpt"))
    assert done.returncode == 0, done.stderr[-5000:]
    # 42 of the backbone, 5 of the extra convolution, 3 + 4 + 4 + 2 of the head's layers.
    assert done.stdout.splitlines()[-1] == "restored 60 model variables"


@pytest.mark.parametrize("mode", [pytest.param("graph", marks=pytest.mark.full), "disable_v2_behavior"])
def test_slims_other_layers_normalize_after_the_repair(mode):
    done = run_in_process("-m", "tests.helpers.normalized_layers_script", MODES[mode])
    assert done.returncode == 0, done.stderr[-5000:]
    assert done.stdout.splitlines()[-1] == "11 layers, in training and outside"


def test_import_changes_nothing_outside():
    program = """
import os, tensorflow as tf, tf_slim
import tf_slim.nets  # a part that tf_slim leaves to its users to import
from tensorflow.python.framework import ops
def state():
    modules = tf_slim, tf_slim.layers, tf_slim.utils, tf_slim.learning, ops
    return dict(os.environ), [dict(vars(module)) for module in modules], tf.executing_eagerly()
before = state()
import nets
assert state() == before
"""
    done = run_in_process("-c", program)
    assert done.returncode == 0, done.stderr[-2000:]
