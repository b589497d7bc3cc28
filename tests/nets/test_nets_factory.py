"""Tests of the table of networks, and of research/slim's factory."""

import importlib
import pkgutil

import numpy as np
import pytest
import tensorflow as tf
import tf_slim as slim

import checkpoints
import nets
import tools
from nets import layers, nets_factory, resnet_basic, resnet_cifar, resnet_keras, resnet_v1, resnet_v2, tf_slim_nets
from nets.resnet_utils import Block
from tests.golden.make import golden_file
from tests.helpers.networks import OF_TF_SLIM, small_size
from tests.nets import test_resnet_basic, test_resnet_cifar, test_resnet_keras, test_slim_parity, test_tf_slim_nets

v1 = tf.compat.v1


def test_the_maps_are_the_table():
    assert list(nets_factory.networks_map) == list(nets_factory.arg_scopes_map) == list(nets_factory.NETWORKS)
    assert nets_factory.networks_map["resnet_v2_50"] is resnet_v2.resnet_v2_50
    assert nets_factory.arg_scopes_map["resnet_v2_50"] is resnet_v2.resnet_arg_scope
    assert nets_factory.arg_scopes_map["resnet_cifar_20"] is resnet_cifar.resnet_cifar_arg_scope


# The names that were promised.
PROMISED = [
    *(f"resnet_v1_{depth}" for depth in (50, 101, 152, 200)),
    *(f"resnet_v2_{depth}" for depth in (50, 101, 152, 200, "tiny")),
    *(f"resnet_basic_{depth}" for depth in (18, 34)),
    *(f"resnet_keras_{depth}" for depth in (18, 34, 50, 101, 152, "18_digits")),
    *(f"resnet_cifar_{depth}" for depth in (20, 32, 44, 56, 110, 164)),
    *("alexnet_v2", "overfeat", "vgg_a", "vgg_16", "vgg_19", "inception_v1", "inception_v2", "inception_v3"),
]


def test_the_table_is_complete():
    assert list(nets_factory.NETWORKS) == PROMISED
    for module in (resnet_v1, resnet_v2, resnet_basic, resnet_keras, resnet_cifar):
        for name in module.VARIANTS:
            assert nets_factory.networks_map[name] is getattr(module, name)
            assert getattr(module, name).__name__ == name
            assert name in module.__all__
    for name in OF_TF_SLIM:
        assert nets_factory.networks_map[name] is getattr(tf_slim_nets, name)
        assert getattr(tf_slim_nets, name).__name__ == name
        assert name in tf_slim_nets.__all__


def held_against_another_implementation():
    """Returns the networks for the tests with the mark ``parity``."""
    for module in (test_slim_parity, test_resnet_basic, test_resnet_keras, test_resnet_cifar, test_tf_slim_nets):
        for function in vars(module).values():
            marks = getattr(function, "pytestmark", [])
            if "parity" in {mark.name for mark in marks}:
                parametrizations = [mark.args for mark in marks if mark.name == "parametrize"]
                (values,) = (values for names, values in parametrizations if "name" in (names, names[0]))
                for value in values:
                    value = getattr(value, "values", value)  # of a pytest.param
                    yield value if isinstance(value, str) else value[0]


@pytest.mark.parametrize("name", nets_factory.NETWORKS)
def test_no_network_goes_unproved(name):
    network = nets_factory.get_network(name)
    has_statistics = not name.startswith(("alexnet", "overfeat", "vgg"))
    assert network.trainable_parameters > 0
    assert (network.trainable_parameters < network.parameters) == has_statistics
    assert network.trainable_parameters <= network.parameters
    assert golden_file(name).is_file()
    assert name in set(held_against_another_implementation())


@pytest.mark.parametrize("name", nets_factory.NETWORKS)
def test_default_image_size(name):
    size = 28 if "digits" in name else 32 if name.startswith(("resnet_cifar", "resnet_v2_tiny")) else 224
    size = {"inception_v3": 299, "overfeat": 231}.get(name, size)
    assert nets_factory.get_network_fn(name, 10).default_image_size == size
    assert nets_factory.networks_map[name].default_image_size == size


