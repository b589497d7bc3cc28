"""Compares the networks for small images with an implementation in NumPy."""

from typing import NamedTuple

import numpy as np
import pytest
import tensorflow as tf
import tf_slim as slim

from nets import nets_factory, resnet_cifar
from tests.helpers import numpy_cifar
from tests.helpers.float64 import Reference, assert_as_exact
from tests.helpers.reference import assign, random_values_of_shapes

v1 = tf.compat.v1

# Trainable parameters, and with moving statistics; there is no ready-made network of 29 layers.
PARAMETERS = {(3, True): (312_218, 316_282)}


@pytest.fixture(autouse=True)
def graph():
    with tf.Graph().as_default() as graph, slim.arg_scope(resnet_cifar.resnet_cifar_arg_scope()):
        yield graph


def random_values(shapes):
    return random_values_of_shapes(shapes, gain=0.5)


def random_images(batch, size=16):
    return np.random.default_rng(1).normal(size=[batch, size, size, 3]).astype(np.float32)


class Expected(NamedTuple):
    """The network in NumPy, in float32 and in float64."""

    single: numpy_cifar.Forward
    double: numpy_cifar.Forward

    @property
    def logits(self):
        return Reference(self.single.logits, self.double.logits)

    @property
    def predictions(self):
        return Reference(self.single.predictions, self.double.predictions)

    @property
    def end_points(self):
        return {key: Reference(self.single.end_points[key], value) for key, value in self.double.end_points.items()}

    @property
    def batch_statistics(self):
        return {
            key: [Reference(*pair) for pair in zip(self.single.batch_statistics[key], statistics, strict=True)]
            for key, statistics in self.double.batch_statistics.items()
        }


def forward(*arguments, **options):
    return Expected(*(numpy_cifar.forward(*arguments, **options, dtype=dtype) for dtype in (np.float32, np.float64)))


def assert_equal(results, expected):
    assert len(results) == len(expected)
    for key, value in expected.items():
        assert_as_exact(results[key], value)


@pytest.mark.numerical
@pytest.mark.parametrize("bottleneck", [False, True])
@pytest.mark.parametrize("activate_before_residual", [(True, False, False), (False, False, False), (True, True, True)])
@pytest.mark.parametrize("training", [False, True])
def test_units_and_statistics_equal_numpys(bottleneck, activate_before_residual, training):
    n, batch = 2, random_images(4)
    options = {"bottleneck": bottleneck, "activate_before_residual": activate_before_residual}
    values = random_values(numpy_cifar.variable_shapes(**options, n=n))
    expected = forward(values, batch, n, training=training, **options)
    images = v1.placeholder(tf.float32, batch.shape)
    logits, end_points = resnet_cifar.resnet_cifar(images, n, 10, training, **options)
    # Only the original's variables.
    assert {v.op.name: tuple(v.shape.as_list()) for v in v1.global_variables()} == {
        name: value.shape for name, value in values.items()
    }
    updates = v1.get_collection(v1.GraphKeys.UPDATE_OPS)
    wanted = {key: end_points[key] for key in expected.end_points}
    with v1.Session() as session:
        assign(session, values)
        results = session.run([logits, end_points["predictions"], wanted, updates], {images: batch})
        moving = session.run({v.op.name: v for v in v1.global_variables() if "/moving_" in v.op.name})
    assert_equal(results[2], expected.end_points)
    assert_as_exact(results[0], expected.logits)
    assert_as_exact(results[1], expected.predictions)
    if not training:
        assert updates == []
        assert all(np.array_equal(value, values[name]) for name, value in moving.items())
        return
    assert len(moving) == 2 * len(expected.batch_statistics)
    for scope, (mean, variance) in expected.batch_statistics.items():
        # Means may cancel; this is the size of the averaged values.
        scale = float(np.sqrt(np.mean(np.square(mean.double) + variance.double)))
        for name, statistic, size in (("moving_mean", mean, scale), ("moving_variance", variance, scale**2)):
            # 0.9 old + 0.1 batch, with the population's variance.
            averaged = statistic.map(lambda value, old=values[f"{scope}/{name}"]: 0.9 * old + 0.1 * value)
            assert_as_exact(moving[f"{scope}/{name}"], averaged, scale=size)


