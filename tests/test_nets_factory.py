"""The table of networks, and the factory of research/slim on it."""

import importlib
import pkgutil

import pytest
import tensorflow as tf

import checkpoints
import nets
import tools
from nets import nets_factory, resnet_basic, resnet_cifar, resnet_keras, resnet_v1, resnet_v2
from tests import test_resnet_basic, test_resnet_cifar, test_resnet_keras, test_slim_parity
from tests.golden.make import golden_file

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
]


def test_the_table_is_complete():
    assert list(nets_factory.NETWORKS) == PROMISED
    for module in (resnet_v1, resnet_v2, resnet_basic, resnet_keras, resnet_cifar):
        for name in module.VARIANTS:
            assert nets_factory.networks_map[name] is getattr(module, name)
            assert getattr(module, name).__name__ == name
            assert name in module.__all__


def held_against_another_implementation():
    """The networks that tests with the mark ``parity`` are run for."""
    for module in (test_slim_parity, test_resnet_basic, test_resnet_keras, test_resnet_cifar):
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
    assert 0 < network.trainable_parameters < network.parameters
    assert golden_file(name).is_file()
    assert name in set(held_against_another_implementation())


@pytest.mark.parametrize("name", nets_factory.NETWORKS)
def test_default_image_size(name):
    size = 28 if "digits" in name else 32 if name.startswith(("resnet_cifar", "resnet_v2_tiny")) else 224
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


def test_an_unknown_network_suggests_the_nearest():
    with pytest.raises(ValueError, match="'resnet_v2_51'; did you mean resnet_v2_50"):
        nets_factory.get_network_fn("resnet_v2_51", 10)
    with pytest.raises(ValueError, match="'resnet_keras_36'; did you mean resnet_keras_34"):
        nets_factory.get_network_fn("resnet_keras_36", 10)
    with pytest.raises(ValueError, match="there is resnet_v1_50, "):
        nets_factory.get_network("vgg_16")


def modules():
    for package in (nets, checkpoints, tools):
        yield package
        for module in pkgutil.iter_modules(package.__path__):
            if module.name != "__main__":
                yield importlib.import_module(f"{package.__name__}.{module.name}")


def test_public_names_are_there():
    """That they are sorted, the linter sees to."""
    for module in modules():
        names = getattr(module, "__all__", [])
        assert len(names) == len(set(names)), module.__name__
        assert all(hasattr(module, name) for name in names), module.__name__
    assert sorted(nets.__all__) == sorted({module.name for module in pkgutil.iter_modules(nets.__path__)} - PRIVATE)


# A module of nets that is of no use by itself.
PRIVATE = {"variable_templates"}
