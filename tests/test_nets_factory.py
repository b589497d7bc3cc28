"""The table of networks, and the factory of research/slim on it."""

import importlib
import pkgutil

import pytest
import tensorflow as tf

import checkpoints
import nets
import tools
from nets import nets_factory, resnet_v2

v1 = tf.compat.v1


def test_the_maps_are_the_table():
    assert list(nets_factory.networks_map) == list(nets_factory.arg_scopes_map) == list(nets_factory.NETWORKS)
    assert nets_factory.networks_map["resnet_v2_50"] is resnet_v2.resnet_v2_50
    assert nets_factory.arg_scopes_map["resnet_v2_50"] is resnet_v2.resnet_arg_scope


@pytest.mark.parametrize("name", nets_factory.NETWORKS)
def test_default_image_size(name):
    size = 32 if name.endswith("tiny") else 224
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


def test_an_unknown_network_suggests_the_nearest():
    with pytest.raises(ValueError, match="'resnet_v2_51'; did you mean resnet_v2_50"):
        nets_factory.get_network_fn("resnet_v2_51", 10)
    with pytest.raises(ValueError, match="there is resnet_v2_50, "):
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