@pytest.mark.numerical
@pytest.mark.parity
@pytest.mark.parametrize(
    "name",
    [
        "resnet_cifar_20",
        "resnet_cifar_32",
        *(pytest.param(f"resnet_cifar_{depth}", marks=pytest.mark.full) for depth in (44, 56, 110)),
        "resnet_cifar_164",
    ],
)
def test_outputs_equal_numpys(name):
    n, bottleneck = numpy_cifar.SIZES[name]
    values = random_values(numpy_cifar.variable_shapes(n, bottleneck))
    batch = random_images(2, 32)
    expected = forward(values, batch, n, bottleneck)
    images = v1.placeholder(tf.float32, batch.shape)
    logits, end_points = nets_factory.networks_map[name](images, 10, is_training=False)
    with v1.Session() as session:
        assign(session, values)
        wanted = {key: end_points[key] for key in expected.end_points}
        results, logits = session.run([wanted, logits], {images: batch})
    assert_equal(results, expected.end_points)
    assert_as_exact(logits, expected.logits)


@pytest.mark.numerical
@pytest.mark.parametrize("mode", [True, False])
def test_a_tensor_as_is_training(mode):
    values = random_values(numpy_cifar.variable_shapes(1, False))
    batch = random_images(4)
    expected = forward(values, batch, 1, False, training=mode)
    images, is_training = v1.placeholder(tf.float32, batch.shape), v1.placeholder(tf.bool, [])
    logits, _ = resnet_cifar.resnet_cifar(images, 1, 10, is_training)
    with v1.Session() as session:
        assign(session, values)
        result = session.run(logits, {images: batch, is_training: mode})
    assert_as_exact(result, expected.logits)


@pytest.mark.parametrize(("n", "bottleneck"), PARAMETERS)
def test_parameter_counts(n, bottleneck):
    resnet_cifar.resnet_cifar(v1.placeholder(tf.float32, [None, 32, 32, 3]), n, 10, bottleneck=bottleneck)
    counts = tuple(
        sum(int(np.prod(variable.shape.as_list())) for variable in variables)
        for variables in (v1.trainable_variables(), v1.global_variables())
    )
    assert counts == PARAMETERS[n, bottleneck]


@pytest.mark.numerical
def test_relu_leakiness_is_the_slope_below_zero():
    values = random_values(numpy_cifar.variable_shapes(1, True))
    batch = random_images(2)
    expected = forward(values, batch, 1, True, leakiness=0.3)
    images = v1.placeholder(tf.float32, batch.shape)
    logits, _ = resnet_cifar.resnet_cifar(images, 1, 10, False, bottleneck=True, relu_leakiness=0.3)
    with v1.Session() as session:
        assign(session, values)
        result = session.run(logits, {images: batch})
    assert_as_exact(result, expected.logits)


def test_names_are_the_originals_and_a_scope_goes_around_them():
    images = v1.placeholder(tf.float32, [1, 32, 32, 3])
    resnet_cifar.resnet_cifar_20(images, 10)
    names = [variable.op.name for variable in v1.global_variables()]
    assert "unit_1_0/sub1/conv1/DW" in names
    _, end_points = resnet_cifar.resnet_cifar_20(images, 10, scope="mine")
    assert [f"mine/{name}" for name in names] == [variable.op.name for variable in v1.global_variables()[len(names) :]]
    assert {"mine/unit_1_0", "mine/unit_last", "global_pool", "mine/logits", "predictions"} <= set(end_points)
    with v1.variable_scope("outer"):
        _, end_points = resnet_cifar.resnet_cifar_20(images, 10)
    assert "outer/unit_1_0/sub1/conv1" in end_points
    # Runs again, with another number of end points before it in the graph.
    before = len(v1.global_variables())
    _, end_points = resnet_cifar.resnet_cifar(images, 2, 10, reuse=True)
    assert len(v1.global_variables()) == before
    assert "unit_1_2" not in end_points


