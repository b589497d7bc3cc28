"""Compares ResNets of two-layer units with PyTorch's layers, given the same weights."""

import numpy as np
import pytest
import tensorflow as tf
import tf_slim as slim

from nets import nets_factory, resnet_basic, resnet_utils
from tests.helpers import float64
from tests.helpers.float64 import assert_as_exact
from tests.helpers.reference import assign, random_values

v1 = tf.compat.v1

SHORTCUTS = ("A", "B", "C", "first_unit")
# Trainable parameters: with option B and 1000 classes, torchvision's; with a single class, a known tutorial's.
PARAMETERS = {
    ("resnet_basic_34", "A", 1000): 21_623_848,
    ("resnet_basic_34", "B", 1000): 21_797_672,
    ("resnet_basic_34", "C", 1000): 22_716_840,
    ("resnet_basic_34", "first_unit", 1): 21_289_409,
    ("resnet_basic_34", "first_unit", 1000): 21_801_896,
    ("resnet_basic_18", "A", 1000): 11_515_688,
    ("resnet_basic_18", "B", 1000): 11_689_512,
}


@pytest.fixture(autouse=True)
def graph():
    with tf.Graph().as_default() as graph, slim.arg_scope(resnet_basic.resnet_arg_scope()):
        yield graph


def random_images(*shape):
    return np.random.default_rng(1).normal(size=shape).astype(np.float32)


@pytest.mark.numerical
@pytest.mark.parity
@pytest.mark.parametrize(
    ("name", "shortcut", "classes"),
    [
        ("resnet_basic_34", "B", 1000),
        *(("resnet_basic_18", shortcut, 10) for shortcut in SHORTCUTS),
        *(
            pytest.param("resnet_basic_34", shortcut, classes, marks=pytest.mark.full)
            for shortcut in SHORTCUTS
            for classes in (1, 1000)
            if (shortcut, classes) != ("B", 1000)
        ),
    ],
)
def test_outputs_equal_pytorchs(name, shortcut, classes):
    import torch

    from tests.helpers import torch_resnet

    module = torch_resnet.resnet(resnet_basic.VARIANTS[name].units, shortcut, classes).eval()
    torch_resnet.randomize(module, seed=0)
    images = v1.placeholder(tf.float32, [None, None, None, 3])
    logits, end_points = nets_factory.networks_map[name](images, classes, is_training=False, shortcut=shortcut)
    with v1.Session() as session:
        assign(session, torch_resnet.state_by_slim_name(module, name))
        for size in (
            ((224, 224), (97, 75)) if name.endswith("34") and shortcut == "first_unit" else ((64, 96), (75, 97))
        ):
            batch = random_images(2, *size, 3)
            tensors = [end_points["global_pool"], logits, end_points["predictions"]]
            features, result, predictions = session.run(tensors, {images: batch})
            theirs = torch.from_numpy(batch.transpose(0, 3, 1, 2).copy())
            expected = float64.of_torch(module, theirs, function=lambda module, images: module.features(images))
            assert_as_exact(features[:, 0, 0], expected)
            # Two logits may be near 0, because they are sums that cancel; this is the size of their terms.
            sizes = np.linalg.norm(expected.double, axis=1).max(), np.linalg.norm(module.logits.weight.detach().numpy())
            scale = float(np.prod(sizes)) if classes == 1 else None
            assert result.shape == (2, classes)
            assert_as_exact(result, float64.of_torch(module, theirs), scale=scale)
            classifier = torch.nn.Sequential(module, torch.nn.Sigmoid() if classes == 1 else torch.nn.Softmax(dim=-1))
            assert_as_exact(predictions, float64.of_torch(classifier, theirs), scale=scale)


@pytest.mark.parametrize(("name", "shortcut", "classes"), PARAMETERS)
def test_parameter_counts(name, shortcut, classes):
    images = v1.placeholder(tf.float32, [None, 224, 224, 3])
    nets_factory.networks_map[name](images, classes, shortcut=shortcut)
    count = sum(int(np.prod(variable.shape.as_list())) for variable in v1.trainable_variables())
    assert count == PARAMETERS[name, shortcut, classes]


