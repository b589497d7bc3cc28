"""Tests the conversion of values between slim's VGG and Inception v3 and Keras', on narrow networks by hand."""

import itertools
import json
import random
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pytest

from checkpoints.errors import CheckpointError
from checkpoints.files.identifying import identify
from checkpoints.frameworks import read_weights
from checkpoints.frameworks.keras_applications import network_of, our_names, renumbered
from checkpoints.frameworks.keras_files import KerasFile, open_keras
from checkpoints.frameworks.keras_names import from_keras, to_keras
from nets.nets_factory import get_network
from tests.golden.make import golden_file

pytestmark = pytest.mark.filterwarnings("default::DeprecationWarning:h5py.*")

# The convolutions of each block, by the papers.
VGG = {"vgg_16": (2, 2, 3, 3, 3), "vgg_19": (2, 2, 4, 4, 4)}
CONVOLUTIONS = 94
CLASSES, WIDTH = 6, 2


def vgg(name, *, top="predictions"):
    """Returns narrow layers with Keras' names and random values; ``top`` None leaves the top out."""
    generator = np.random.default_rng(0)
    shapes, channels = {}, 3
    for block, count in enumerate(VGG[name], start=1):
        for layer in range(1, count + 1):
            shapes[f"block{block}_conv{layer}"] = (3, 3, channels, WIDTH)
            channels = WIDTH
    if top:
        shapes |= {"fc1": (49 * WIDTH, 5), "fc2": (5, 4), top: (4, CLASSES)}
    return {
        layer: {"kernel": generator.normal(size=shape), "bias": generator.normal(size=shape[-1:])}
        for layer, shape in shapes.items()
    }


def inception(first=0, *, top=True):
    """Returns layers of one value each, which tells the order in which Keras made them, numbered from ``first``."""
    layers = {}
    for i in range(CONVOLUTIONS):
        number = f"_{first + i}" if first + i else ""
        layers[f"conv2d{number}"] = {"kernel": np.full((1, 1, 3, 1), i, np.float32)}
        leaves = {leaf: np.full(1, i + part, np.float32) for leaf, part in PARTS.items()}
        layers[f"batch_normalization{number}"] = leaves
    if top:
        layers["predictions"] = {"kernel": np.ones((1, CLASSES), np.float32), "bias": np.zeros(CLASSES, np.float32)}
    names = sorted(layers)
    random.Random(0).shuffle(names)
    return {name: layers[name] for name in names}


PARTS = {"beta": 0.25, "moving_mean": 0.5, "moving_variance": 0.75}


def converted(layers, configured=None):
    return from_keras(KerasFile(Path("some.h5"), layers, configured))


@pytest.mark.parametrize(("name", "top"), [(name, top) for name in VGG for top in ("predictions", "probs", None)])
def test_vgg(name, top):
    """Every value has its place: reversed colours, rows that count positions before channels, the rest as it is."""
    layers = vgg(name, top=top)
    got = converted(layers)
    assert (got.network.name, got.num_classes, got.channels, got.folded) == (name, CLASSES if top else 0, 3, ())
    values = dict(got.values)
    first = values.pop("conv1/conv1_1/weights")
    for colour in range(3):
        np.testing.assert_array_equal(first[:, :, 2 - colour], layers["block1_conv1"]["kernel"][:, :, colour])
    if top:
        kernel = values.pop("fc6/weights")
        assert kernel.shape == (7, 7, WIDTH, 5)
        for row, column, channel in itertools.product(range(7), range(7), range(WIDTH)):
            theirs = layers["fc1"]["kernel"][(row * 7 + column) * WIDTH + channel]
            np.testing.assert_array_equal(kernel[row, column, channel], theirs)
        for ours, theirs in (("fc7", "fc2"), ("fc8", top)):
            np.testing.assert_array_equal(values.pop(f"{ours}/weights")[0, 0], layers[theirs]["kernel"])
        for ours, theirs in (("fc6", "fc1"), ("fc7", "fc2"), ("fc8", top)):
            np.testing.assert_array_equal(values.pop(f"{ours}/biases"), layers[theirs]["bias"])
    for block, count in enumerate(VGG[name], start=1):
        for layer in range(1, count + 1):
            ours, theirs = f"conv{block}/conv{block}_{layer}", layers[f"block{block}_conv{layer}"]
            np.testing.assert_array_equal(values.pop(f"{ours}/biases"), theirs["bias"])
            if layers[f"block{block}_conv{layer}"] is not layers["block1_conv1"]:
                np.testing.assert_array_equal(values.pop(f"{ours}/weights"), theirs["kernel"])
    assert not values