def test_network_fn_builds_under_its_arg_scope():
    with tf.Graph().as_default():
        network_fn = nets_factory.get_network_fn("resnet_v2_tiny", 7, weight_decay=0.1, is_training=True)
        logits, _ = network_fn(v1.placeholder(tf.float32, [2, 32, 32, 3]), scope="mine")
        assert logits.shape.as_list() == [2, 7]
        assert v1.global_variables()[0].name == "mine/conv1/weights:0"
        # conv1, three convolutions in each of four units, a projection in all but the first, logits.
        assert len(v1.losses.get_regularization_losses()) == 17
        assert len(v1.get_collection(v1.GraphKeys.UPDATE_OPS)) == 2 * (4 * 3 + 1)


@pytest.mark.parametrize("name", ["resnet_v1_50", "resnet_basic_18", "resnet_keras_18", "resnet_cifar_20"])
def test_network_fn_takes_weight_decay_mode_and_options(name):
    options = {"resnet_basic_18": {"shortcut": "C"}, "resnet_v1_50": {"depth_multiplier": 0.125}}.get(name, {})
    counts = {}
    for weight_decay, is_training in ((0.1, True), (0.1, False)):
        with tf.Graph().as_default():
            network_fn = nets_factory.get_network_fn(name, 7, weight_decay, is_training)
            logits, end_points = network_fn(v1.placeholder(tf.float32, [2, 32, 32, 3]), scope="mine", **options)
            assert logits.shape.as_list() == [2, 7]
            assert end_points["predictions"].shape.as_list() == [2, 7]
            assert all(variable.op.name.startswith("mine/") for variable in v1.global_variables())
            kernels = [v for v in v1.trainable_variables() if v.op.name.endswith(("/weights", "/DW"))]
            assert len(v1.losses.get_regularization_losses()) == len(kernels)
            counts[is_training] = len(v1.get_collection(v1.GraphKeys.UPDATE_OPS))
    moving = [v for v in kernels[0].graph.get_collection("variables") if "/moving_" in v.op.name]
    assert counts == {True: len(moving), False: 0}


# Inputs and arguments that every builder refuses, and the message.
FLOATS = ((1, 32, 32, 3), tf.float32)
REFUSED = {
    "rank": ((32, 32, 3), tf.float32, {}, r"inputs must be \[batch, height, width, channels\].*\(32, 32, 3\)"),
    "unknown channels": ((1, 32, 32, None), tf.float32, {}, "inputs must be .* known channels"),
    "no rows": ((1, 0, 32, 3), tf.float32, {}, "inputs must be .*, and has shape"),
    "pixels": ((1, 32, 32, 3), tf.uint8, {}, "inputs must be float32, float16 or bfloat16, and is uint8: preprocess"),
    "doubles": ((1, 32, 32, 3), tf.float64, {}, "inputs must be float32, float16 or bfloat16, and is float64"),
    "negative classes": (*FLOATS, {"num_classes": -3}, "num_classes must be a whole number of at least 0, and is -3"),
    "half a class": (*FLOATS, {"num_classes": 2.5}, "num_classes must be a whole number of at least 0, and is 2.5"),
    "a text": (*FLOATS, {"num_classes": "10"}, "num_classes must be a whole number of at least 0, and is '10'"),
    "a bool": (*FLOATS, {"num_classes": True}, "num_classes must be a whole number of at least 0, and is True"),
    "mode": (*FLOATS, {"is_training": "no"}, "is_training must be True, False or a boolean tensor, and is 'no'"),
    "number as mode": (*FLOATS, {"is_training": 0.5}, "is_training must be True, False .* and is 0.5"),
}


@pytest.mark.parametrize("case", REFUSED)
@pytest.mark.parametrize(
    "name",
    ["resnet_v1_50", "resnet_v2_tiny", "resnet_basic_18", "resnet_keras_18", "resnet_keras_50", "resnet_cifar_20"],
)
def test_what_no_network_can_be_built_from_is_refused(name, case):
    shape, dtype, arguments, message = REFUSED[case]
    with tf.Graph().as_default(), pytest.raises(ValueError, match=message):
        nets_factory.networks_map[name](v1.placeholder(dtype, shape), **arguments)