def small(images, num_classes=None, shortcut="B", **kwargs):
    blocks = [
        resnet_basic.resnet_basic_block("block1", 8, 2, 1, shortcut),
        resnet_basic.resnet_basic_block("block2", 12, 2, 2, shortcut),
        resnet_basic.resnet_basic_block("block3", 16, 1, 2, shortcut),
    ]
    options = {"is_training": False, "scope": "small", **kwargs}
    return resnet_basic.resnet_basic(images, blocks, num_classes, **options)


@pytest.mark.numerical
@pytest.mark.parametrize("shortcut", ["B", "C"])
@pytest.mark.parametrize("output_stride", [4, 8])
def test_atrous_network_subsampled_equals_the_nominal_one(shortcut, output_stride):
    """This holds inside of a unit too: the second convolution after its stride is dilated as well."""
    images = v1.placeholder(tf.float32, [2, 81, 97, 3])
    nominal, _ = small(images, shortcut=shortcut, global_pool=False)
    dense, _ = small(images, shortcut=shortcut, global_pool=False, output_stride=output_stride, reuse=True)
    assert dense.shape.as_list()[1:3] == [80 // output_stride + 1, 96 // output_stride + 1]
    dense = resnet_utils.subsample(dense, 16 // output_stride)
    with v1.Session() as session:
        assign(session, random_values(v1.global_variables()))
        feeds = {images: random_images(2, 81, 97, 3)}
        expected = float64.references(session, {"nominal": nominal}, feeds)
        assert_as_exact(session.run(dense, feeds), expected["nominal"])


@pytest.mark.numerical
def test_stored_activations_are_those_before_the_stride():
    """Tests a block of one unit, which is its first and its last unit."""
    images = v1.placeholder(tf.float32, [2, 81, 97, 3])
    _, end_points = small(images)
    _, stored = small(images, store_non_strided_activations=True, reuse=True)
    with v1.Session() as session:
        assign(session, random_values(v1.global_variables()))
        feeds = {images: random_images(2, 81, 97, 3)}
        expected = float64.references(session, {"block3": end_points["small/block3"]}, feeds)
        assert_as_exact(session.run(stored["small/block3"][:, ::2, ::2], feeds), expected["block3"])


def test_pool1_pads_alike_unless_told_otherwise():
    images = v1.placeholder(tf.float32, [1, 64, 64, 3])
    small(images)
    assert [op.name for op in images.graph.get_operations() if op.name.endswith("pool1_pad")] == ["small/pool1_pad"]
    with tf.Graph().as_default() as graph:
        small(v1.placeholder(tf.float32, [1, 64, 64, 3]), pool1_padding="SAME")
        assert not any(op.name.endswith("pool1_pad") for op in graph.get_operations())


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"shortcut": "D"}, "shortcut must be 'A', 'B', 'C' or 'first_unit', and is 'D'"),
        ({"output_stride": 6}, "strides 4, 8, 16, 32, and 6 was"),
        ({"output_stride": 64}, "strides 4, 8, 16, 32, and 64 was"),
        ({"num_classes": -1}, "num_classes must be a whole number of at least 0, and is -1"),
        ({"num_classes": 10, "global_pool": False}, "spatial_squeeze=True needs logits of 1x1, and they are 2x2"),
        ({"pool1_padding": "VALID"}, "pool1_padding must be 'SAME' or 'PAD1', and is 'VALID'"),
    ],
)
def test_impossible_arguments_are_refused(kwargs, message):
    with pytest.raises(ValueError, match=message):
        resnet_basic.resnet_basic_18(v1.placeholder(tf.float32, [1, 64, 64, 3]), **kwargs)


def test_impossible_units_are_refused():
    images = v1.placeholder(tf.float32, [1, 8, 8, 16])
    with pytest.raises(ValueError, match="shortcut of a unit must be 'A', 'B' or 'C', and is 'first_unit'"):
        resnet_basic.basic(images, 16, 1, shortcut="first_unit")
    with pytest.raises(ValueError, match="'A' cannot take 8 of 16 channels away"):
        resnet_basic.basic(images, 8, 1, shortcut="A")


@pytest.mark.parametrize("shape", [(64, 64, 3), (2, 64, 64, None)])
def test_inputs_of_another_rank_or_unknown_channels_are_refused(shape):
    with pytest.raises(ValueError, match="inputs must be"):
        resnet_basic.resnet_basic_18(v1.placeholder(tf.float32, shape))