@pytest.mark.parametrize(("name", "top"), [(name, top) for name in VGG for top in ("predictions", None)])
def test_vgg_and_back(name, top):
    layers = vgg(name, top=top)
    got = converted(layers)
    back = dict(to_keras(got.values.__getitem__, got.network, bool(top), True))
    assert back.keys() == layers.keys()
    for layer, variables in layers.items():
        for leaf, value in variables.items():
            np.testing.assert_array_equal(back[layer][leaf], value)


@pytest.mark.parametrize(("first", "top"), [(0, True), (1, True), (94, False), (205, True)])
def test_inception(first, top):
    """The layers of any session are those of slim's graph in its order, which the golden file tells."""
    got = converted(inception(first, top=top))
    assert (got.network.name, got.num_classes, got.folded) == ("inception_v3", CLASSES if top else 0, ())
    golden = json.loads(golden_file("inception_v3").read_text(encoding="utf-8"))["variables"]
    scopes = [
        name.removesuffix("/weights").removeprefix("InceptionV3/")
        for name in golden
        if name.endswith("/weights") and "Logits/" not in name
    ]
    assert len(scopes) == CONVOLUTIONS
    for i, scope in enumerate(scopes):
        assert got.values[f"{scope}/weights"].tolist() == [[[[i]] * 3]]
        for leaf, part in PARTS.items():
            assert got.values[f"{scope}/BatchNorm/{leaf}"].tolist() == [i + part]
    places = {name.removeprefix("InceptionV3/") for name in golden if "AuxLogits" not in name}
    logits = {name for name in places if name.startswith("Logits/")}
    assert got.values.keys() == our_names(got.network, top) == (places if top else places - logits)
    back = dict(to_keras(got.values.__getitem__, got.network, top, False))
    for layer, variables in inception(top=top).items():
        for leaf, value in variables.items():
            np.testing.assert_array_equal(back[layer][leaf], value)


def test_another_epsilon_of_inception_is_folded():
    layers = inception()
    epsilons = {name: 0.003 if name.endswith("n_4") else 0.001 for name in layers if name.startswith("batch")}
    configured = [{"config": {"name": name, "epsilon": epsilon}} for name, epsilon in epsilons.items()]
    got, plain = converted(layers, configured), converted(layers)
    [name] = got.folded
    assert name == "Conv2d_4a_3x3/BatchNorm/moving_variance"  # the fifth layer of the stem
    np.testing.assert_allclose(got.values[name] - plain.values[name], 0.002, rtol=1e-3)


def without(layers, name):
    return {layer: variables for layer, variables in layers.items() if layer != name}


@pytest.mark.parametrize(
    ("layers", "words"),
    [
        (without(vgg("vgg_16"), "fc2"), "is no VGG16: it has no layer 'fc2'"),
        (without(vgg("vgg_16"), "predictions"), "holds more than VGG16: it has a layer 'fc1' besides"),
        (without(vgg("vgg_16"), "block5_conv3"), "holds another network (its layers with weights are block1_conv1, "),
        (vgg("vgg_16") | {"fc3": {"kernel": np.ones((2, 2))}}, "holds more than VGG16: it has a layer 'fc3' besides"),
        (vgg("vgg_16") | {"fc1": {"kernel": np.ones((64, 5))}}, "the kernel of 'fc1' is of shape [64, 5]"),
        (vgg("vgg_16") | {"fc1": {"kernel": np.ones((7, 7, 2, 5))}}, "the kernel of 'fc1' is of shape [7, 7, 2, 5]"),
        (vgg("vgg_16") | {"fc1": {"kernel": np.ones((98, 5))}}, "has no bias in its layer 'fc1'"),
        (without(inception(94), "conv2d_99"), "holds another network"),
        (inception(94) | {"conv2d_188": {"kernel": np.ones((1, 1, 1, 1))}}, "holds another network"),
        (
            inception(94) | {"batch_normalization_99": dict.fromkeys([*PARTS, "gamma"], np.ones(1))},
            "holds more than InceptionV3: it has a gamma in its layer 'batch_normalization_99'",
        ),
        (
            inception(94) | {"batch_normalization_99": dict.fromkeys(["beta", "moving_mean"], np.ones(1))},
            "has no moving_variance in its layer 'batch_normalization_99'",
        ),
        (inception() | {"dense": {"kernel": np.ones((1, 1))}}, "holds more than InceptionV3: it has a layer 'dense'"),
    ],
)
def test_other_networks_are_refused(layers, words):
    with pytest.raises(CheckpointError) as caught:
        converted(layers)
    assert words in str(caught.value)
    assert "VGG16, VGG19, InceptionV3, by the names that Keras gives their layers." in str(caught.value)