@pytest.mark.parametrize("name", ["resnet_v1_50", "resnet_v2_tiny", "resnet_basic_18"])
@pytest.mark.parametrize("output_stride", [0, -4, 3, 6, 64, "8", 8.5])
def test_impossible_output_strides_are_refused(name, output_stride):
    with tf.Graph().as_default(), pytest.raises(ValueError, match=f"output_stride.* {output_stride!r}"):
        nets_factory.networks_map[name](v1.placeholder(tf.float32, [1, 64, 64, 3]), output_stride=output_stride)


def test_a_tensor_as_is_training_must_be_a_boolean_scalar():
    for mode in (lambda: v1.placeholder(tf.int32, []), lambda: v1.placeholder(tf.bool, [2])):
        with tf.Graph().as_default(), pytest.raises(ValueError, match="is_training must be True, False or a boolean"):
            resnet_v2.resnet_v2_tiny(v1.placeholder(tf.float32, [1, 32, 32, 3]), is_training=mode())


@pytest.mark.parametrize("name", ["resnet_v1_50", "resnet_v2_tiny", "resnet_basic_18", "resnet_keras_18"])
def test_layers_that_a_scope_freezes_are_frozen(name):
    network = nets_factory.get_network(name)
    frozen = slim.arg_scope([slim.conv2d, slim.batch_norm], trainable=False, variables_collections=["mine"])
    with tf.Graph().as_default(), slim.arg_scope(network.arg_scope()), frozen:
        network.builder(v1.placeholder(tf.float32, [1, 32, 32, 3]), is_training=True)
        assert v1.trainable_variables() == []
        assert v1.get_collection("mine") == v1.global_variables()


@pytest.mark.parametrize("name", ["resnet_basic_18", "resnet_keras_18", "resnet_cifar_20"])
@pytest.mark.parametrize("is_training", [False, True])
def test_networks_build_under_a_partitioner(name, is_training):
    with tf.Graph().as_default(), v1.variable_scope("", partitioner=v1.fixed_size_partitioner(2)):
        build = nets_factory.get_network_fn(name, 10, is_training=is_training)
        logits, _ = build(v1.placeholder(tf.float32, [2, 32, 32, 3]))
        with v1.Session() as session:
            session.run(v1.global_variables_initializer())
            feeds = {logits.graph.get_operations()[0].outputs[0]: np.zeros([2, 32, 32, 3])}
            assert session.run(logits, feeds).shape == (2, 10)


@pytest.mark.parametrize("decay", [0.5, 0.9])
def test_options_reach_the_arg_scope(decay):
    """After one update, a moving mean that began at 0 is (1 - decay) times the batch's."""
    images = np.random.default_rng(0).normal(2, 1, [4, 32, 32, 3]).astype(np.float32)
    with tf.Graph().as_default():
        fed = v1.placeholder(tf.float32, images.shape)
        build = nets_factory.get_network_fn("resnet_v1_50", 10, is_training=True, batch_norm_decay=decay)
        build(fed, output_stride=None)
        updates = v1.get_collection(v1.GraphKeys.UPDATE_OPS)
        graph = v1.get_default_graph()
        (convolution,) = (op for op in graph.get_operations() if op.name == "resnet_v1_50/conv1/Conv2D")
        mean = next(v for v in v1.global_variables() if v.op.name == "resnet_v1_50/conv1/BatchNorm/moving_mean")
        with v1.Session() as session:
            session.run(v1.global_variables_initializer())
            output, _ = session.run([convolution.outputs[0], updates], {fed: images})
            np.testing.assert_allclose(
                session.run(mean), (1 - decay) * output.astype(np.float64).mean((0, 1, 2)), rtol=1e-4, atol=1e-6
            )


WITH_BATCH_NORM = [name for name in nets_factory.NETWORKS if not name.startswith(("alexnet", "overfeat", "vgg"))]


@pytest.mark.parametrize("name", WITH_BATCH_NORM)
def test_every_arg_scope_takes_a_decay(name):
    scope = nets_factory.get_network(name).arg_scope(batch_norm_decay=0.75)
    with slim.arg_scope(scope):
        assert layers.scoped_arguments(layers.batch_norm)["decay"] == 0.75


# One of each family; ``test_options_reach_the_arg_scope`` has the first version of slim's.
QUICK = ("resnet_v2_tiny", "resnet_basic_18", "resnet_keras_18_digits", "resnet_cifar_20")