def test_weight_decay_is_on_the_kernels_alone():
    resnet_cifar.resnet_cifar(v1.placeholder(tf.float32, [1, 16, 16, 3]), 1, 10)
    values = random_values(numpy_cifar.variable_shapes(1, False))
    with v1.Session() as session:
        assign(session, values)
        losses = session.run(v1.losses.get_regularization_losses())
    kernels = [value for name, value in values.items() if name.endswith("/DW")]
    assert losses == pytest.approx([0.0002 * np.sum(np.square(kernel)) / 2 for kernel in kernels], rel=1e-5)


def test_histograms_of_the_moving_statistics_in_evaluation():
    images = v1.placeholder(tf.float32, [1, 16, 16, 3])
    resnet_cifar.resnet_cifar(images, 1, 10, is_training=True)
    assert v1.get_collection(v1.GraphKeys.SUMMARIES) == []
    resnet_cifar.resnet_cifar(images, 1, 10, is_training=False, reuse=True)
    with v1.Session() as session:
        session.run(v1.global_variables_initializer())
        summary = v1.Summary.FromString(session.run(v1.summary.merge_all()))
    moving = {v.op.name for v in v1.global_variables() if "/moving_" in v.op.name}
    assert len(moving) == len(summary.value) == 14
    assert all(any(value.tag.endswith(name) for value in summary.value) for name in moving)
    # Moving means start at zero, and moving variances at one.
    assert {value.histo.max for value in summary.value} == {0.0, 1.0}


def test_initial_values():
    """Kernels are normal with variance 2 / (k k out), logits uniform with the variance kept, all else constant."""
    resnet_cifar.resnet_cifar_20(v1.placeholder(tf.float32, [1, 32, 32, 3]), 10)
    with v1.Session() as session:
        session.run(v1.global_variables_initializer())
        values = session.run({variable.op.name: variable for variable in v1.global_variables()})
    kernel = values["unit_3_2/sub2/conv2/DW"]
    assert kernel.std() == pytest.approx(np.sqrt(2 / (9 * 64)), rel=0.03)  # 36,864 values: five deviations
    assert np.abs(kernel).max() > 3 * kernel.std()
    logit, bound = values["logit/DW"], np.sqrt(3 / 64)
    assert 0.95 * bound < np.abs(logit).max() <= bound
    constants = {"beta": 0, "gamma": 1, "moving_mean": 0, "moving_variance": 1, "biases": 0}
    for name, value in values.items():
        if not name.endswith("DW"):
            assert np.all(value == constants[name.rpartition("/")[2]]), name


@pytest.mark.parametrize(
    ("shape", "kwargs", "message"),
    [
        ((1, 30, 32, 3), {}, r"inputs must have a height and width that are multiples of 4, and are \(1, 30, 32, 3\)"),
        ((1, 32, 32, 3), {"num_classes": -1}, "num_classes must be a whole number of at least 0, and is -1"),
        ((32, 32, 3), {}, "inputs must be"),
        ((1, 32, 32, None), {}, "inputs must be"),
        ((1, 32, 32, 3), {"n": 0}, "n must be a whole number of at least 1, and is 0"),
        (
            (1, 32, 32, 3),
            {"activate_before_residual": (True,)},
            "activate_before_residual must be 3 bools",
        ),
    ],
)
def test_impossible_arguments_are_refused(shape, kwargs, message):
    with pytest.raises(ValueError, match=message):
        resnet_cifar.resnet_cifar(v1.placeholder(tf.float32, shape), **{"n": 1, **kwargs})


def test_impossible_units_are_refused():
    images = v1.placeholder(tf.float32, [1, 8, 8, 16])
    with pytest.raises(ValueError, match="depth must be at least the 16 channels of the unit's input, and is 8"):
        resnet_cifar.residual(images, 8, 1)
    with pytest.raises(ValueError, match="depth of a bottleneck unit must be a multiple of 4, and is 18"):
        resnet_cifar.bottleneck_residual(images, 18, 1)