def test_numbers_of_layers_are_compared_as_numbers():
    names = ["conv2d_10", "conv2d_9", "conv2d", "max_pooling2d_3", "conv2d_100", "max_pooling2d_4"]
    assert renumbered(names) == {
        **{"conv2d": "conv2d", "conv2d_9": "conv2d_1", "conv2d_10": "conv2d_2", "conv2d_100": "conv2d_3"},
        **{"max_pooling2d_3": "max_pooling2d", "max_pooling2d_4": "max_pooling2d_1"},
    }


def test_layers_of_no_network():
    assert network_of([]) is None
    assert network_of(["block1_conv1", "block1_conv2"]) is None  # Xception's first layers
    assert network_of(vgg("vgg_19", top=None)) is get_network("vgg_19")


@pytest.mark.parametrize("name", ["conv1_conv1_1", "inception_v3_mixed_5b_branch_0_conv2d_0a_1x1"])
def test_layers_that_slimnets_exports_are_told(tmp_path, name):
    with pytest.raises(CheckpointError, match="with slim's names for its layers, as slimnets exports it"):
        converted({"conv2d_1a_3x3": {}, name: {}})
    with zipfile.ZipFile(tmp_path / "model.keras", "w") as archive:
        archive.writestr("config.json", json.dumps({"config": {"layers": [{"config": {"name": name}}]}}))
        archive.writestr("model.weights.h5", b"")
    assert identify(tmp_path / "model.keras").name == "a Keras model that slimnets exported"


# Files by hand. Values that are never written take no room.


def hand_written(path, shapes, leaf="{layer}/{leaf}:0"):
    """Writes zeros in the layout of Keras until 2023."""
    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = [layer.encode() for layer in shapes]
        for layer, variables in shapes.items():
            names = [leaf.format(layer=layer, leaf=name) for name in variables]
            group = file.create_group(layer)
            group.attrs["weight_names"] = [name.encode() for name in names]
            for name, shape in zip(names, variables.values(), strict=True):
                group.create_dataset(name, shape, np.float32)
    return path


def vgg_shapes(*, fc1=(25088, 4096), fc2=(4096, 4096)):
    shapes = {}
    channels = 3
    for block, (count, width) in enumerate(zip(VGG["vgg_16"], (64, 128, 256, 512, 512), strict=True), start=1):
        for layer in range(1, count + 1):
            shapes[f"block{block}_conv{layer}"] = {"kernel": (3, 3, channels, width), "bias": (width,)}
            channels = width
    for layer, shape in {"fc1": fc1, "fc2": fc2, "predictions": (fc2[1], 3)}.items():
        shapes[layer] = {"kernel": shape, "bias": shape[1:]}
    return shapes


def test_variables_as_keras_1_named_them(tmp_path):
    """The hosted files of the VGGs are that old: 'block1_conv1_W_1:0' in the group of the layer."""
    shapes = {
        layer: {{"kernel": "W", "bias": "b"}[leaf]: shape for leaf, shape in variables.items()}
        for layer, variables in list(vgg_shapes().items())[:-3]
    }
    path = hand_written(tmp_path / "notop.h5", shapes, leaf="{layer}_{leaf}_1:0")
    with open_keras(path) as file:
        assert {*file.variables["block4_conv2"]} == {"kernel", "bias"}
        assert file.variables["block4_conv2"]["kernel"].shape == (3, 3, 256 * 2, 512)
    weights = read_weights(path)
    assert (weights.network.name, weights.num_classes, weights.lacking) == ("vgg_16", 0, ("fc6", "fc7"))
    assert (weights.preprocessing, weights.image_size, weights.pool1_padding) == ("vgg", 224, "SAME")
    assert weights.value("conv5/conv5_3/weights").shape == (3, 3, 512, 512)


@pytest.mark.parametrize(
    ("shapes", "words"),
    [
        (vgg_shapes(fc1=(32768, 4096)), "the kernel of 'fc1' is of shape [32768, 4096]: what can be converted are"),
        (
            vgg_shapes(fc1=(25088, 512), fc2=(512, 512)),
            "in other shapes (2 of its layers have other widths (fc6 512 and not 4096)): take another file.",
        ),
        pytest.param(
            vgg_shapes() | {"block3_conv2": {"kernel": (3, 3, 200, 256), "bias": (256,)}},
            "and a vgg_16 has 134,258,752, so that some are of another shape): take another file.",
            marks=pytest.mark.full,
        ),
        pytest.param(
            vgg_shapes() | {"block3_conv2": {"kernel": (5, 5, 256, 256), "bias": (256,)}},
            "(conv3/conv3_2 has a kernel of 5x5, and vgg_16's has 3x3): take another file.",
            marks=pytest.mark.full,
        ),
    ],
)
def test_other_shapes_are_refused(tmp_path, shapes, words):
    path = hand_written(tmp_path / "other.h5", shapes)
    with pytest.raises(CheckpointError) as caught:
        read_weights(path)
    assert str(path) in str(caught.value)
    assert words in str(caught.value)