def decays():
    """Returns the decay of each update: it subtracts (moving - batch's) * (1 - decay)."""
    for update in v1.get_collection(v1.GraphKeys.UPDATE_OPS):
        product = update.inputs[1].op
        assert product.type == "Mul"
        yield 1 - tf.get_static_value(product.inputs[1])


@pytest.mark.parametrize(
    "name", [name if name in QUICK else pytest.param(name, marks=pytest.mark.full) for name in WITH_BATCH_NORM]
)
def test_the_decay_arrives_in_every_layer(name):
    network = nets_factory.get_network(name)
    with tf.Graph().as_default():
        size = small_size(name, 32)
        images = v1.placeholder(tf.float32, [2, size, size, network.channels])
        nets_factory.get_network_fn(name, 10, is_training=True, batch_norm_decay=0.75)(images)
        statistics = sum("/moving_" in variable.op.name for variable in v1.global_variables())
        assert list(decays()) == [0.75] * statistics


KERAS_BLOCK = Block("block1", resnet_keras.basic_keras, [{"depth": 4, "stride": 2}])


@pytest.mark.parametrize(
    ("build", "scope", "decay"),
    [
        (lambda images: resnet_cifar.resnet_cifar(images, 1), resnet_cifar.resnet_cifar_arg_scope, 0.9),
        (lambda images: resnet_keras.resnet_keras(images, [KERAS_BLOCK]), resnet_keras.resnet_keras_arg_scope, 0.99),
    ],
)
def test_the_decay_of_a_family_without_one(build, scope, decay):
    """Under the family's arg scope, and under none, it is the decay of the original."""
    for around in ({}, scope()):
        with tf.Graph().as_default(), slim.arg_scope(around):
            build(v1.placeholder(tf.float32, [2, 16, 16, 3]))
            assert set(decays()) == {1 - np.float32(1 - decay)}


@pytest.mark.parametrize(
    ("name", "options", "error", "words"),
    [
        (
            "resnet_v2_tiny",
            {"batch_norm_decai": 0.9},
            TypeError,
            "unexpected argument 'batch_norm_decai': .* batch_norm_decay",
        ),
        (
            "resnet_cifar_20",
            {"batch_norm_epsilon": 0.1},
            TypeError,
            "the arg scope of resnet_cifar_20 has batch_norm_decay, batch_norm_updates_collections",
        ),
        ("vgg_16", {"batch_norm_decay": 0.9}, TypeError, "'batch_norm_decay': the arg scope of vgg_16 has none."),
        ("resnet_v2_tiny", {"batch_norm_decay": "fast"}, ValueError, "batch_norm_decay must be a number"),
    ],
)
def test_options_that_an_arg_scope_does_not_take(name, options, error, words):
    with pytest.raises(error, match=words):
        nets_factory.get_network_fn(name, 10, **options)


def test_an_unknown_network_suggests_the_nearest():
    with pytest.raises(ValueError, match="'resnet_v2_51'; did you mean resnet_v2_50"):
        nets_factory.get_network_fn("resnet_v2_51", 10)
    with pytest.raises(ValueError, match="'resnet_keras_36'; did you mean resnet_keras_34"):
        nets_factory.get_network_fn("resnet_keras_36", 10)
    with pytest.raises(ValueError, match="Name of network must be a string, and is None"):
        nets_factory.get_network_fn(None, 10)
    with pytest.raises(ValueError, match="there is resnet_v1_50, "):
        nets_factory.get_network("xyz")


def modules():
    """Yields all modules but programs and the engines, which need packages that the tests do without."""
    for package in (nets, checkpoints, tools):
        yield package
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if not module.name.endswith("__main__") and not module.name.startswith(APART):
                yield importlib.import_module(module.name)


def test_public_names_are_there():
    """The linter checks that they are sorted."""
    for module in modules():
        names = getattr(module, "__all__", [])
        assert len(names) == len(set(names)), module.__name__
        assert all(hasattr(module, name) for name in names), module.__name__
    assert sorted(nets.__all__) == sorted({module.name for module in pkgutil.iter_modules(nets.__path__)} - PRIVATE)


APART = ("tools.peers.engines.", "tools.benchmarks.scripts.")

# Modules of nets that only its other modules use.
PRIVATE = {
    *("arguments", "batch_normalization", "builders", "fast_units", "known_names", "layer_basics"),
    "receptive_fields",
}
