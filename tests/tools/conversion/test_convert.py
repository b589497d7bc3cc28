"""Tests conversions to and from Keras, PyTorch, safetensors and NumPy against the frameworks' own networks."""

import contextlib
import itertools
import json
import os
import pickle
import struct
import subprocess
import sys
import warnings
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.helpers import float64
from tests.helpers.corpus import save_v2, weights
from tests.helpers.float64 import Reference, assert_as_exact
from tests.helpers.reference import relative_difference, slim_checkpoint
from tools.cli import main
from tools.conversion import convert
from tools.features import FeatureExtractor
from tools.runtime.importing import import_tensorflow

import_tensorflow()

import h5py  # noqa: E402
import keras  # noqa: E402
import tensorflow as tf  # noqa: E402
import torch  # noqa: E402
from safetensors.numpy import load_file, save_file  # noqa: E402

from checkpoints import CheckpointError, diagnose, note, open_checkpoint, restore  # noqa: E402
from nets import guards, nets_factory  # noqa: E402
from tests.helpers import torch_resnet  # noqa: E402

v1 = tf.compat.v1

# Warnings of h5py.
pytestmark = pytest.mark.filterwarnings("default::DeprecationWarning:h5py.*")


def full(*values):
    return pytest.param(*values, marks=pytest.mark.full)


SIX = [
    full("resnet_v1_50", "ResNet50"),
    ("resnet_v2_50", "ResNet50V2"),
    full("resnet_v1_101", "ResNet101"),
    full("resnet_v1_152", "ResNet152"),
    full("resnet_v2_101", "ResNet101V2"),
    full("resnet_v2_152", "ResNet152V2"),
]
# Files that Keras itself writes: weights and a model in the format until 2023, then weights and a model of today.
ENDINGS = ("weights only.h5", "model.h5", ".weights.h5", ".keras")
KINDS_OF_KERAS_FILES = list(itertools.product(("ResNet50", "ResNet50V2"), ENDINGS, (True, False)))


def keras_model(application, classes=1000, top=True, seed=0, size=None):
    """Returns Keras' own network with random weights, biases included, that keep activations finite."""
    keras.backend.clear_session()
    images = keras.Input((size, size, 3))
    build = getattr(keras.applications, application)
    model = build(weights=None, include_top=top, input_tensor=images, classes=classes)
    generator = np.random.default_rng(seed)
    for layer in model.layers:
        for variable in layer.weights:
            shape = variable.shape
            if variable.name == "kernel":
                value = generator.normal(0, np.sqrt(1 / np.prod(shape[:-1])), shape)
            elif variable.name in ("gamma", "moving_variance"):
                value = generator.uniform(0.5, 1.5, shape)
            else:
                value = generator.normal(0, 0.1, shape)
            variable.assign(value.astype(np.float32))
    return model


def save(model, path, ending=".keras"):
    file = Path(f"{path}{ending}".replace("weights only", "weights-only"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # .h5 is the old format
        if ending == "weights only.h5":
            from keras.src.legacy.saving import legacy_h5_format

            with h5py.File(file, "w") as stream:
                legacy_h5_format.save_weights_to_hdf5_group(stream, model)
        elif ending == ".weights.h5":
            model.save_weights(file)
        else:
            model.save(file)
    return file


def preprocess_input(application, pixels):
    module = keras.applications.resnet_v2 if application.endswith("V2") else keras.applications.resnet
    return module.preprocess_input(pixels.astype(np.float32))


def random_images(side, count=2):
    return np.random.default_rng(7).integers(0, 256, (count, side, side, 3), np.uint8)


def in_both(application, size):
    """Returns images for our preprocessing, which crops them, and the crops for Keras' preprocessing."""
    if application.endswith("V2"):
        side = next(side for side in range(size, 2 * size) if side - 2 * int((side - side * 0.875) / 2) == size)
    else:
        side = round(256 * size / 224)
    start = (side - size) // 2
    given = random_images(side)
    return given, given[:, start : start + size, start : start + size]


def features(checkpoint, end_points, images, size, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", guards.InferenceWarning)  # of the size
        with FeatureExtractor(checkpoint, end_points, image_size=size, freeze=False, **options) as extractor:
            return extractor(images)


def stored(path):
    reader = open_checkpoint(path)
    return {name: reader.read(name) for name in reader.shapes}


@pytest.fixture(scope="module")
def basic(tmp_path_factory):
    """Writes a resnet_basic_18 for 10 classes; returns the path and the values."""
    path = tmp_path_factory.mktemp("basic") / "basic.ckpt"
    return path, slim_checkpoint(path, "resnet_basic_18", 10)


@pytest.fixture(scope="module")
def v2_50(tmp_path_factory):
    """Writes Keras' ResNet50V2 for 10 classes; returns the path and the model."""
    model = keras_model("ResNet50V2", classes=10)
    return save(model, tmp_path_factory.mktemp("v2") / "v2"), model


@pytest.mark.numerical
@pytest.mark.parametrize(("name", "application"), SIX)
def test_keras_to_slim(tmp_path, name, application):
    """The predictions agree, from pixels through each side's own preprocessing, at an even and an odd size."""
    model = keras_model(application)
    source = save(model, tmp_path / "source")
    done = convert(source, tmp_path / "slim.ckpt")
    assert (done.network, done.pool1_padding, done.num_classes) == (name, "PAD1", 1000)
    assert json.loads((tmp_path / "slim.ckpt.slimnets.json").read_text())["pool1_padding"] == "PAD1"
    assert diagnose(tmp_path / "slim.ckpt").options == {"pool1_padding": "PAD1"}
    for size in (96, 97):
        ours, theirs = in_both(application, size)
        expected, _ = float64.of_keras(model, preprocess_input(application, theirs))
        assert_as_exact(features(tmp_path / "slim.ckpt", ["predictions"], ours, size)["predictions"], expected)


@pytest.mark.numerical
@pytest.mark.parametrize(
    ("name", "application", "size"),
    [full(*getattr(each, "values", each), size) for each in SIX for size in (96, 97)],
)
def test_slim_to_keras(tmp_path, name, application, size):
    """The model has slim's own pooling, and Keras can load it alone."""
    slim_checkpoint(tmp_path / "slim.ckpt", name, 1000)
    done = convert(tmp_path / "slim.ckpt", tmp_path / "model.keras", image_size=size)
    assert done.pool1_padding == "SAME"
    model = keras.saving.load_model(tmp_path / "model.keras", safe_mode=True)
    assert model.input_shape == (None, size, size, 3)
    ours, theirs = in_both("ResNet50", size)
    if application.endswith("V2"):
        # With 1000 classes slim's factory preprocesses version 2 by vgg; Keras' preprocessing differs.
        inputs = theirs.astype(np.float32) - np.array((123.68, 116.78, 103.94), np.float32)
    else:
        inputs = preprocess_input(application, theirs)
    expected = features(tmp_path / "slim.ckpt", ["predictions"], ours, size)["predictions"]
    result, _ = float64.of_keras(model, inputs)
    assert_as_exact(result.single, Reference(expected, result.double))


@pytest.mark.numerical
@pytest.mark.parametrize("size", [full(96), full(97)])
def test_slim_to_keras_of_published_classes(tmp_path, size):
    """1001 classes lose the background, and Keras' own preprocessing of version 2 fits."""
    slim_checkpoint(tmp_path / "slim.ckpt", "resnet_v2_50", 1001)
    convert(tmp_path / "slim.ckpt", tmp_path / "model.keras", num_classes=1000, image_size=size)
    model = keras.saving.load_model(tmp_path / "model.keras")
    ours, theirs = in_both("ResNet50V2", size)
    expected = features(tmp_path / "slim.ckpt", ["predictions"], ours, size, num_classes=1000)["predictions"]
    result, _ = float64.of_keras(model, preprocess_input("ResNet50V2", theirs))
    assert result.shape == (2, 1000)
    assert_as_exact(result.single, Reference(expected, result.double))


@pytest.mark.full
@pytest.mark.numerical
@pytest.mark.parametrize(("application", "ending", "top"), KINDS_OF_KERAS_FILES)
def test_kinds_of_keras_files(tmp_path, application, ending, top):
    """Every layout gives the model's values. Without the top there are no logits."""
    model = keras_model(application, classes=7, top=top)
    convert(save(model, tmp_path / "source", ending), tmp_path / "slim.ckpt")
    values = stored(tmp_path / "slim.ckpt")
    scope = "resnet_v2_50" if application.endswith("V2") else "resnet_v1_50"
    kernel = model.get_layer("conv3_block4_2_conv").kernel.numpy()
    unit = f"{scope}/block2/unit_4/bottleneck_{scope[7:9]}"
    np.testing.assert_array_equal(values[f"{unit}/conv2/weights"], kernel)
    assert (f"{scope}/logits/weights" in values) == top
    if top:
        dense = model.get_layer("predictions")
        np.testing.assert_array_equal(values[f"{scope}/logits/weights"][0, 0], dense.kernel.numpy())
        np.testing.assert_array_equal(values[f"{scope}/logits/biases"], dense.bias.numpy())
    size, end_point = 64, "block4/unit_3"
    ours, theirs = in_both(application, size)
    part = keras.Model(model.inputs[0], model.get_layer("conv5_block3_out").output)
    expected, _ = float64.of_keras(part, preprocess_input(application, theirs))
    assert_as_exact(features(tmp_path / "slim.ckpt", [end_point], ours, size)[end_point], expected)


@pytest.mark.full
def test_a_file_as_keras_hosts_it(tmp_path):
    """Files of Keras before 2023 have names in bytes that end in ':0', and a top called 'probs'."""
    model = keras_model("ResNet50V2")
    with h5py.File(tmp_path / "hosted.h5", "w") as file:
        names = {layer.name: "probs" if layer.name == "predictions" else layer.name for layer in model.layers}
        file.attrs["layer_names"] = [name.encode() for name in names.values()]
        for layer in model.layers:
            name = names[layer.name]
            group = file.create_group(name)
            group.attrs["weight_names"] = [f"{name}/{variable.name}:0".encode() for variable in layer.weights]
            for variable in layer.weights:
                group[f"{name}/{variable.name}:0"] = variable.numpy()
    done = convert(tmp_path / "hosted.h5", tmp_path / "slim.ckpt")
    assert (done.network, done.num_classes, done.image_size) == ("resnet_v2_50", 1000, 299)


@pytest.mark.full
def test_a_model_whose_groups_have_no_names(tmp_path, capsys, v2_50):
    """Keras 2.15 named the groups of .keras files after the layers' classes, counted in the configuration's order."""
    path = tmp_path / "unnamed.keras"
    with zipfile.ZipFile(v2_50[0]) as archive:
        archive.extractall(tmp_path)
    with h5py.File(tmp_path / "model.weights.h5", "r+") as file:
        file.move("layers", "_layer_checkpoint_dependencies")
        for group in file["_layer_checkpoint_dependencies"].values():
            if "vars" in group:
                group["vars"].attrs.pop("name", None)
    with zipfile.ZipFile(path, "w") as archive:
        for name in ("config.json", "model.weights.h5"):
            archive.write(tmp_path / name, name)
    convert(path, tmp_path / "slim.ckpt")
    convert(v2_50[0], tmp_path / "named.ckpt")
    values, expected = stored(tmp_path / "slim.ckpt"), stored(tmp_path / "named.ckpt")
    assert values.keys() == expected.keys()
    for name, value in values.items():
        np.testing.assert_array_equal(value, expected[name])
    # Without a configuration nothing distinguishes them.
    assert main(["convert", str(tmp_path / "model.weights.h5"), str(tmp_path / "none.ckpt")]) == 1
    assert "does not say which layer its" in capsys.readouterr().err


@pytest.mark.full
def test_a_model_as_keras_2_saved_it(tmp_path):
    """Its configuration has axes in lists, connections as lists of lists, and lacks arguments of later versions."""
    model = keras_model("ResNet50V2", classes=5, size=64)
    path = save(model, tmp_path / "keras2", "model.h5")
    config = model.get_config()
    for layer in config["layers"]:
        inputs = [tensor["config"]["keras_history"] for tensor in tensors_in(layer["inbound_nodes"])]
        layer["inbound_nodes"] = [[[*history, {}] for history in inputs]] if inputs else []
        if layer["class_name"] == "BatchNormalization":
            layer["config"]["axis"] = [3]
        layer["config"].pop("groups", None)
    with h5py.File(path, "r+") as file:
        file.attrs["model_config"] = json.dumps({"class_name": "Functional", "config": config})
    assert convert(path, tmp_path / "slim.ckpt").network == "resnet_v2_50"


def tensors_in(node):
    """Yields the inputs of a layer in a configuration of Keras 3, at any depth."""
    if isinstance(node, dict):
        if node.get("class_name") == "__keras_tensor__":
            return [node]
        node = list(node.values())
    return [found for inner in node for found in tensors_in(inner)] if isinstance(node, list | tuple) else []


@pytest.mark.full
def test_epsilon_is_folded(tmp_path):
    """Small variances show it: Keras adds 1.001e-5 to them, and slim 1e-5."""
    model = keras_model("ResNet50V2", classes=5)
    variance = np.linspace(1e-7, 1e-5, 64, dtype=np.float32)
    model.get_layer("conv2_block1_1_bn").moving_variance.assign(variance)
    done = convert(save(model, tmp_path / "source", ".weights.h5"), tmp_path / "slim.ckpt")
    name = "resnet_v2_50/block1/unit_1/bottleneck_v2/conv1/BatchNorm/moving_variance"
    value = stored(tmp_path / "slim.ckpt")[name]
    np.testing.assert_allclose(value, variance + 1e-8, rtol=1e-6)
    assert np.max(np.abs(value / variance - 1)) > 0.09
    assert max(done.differences.values()) < 1e-5


@pytest.mark.full
@pytest.mark.parametrize("ending", [".ckpt", ".npz"])
def test_averages_and_one_of_two_networks_to_another_framework(tmp_path, basic, ending):
    """The proof uses the written values: the averages of the chosen network."""
    averages = {name: value * np.float32(1.25) for name, value in basic[1].items() if "moving" not in name}
    other = {name.replace("resnet_basic_18", "other"): value for name, value in basic[1].items()}
    np.savez(
        tmp_path / "two.npz",
        **basic[1],
        **other,
        **{f"{name}/ExponentialMovingAverage": value for name, value in averages.items()},
    )
    source = tmp_path / f"source{ending}"
    convert(tmp_path / "two.npz", source)
    convert(source, tmp_path / "other.pth", scope="other")
    state = torch.load(tmp_path / "other.pth", weights_only=True)
    np.testing.assert_array_equal(state["fc.bias"].numpy(), basic[1]["resnet_basic_18/logits/biases"])
    convert(source, tmp_path / "alone.npz", scope="resnet_basic_18")
    convert(tmp_path / "alone.npz", tmp_path / f"alone2{ending}")
    convert(tmp_path / f"alone2{ending}", tmp_path / "ema.pth", ema=True)
    state = torch.load(tmp_path / "ema.pth", weights_only=True)
    np.testing.assert_array_equal(state["fc.bias"].numpy(), averages["resnet_basic_18/logits/biases"])


def test_only_averages(tmp_path, basic):
    averages = {f"{name}/ExponentialMovingAverage": value for name, value in basic[1].items()}
    np.savez(tmp_path / "averages.npz", **averages)
    with pytest.raises(CheckpointError, match="or its averages, ema=True"):
        convert(tmp_path / "averages.npz", tmp_path / "a.pth")
    with pytest.raises(ValueError, match="is left to write"):
        convert(tmp_path / "averages.npz", tmp_path / "a.npz", model_only=True)
    assert convert(tmp_path / "averages.npz", tmp_path / "a.pth", ema=True).network == "resnet_basic_18"


def test_a_key_of_the_catalog(tmp_path):
    convert("resnet_v2_tiny_digits", tmp_path / "digits.npz")
    with np.load(tmp_path / "digits.npz") as arrays:
        assert len(arrays) == 78


@pytest.mark.parametrize("application", [full("ResNet50"), full("ResNet50V2")])
def test_keras_and_back(tmp_path, application):
    """Every variable is equal to the bit, except folded ones: the epsilon, and version 1's biases."""
    model = keras_model(application, classes=7)
    convert(save(model, tmp_path / "source"), tmp_path / "slim.ckpt")
    convert(tmp_path / "slim.ckpt", tmp_path / "back.keras")
    back = keras.saving.load_model(tmp_path / "back.keras")
    assert [layer.name for layer in back.layers[1:]] == [layer.name for layer in model.layers[1:]]
    folded = {}
    for layer, there in zip(model.layers, back.layers, strict=True):
        for variable, other in zip(layer.weights, there.weights, strict=True):
            if variable.name not in ("bias", "moving_mean", "moving_variance"):
                np.testing.assert_array_equal(other.numpy(), variable.numpy())
            folded[layer.name, variable.name] = variable.numpy(), other.numpy()
    for (name, variable), (value, other) in folded.items():
        bias = folded.get((name.replace("_bn", "_conv"), "bias"), (0, 0))[0]
        if variable == "moving_mean":
            np.testing.assert_allclose(other, value - bias, rtol=0, atol=1e-6)
        elif variable == "moving_variance":
            np.testing.assert_allclose(other, value, rtol=1e-6)
        elif variable == "bias":
            behind = back.get_layer(name.replace("_conv", "_bn")) if "_conv" in name and followed(name, model) else None
            np.testing.assert_array_equal(other, np.zeros_like(value) if behind else value)


def followed(name, model):
    """Returns whether a batch norm follows the convolution of this name."""
    return any(layer.name == name.replace("_conv", "_bn") for layer in model.layers)


@pytest.mark.parametrize("name", [full("resnet_v1_50"), full("resnet_v2_50")])
def test_slim_to_keras_and_back(tmp_path, name):
    """Nothing is folded, and every variable is equal to the bit."""
    values = slim_checkpoint(tmp_path / "slim.ckpt", name, 11)
    convert(tmp_path / "slim.ckpt", tmp_path / "model.keras", image_size=64)
    done = convert(tmp_path / "model.keras", tmp_path / "back.ckpt")
    assert (done.folded, done.pool1_padding, done.image_size) == ((), "SAME", 64)
    back = stored(tmp_path / "back.ckpt")
    assert back.keys() == values.keys()
    for key, value in values.items():
        np.testing.assert_array_equal(back[key], value)


def torch_state(units, shortcut, classes):
    """Returns a random network of the tests' own, and its weights by torchvision's names."""
    module = torch_resnet.resnet(units, shortcut, classes).eval()
    torch_resnet.randomize(module, seed=3)
    state = {}
    for name, value in module.state_dict().items():
        parts = name.split(".")
        if parts[0] == "blocks":
            block, unit, rest = int(parts[1][-1]), int(parts[2].split("/")[0].split("_")[1]), parts[3:]
            layer, which, leaf = rest
            prefix = f"layer{block}.{unit - 1}."
            if layer == "shortcut":
                prefix += f"downsample.{0 if which == 'conv' else 1}"
            else:
                prefix += layer if which == "conv" else layer.replace("conv", "bn")
        elif parts[0] == "conv1":
            prefix, leaf = ("conv1" if parts[1] == "conv" else "bn1"), parts[2]
        else:
            prefix, leaf = "fc", parts[1]
        state[f"{prefix}.{leaf}"] = value
    return module, state


@pytest.mark.numerical
@pytest.mark.parametrize(
    ("depth", "shortcut", "ending"),
    [
        (18, "B", ".pth"),
        full(18, "C", ".safetensors"),
        full(18, "first_unit", ".pth"),
        full(34, "B", ".safetensors"),
        *(full(34, shortcut, ending) for shortcut in ("C", "first_unit") for ending in (".pth", ".safetensors")),
        full(34, "B", ".pth"),
    ],
)
def test_torch_and_back(tmp_path, depth, shortcut, ending):
    """The logits are the same at even and odd sizes, and the state dict comes back unchanged."""
    units = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3)}[depth]
    module, state = torch_state(units, shortcut, 9)
    source = tmp_path / f"source{ending}"
    if ending == ".pth":
        torch.save(state, source)
    else:
        save_file({name: value.numpy() for name, value in state.items()}, source)
    done = convert(source, tmp_path / "slim.ckpt")
    assert (done.network, done.options) == (f"resnet_basic_{depth}", {"shortcut": shortcut})
    assert (done.preprocessing, done.image_size, done.folded) == ("torchvision", 224, ())
    generator = np.random.default_rng(0)
    for size in (96, 97):
        images = generator.normal(0, 1, (2, size, size, 3)).astype(np.float32)
        expected = float64.of_torch(module, torch.from_numpy(images.transpose(0, 3, 1, 2).copy()))
        result = features(tmp_path / "slim.ckpt", ["logits"], images, size, preprocessing="none")["logits"]
        assert_as_exact(result, expected)
    back = tmp_path / f"back{ending}"
    convert(tmp_path / "slim.ckpt", back, names="torchvision" if ending == ".safetensors" else None)
    again = torch.load(back, weights_only=True) if ending == ".pth" else load_file(back)
    assert again.keys() == state.keys()
    for name, value in state.items():
        np.testing.assert_array_equal(np.asarray(again[name]), value.numpy())


def test_what_training_scripts_save(tmp_path, basic):
    """A state dict may be a part of the file, have the prefix of parallel training, and lack the classifying layer."""
    _, state = torch_state((2, 2, 2, 2), "B", 9)
    bare = {f"module.{name}": value for name, value in state.items() if not name.startswith("fc.")}
    torch.save({"epoch": 3, "state_dict": bare}, tmp_path / "training.pth")
    done = convert(tmp_path / "training.pth", tmp_path / "slim.ckpt")
    assert done.num_classes == 0
    assert not any("logits" in name for name in stored(tmp_path / "slim.ckpt"))
    save_file({name: value.numpy() for name, value in bare.items()}, tmp_path / "parallel.safetensors")
    assert convert(tmp_path / "parallel.safetensors", tmp_path / "same.ckpt").network == "resnet_basic_18"
    assert stored(tmp_path / "same.ckpt").keys() == stored(tmp_path / "slim.ckpt").keys()


def test_uint8_through_torchvisions_preprocessing(tmp_path):
    """The reference resizes by Pillow, crops and normalizes in PyTorch, as torchvision documents it."""
    module, state = torch_state((2, 2, 2, 2), "B", 9)
    torch.save(state, tmp_path / "source.pth")
    convert(tmp_path / "source.pth", tmp_path / "slim.ckpt")
    from skimage import data

    photograph = Image.fromarray(data.astronaut()[:400, :500])
    photograph.save(tmp_path / "photograph.png")
    result = features(tmp_path / "slim.ckpt", ["logits"], [tmp_path / "photograph.png"], None)["logits"]
    resized = photograph.resize((256 * 500 // 400, 256), Image.Resampling.BILINEAR)
    left, top = round((resized.width - 224) / 2), 16
    pixels = torch.from_numpy(np.array(resized.crop((left, top, left + 224, top + 224)))).permute(2, 0, 1) / 255
    mean, deviation = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    with torch.inference_mode():
        expected = module(((pixels - mean[:, None, None]) / deviation[:, None, None])[None]).numpy()
    # Pillow computes in whole numbers, so a few pixels differ by one.
    assert relative_difference(result, expected) < 2e-3


@pytest.mark.full
@pytest.mark.numerical
def test_rescue(tmp_path, capsys):
    """Keras' weights become slim's with a background, and inspect, features and classify agree with Keras."""
    model = keras_model("ResNet50V2")
    source = save(model, tmp_path / "resnet50v2", "weights only.h5")
    target = str(tmp_path / "rescued.ckpt")
    assert main(["convert", str(source), target, "--num-classes", "1001", "--report", str(tmp_path / "r.json")]) == 0
    printed = capsys.readouterr().out
    assert "pool1_padding='PAD1'" in printed
    report = json.loads((tmp_path / "r.json").read_text())
    assert max(report["differences"].values()) < report["tolerance"] == 1e-4
    assert {"conv1", "pool1", "block1", "predictions"} <= {name.split("/")[0] for name in report["differences"]}
    assert main(["inspect", target]) == 0
    printed = capsys.readouterr().out
    assert "resnet_v2_50, pool1_padding='PAD1'" in printed
    assert "1,001, class 0 is the background" in printed
    assert "preprocessing inception at 299" in printed
    folder = tmp_path / "images"
    folder.mkdir()
    given = random_images(341, count=3)
    for i, pixels in enumerate(given):
        Image.fromarray(pixels).save(folder / f"{i}.png")
    expected, _ = float64.of_keras(model, preprocess_input("ResNet50V2", given[:, 21:320, 21:320]))
    out = str(tmp_path / "out")
    assert main(["features", str(folder), "--checkpoint", target, "--end-points", "predictions", "--output", out]) == 0
    result = np.load(tmp_path / "out" / "predictions.npy")
    assert_as_exact(result[:, 1:], expected)
    assert not result[:, 0].any()
    capsys.readouterr()
    assert main(["classify", str(folder), "--checkpoint", target, "--json"]) == 0
    for i, row in enumerate(json.loads(capsys.readouterr().out)):
        best = np.argsort(-expected.double[i])[:5]
        assert [found["class"] for found in row["classes"]] == [number + 1 for number in best]
        found = np.array([found["probability"] for found in row["classes"]], np.float32)
        # An absolute error of a logit is a relative error of a probability; the logits are up to this large.
        scale = expected.double[i].max() * np.abs(np.log(expected.double[i])).max()
        assert_as_exact(found, expected[i][best], scale=scale)


def test_arrays_and_back(tmp_path, tiny_checkpoint_v1):
    """.npz, .safetensors, V1 and V2 keep every value to the bit, also those of a training run."""
    values = stored(tiny_checkpoint_v1)
    assert any("Momentum" in name for name in values)
    chain = [tiny_checkpoint_v1, tmp_path / "a.npz", tmp_path / "b.safetensors", tmp_path / "c.ckpt"]
    for source, target in itertools.pairwise(chain):
        assert convert(source, target).differences == {}
    convert(chain[-1], tmp_path / "d.ckpt", format="V1")
    with np.load(chain[1]) as arrays:
        kinds = [dict(arrays), load_file(chain[2]), stored(chain[3]), stored(tmp_path / "d.ckpt")]
    for kind in kinds:
        assert kind.keys() == values.keys()
        for name, value in values.items():
            assert kind[name].dtype == value.dtype
            np.testing.assert_array_equal(kind[name], value)
    assert [open_checkpoint(tmp_path / name).format for name in ("c.ckpt", "d.ckpt")] == ["V2", "V1"]
    # Notes are not written if the values tell everything themselves.
    assert not list(tmp_path.glob("*.slimnets.json"))


def test_parts(tmp_path, tiny_checkpoint_v1):
    """Patterns select subsets, training's variables can be omitted, and the scope can change."""
    values = stored(tiny_checkpoint_v1)
    convert(tiny_checkpoint_v1, tmp_path / "model.npz", model_only=True)
    with np.load(tmp_path / "model.npz") as arrays:
        assert set(arrays) == {name for name in values if "Momentum" not in name and name != "global_step"}
    convert(tiny_checkpoint_v1, tmp_path / "some.npz", only=["*/block1/*"], exclude=["*/Momentum"])
    with np.load(tmp_path / "some.npz") as arrays:
        assert set(arrays) == {name for name in values if "/block1/" in name and not name.endswith("/Momentum")}
    convert(tiny_checkpoint_v1, tmp_path / "renamed.ckpt", to_scope="mine/net", model_only=True)
    renamed = stored(tmp_path / "renamed.ckpt")
    assert set(renamed) == {
        name.replace("resnet_v2_tiny/", "mine/net/")
        for name in values
        if "Momentum" not in name and name != "global_step"
    }
    np.testing.assert_array_equal(renamed["mine/net/conv1/weights"], values["resnet_v2_tiny/conv1/weights"])
    assert diagnose(tmp_path / "renamed.ckpt").usable


def test_moving_averages(tmp_path, basic):
    """The averages replace the variables if ``ema`` is given."""
    path, values = basic
    averaged = {f"{name}/ExponentialMovingAverage": value + 1 for name, value in values.items() if "moving" not in name}
    np.savez(tmp_path / "both.npz", **values, **averaged)
    convert(tmp_path / "both.npz", tmp_path / "averages.npz", ema=True)
    with np.load(tmp_path / "averages.npz") as arrays:
        assert set(arrays) == set(values)
        for name, value in values.items():
            np.testing.assert_array_equal(arrays[name], value + ("moving" not in name))
    with pytest.raises(ValueError, match="holds no moving averages: leave ema=True out"):
        convert(path, tmp_path / "none.npz", ema=True)


def test_classes(tmp_path, tiny_checkpoint):
    with pytest.raises(ValueError, match=r"num_classes=5 cannot be made .* which has 10 classes"):
        convert(tiny_checkpoint, tmp_path / "five.ckpt", num_classes=5)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("ending", [".keras", "weights only.h5", ".npz", ".safetensors", ".pth"])
def test_inspect_offers_to_convert(tmp_path, capsys, v2_50, basic, ending):
    if ending in (".keras", "weights only.h5"):
        path = save(v2_50[1], tmp_path / "weights", ending)
    else:
        path = tmp_path / f"weights{ending}"
        convert(basic[0], path)
    assert main(["inspect", str(path)]) == 1
    assert "make a checkpoint of it by `slimnets convert`" in capsys.readouterr().out


def test_classes_of_a_training_run(tmp_path):
    """The averages of the logits are converted too. Their slots cannot be converted, and are left out."""
    values = slim_checkpoint(tmp_path / "slim.ckpt", "resnet_v2_50", 1001)
    biases = "resnet_v2_50/logits/biases"
    more = {f"{biases}/ExponentialMovingAverage": values[biases] * 2, f"{biases}/Momentum": values[biases] * 3}
    np.savez(tmp_path / "training.npz", **values, **more, **{"resnet_v2_50/conv1/weights/Momentum": np.ones(1)})
    convert(tmp_path / "training.npz", tmp_path / "less.npz", num_classes=1000)
    with np.load(tmp_path / "less.npz") as arrays:
        assert set(arrays) == {*values, f"{biases}/ExponentialMovingAverage", "resnet_v2_50/conv1/weights/Momentum"}
        np.testing.assert_array_equal(arrays[biases], values[biases][1:])
        np.testing.assert_array_equal(arrays[f"{biases}/ExponentialMovingAverage"], values[biases][1:] * 2)


@pytest.mark.full
def test_graph_with_other_pooling_is_warned_of(tmp_path, v2_50):
    convert(v2_50[0], tmp_path / "slim.ckpt")
    for options, warned in (({}, True), ({"pool1_padding": "PAD1"}, False)):
        with tf.Graph().as_default(), v1.Session() as session:
            images = v1.placeholder(tf.float32, [1, 64, 64, 3])
            nets_factory.get_network_fn("resnet_v2_50", 10)(images, **options)
            expecting = pytest.warns(guards.InferenceWarning, match="pool1_padding='PAD1', and the graph has 'SAME'")
            with expecting if warned else contextlib.nullcontext():
                report = restore(session, tmp_path / "slim.ckpt")
            assert bool(report.warnings) == warned


@pytest.mark.full
def test_notes_of_other_weights_are_left_alone(tmp_path, v2_50, basic):
    """Notes do not apply to another file of the same name, such as the next save of a training run."""
    convert(v2_50[0], tmp_path / "slim.ckpt")
    values = stored(tmp_path / "slim.ckpt")
    notes = (tmp_path / "slim.ckpt.slimnets.json").read_text()
    np.savez(tmp_path / "changed.npz", **{name: value + 1 for name, value in values.items()})
    convert(tmp_path / "changed.npz", tmp_path / "slim.ckpt", overwrite=True)
    assert not (tmp_path / "slim.ckpt.slimnets.json").exists()
    (tmp_path / "slim.ckpt.slimnets.json").write_text(notes)
    assert diagnose(tmp_path / "slim.ckpt").options == {}
    record = json.loads(notes) | {"image_size": 0}
    convert(v2_50[0], tmp_path / "slim.ckpt", overwrite=True)
    record["sha256"] = json.loads((tmp_path / "slim.ckpt.slimnets.json").read_text())["sha256"]
    (tmp_path / "slim.ckpt.slimnets.json").write_text(json.dumps(record))
    with pytest.raises(CheckpointError, match="is not as slimnets writes it"):
        open_checkpoint(tmp_path / "slim.ckpt").notes  # noqa: B018


def test_labels_and_known_input_are_kept(tmp_path):
    """Notes are also written if a conversion keeps the framework. What was assumed stays assumed."""
    values = weights(classes=1000)
    save_v2(tmp_path / "slim.ckpt", values)
    names = [f"class {i}" for i in range(1000)]
    note(tmp_path / "slim.ckpt", labels=names, image_size=64)
    done = convert(tmp_path / "slim.ckpt", tmp_path / "a.npz")
    assert (done.notes, done.assumed) == (str(tmp_path / "a.npz.slimnets.json"), ("preprocessing",))
    for target, classes, expected in (
        ("same.ckpt", 1000, names),
        ("more.ckpt", 1001, ["background", *names]),
        ("none.ckpt", 0, None),
    ):
        convert(tmp_path / "a.npz", tmp_path / target, num_classes=classes)
        found = diagnose(tmp_path / target)
        assert (found.num_classes, found.labels) == (classes, None if expected is None else tuple(expected))
        assert (found.preprocessing, found.image_size, found.assumed) == ("inception", 64, ("preprocessing",))
        assert found.usable
    convert(tmp_path / "more.ckpt", tmp_path / "less.safetensors", num_classes=1000)
    convert(tmp_path / "less.safetensors", tmp_path / "back.ckpt")
    assert diagnose(tmp_path / "back.ckpt").labels == tuple(names)
    name = "resnet_v2_tiny/logits/biases"
    np.testing.assert_array_equal(stored(tmp_path / "back.ckpt")[name], values[name])
    # A part of a network has no classes to name.
    convert(tmp_path / "a.npz", tmp_path / "part.npz", only=["*/block1/*"])
    assert not (tmp_path / "part.npz.slimnets.json").exists()
    # A size that is stated is known.
    convert(tmp_path / "a.npz", tmp_path / "sized.npz", image_size=48)
    assert json.loads((tmp_path / "sized.npz.slimnets.json").read_text())["assumed"] == ["preprocessing"]


def test_what_is_assumed_is_printed(tmp_path, capsys, tiny_checkpoint):
    assert main(["convert", str(tiny_checkpoint), str(tmp_path / "a.npz")]) == 0
    assumed = "(assumed: nothing in the file says so; slimnets note)"
    assert f"input         preprocessing inception at 32 {assumed}\n" in capsys.readouterr().out
    assert main(["convert", "resnet_v2_tiny_digits", str(tmp_path / "b.npz")]) == 0
    printed = capsys.readouterr().out
    assert "input         preprocessing inception at 32\n" in printed
    assert f"noted in      {tmp_path / 'b.npz.slimnets.json'}\n" in printed


class Runs:
    """An object that runs code when it is unpickled."""

    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return os.mkdir, (str(self.marker),)


def lying(folder, header, size):
    """Writes a safetensors file with this header, followed by that many bytes."""
    text = json.dumps(header).encode()
    path = folder / "lying.safetensors"
    path.write_bytes(struct.pack("<Q", len(text)) + text + bytes(size))
    return path


def cut(file, share):
    content = file.read_bytes()
    file.write_bytes(content[: int(len(content) * share)])
    return file


def a_plain_pickle(folder, v2, basic):
    path = folder / "plain.pth"
    path.write_bytes(pickle.dumps({"conv1.weight": Runs(folder / "ran")}))
    return path


def a_pickle_in_an_archive(folder, v2, basic):
    torch.save({"conv1.weight": Runs(folder / "ran")}, folder / "code.pth")
    return folder / "code.pth"


def an_old_pickle(folder, v2, basic):
    torch.save({"a": Runs(folder / "ran")}, folder / "old.pth", _use_new_zipfile_serialization=False)
    return folder / "old.pth"


def pickled_arrays(folder, v2, basic):
    np.savez(folder / "objects.npz", a=np.array([Runs(folder / "ran")], dtype=object))
    return folder / "objects.npz"


def inside_of_a_lambda(folder, v2, basic):
    """Writes Keras' network behind a Lambda, in one of the two layouts of models."""
    lambda_layer = keras.layers.Lambda(lambda images: images)
    model = v2[1]
    return save(keras.Model(model.inputs, lambda_layer(model.outputs[0])), folder / "lambda", "model.h5")


def a_lambda_in_keras(folder, v2, basic):
    lambda_layer = keras.layers.Lambda(lambda images: images)
    model = v2[1]
    return save(keras.Model(model.inputs, lambda_layer(model.outputs[0])), folder / "lambda", ".keras")


def other_wiring(folder, v2, basic):
    """Writes a model with Keras' layers, one of which is connected differently."""
    path = save(v2[1], folder / "wiring")
    with zipfile.ZipFile(path) as archive:
        parsed = json.loads(archive.read("config.json"))
        layers = {layer["config"]["name"]: layer for layer in parsed["config"]["layers"]}
        layers["conv5_block3_out"]["inbound_nodes"] = layers["conv5_block2_out"]["inbound_nodes"]
        weights = archive.read("model.weights.h5")
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("config.json", json.dumps(parsed))
        archive.writestr("model.weights.h5", weights)
    return path


def another_architecture(folder, v2, basic):
    return save(keras.applications.MobileNetV2(weights=None, input_shape=(32, 32, 3)), folder / "mobile", ".keras")


def another_architecture_s_weights(folder, v2, basic):
    model = keras.applications.MobileNetV2(weights=None, input_shape=(32, 32, 3))
    return save(model, folder / "mobile", "weights only.h5")


def bottlenecks_of_torch(folder, v2, basic):
    state = {"conv1.weight": torch.zeros(64, 3, 7, 7), "layer1.0.conv3.weight": torch.zeros(256, 64, 1, 1)}
    torch.save(state, folder / "resnet50.pth")
    return folder / "resnet50.pth"


def no_projections(folder, v2, basic):
    _, state = torch_state((2, 2, 2, 2), "A", 9)
    torch.save(state, folder / "a.pth")
    return folder / "a.pth"


def wide_torch(folder, v2, basic):
    _, state = torch_state((2, 2, 2, 2), "B", 9)
    state = {**state, "layer1.0.conv1.weight": torch.zeros(128, 64, 3, 3)}
    torch.save(state, folder / "wide.pth")
    return folder / "wide.pth"


def a_header_too_long(folder, v2, basic):
    (folder / "long.safetensors").write_bytes(struct.pack("<Q", 10_000) + b'{"a":1}' + bytes(100))
    return folder / "long.safetensors"


def offsets_beyond_the_end(folder, v2, basic):
    return lying(folder, {"a": {"dtype": "F32", "shape": [1000], "data_offsets": [0, 4000]}}, 16)


def offsets_that_overlap(folder, v2, basic):
    one = {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]}
    return lying(folder, {"a": one, "b": one}, 16)


def a_shape_of_other_size(folder, v2, basic):
    return lying(folder, {"a": {"dtype": "F32", "shape": [1 << 40], "data_offsets": [0, 16]}}, 16)


def half_of_keras(folder, v2, basic):
    path = folder / "half.keras"
    path.write_bytes(v2[0].read_bytes())
    return cut(path, 0.5)


def half_of_hdf5(folder, v2, basic):
    return cut(save(v2[1], folder / "half", "weights only.h5"), 0.5)


def half_of_torch(folder, v2, basic):
    _, state = torch_state((2, 2, 2, 2), "B", 9)
    torch.save(state, folder / "half.pth")
    return cut(folder / "half.pth", 0.5)


def half_of_safetensors(folder, v2, basic):
    save_file(basic[1], folder / "half.safetensors")
    return cut(folder / "half.safetensors", 0.5)


def half_of_npz(folder, v2, basic):
    np.savez(folder / "half.npz", **basic[1])
    return cut(folder / "half.npz", 0.5)


def a_damaged_npz(folder, v2, basic):
    np.savez(folder / "damaged.npz", **basic[1])
    content = bytearray((folder / "damaged.npz").read_bytes())
    content[len(content) // 2] ^= 1
    (folder / "damaged.npz").write_bytes(content)
    return folder / "damaged.npz"


def a_nan_in_the_middle(folder, v2, basic):
    _, state = torch_state((2, 2, 2, 2), "B", 9)
    state["layer3.0.conv1.weight"][0, 0, 0, 0] = float("nan")
    torch.save(state, folder / "nan.pth")
    return folder / "nan.pth"


def a_negative_epsilon(folder, v2, basic):
    return with_configuration(folder, v2, lambda layers: layers["conv4_block1_1_bn"]["config"].update(epsilon=-5.0))


def no_epsilon(folder, v2, basic):
    return with_configuration(folder, v2, lambda layers: layers["conv4_block1_1_bn"]["config"].update(epsilon=None))


def a_layer_without_a_class(folder, v2, basic):
    return with_configuration(folder, v2, lambda layers: layers["conv4_block1_1_bn"].pop("class_name"))


def with_configuration(folder, v2, change):
    with zipfile.ZipFile(v2[0]) as archive:
        config = json.loads(archive.read("config.json"))
        weights = archive.read("model.weights.h5")
    change({layer["config"]["name"]: layer for layer in config["config"]["layers"]})
    return zipped(folder, json.dumps(config), weights)


def zipped(folder, config, weights):
    with zipfile.ZipFile(folder / "changed.keras", "w") as archive:
        archive.writestr("config.json", config)
        archive.writestr("model.weights.h5", weights)
    return folder / "changed.keras"


def no_configuration(folder, v2, basic):
    with zipfile.ZipFile(v2[0]) as archive:
        return zipped(folder, "[1, 2]", archive.read("model.weights.h5"))


def hdf5(folder, v2, change):
    """Writes Keras' weights in today's format, with one group changed."""
    path = save(v2[1], folder / "weights", ".weights.h5")
    with h5py.File(path, "r+") as file:
        change(file["layers/conv2d_1/vars"])
    return path


def weights_of_another_file(folder, v2, basic):
    with h5py.File(folder / "secret.h5", "w") as file:
        file["secret"] = np.zeros((1, 1, 64, 64), np.float32)

    def change(group):
        del group["0"]
        group["0"] = h5py.ExternalLink(str(folder / "secret.h5"), "/secret")

    return hdf5(folder, v2, change)


def weights_of_any_file(folder, v2, basic):
    (folder / "secret").write_bytes(bytes(4 * 64 * 64))

    def change(group):
        shape = group["0"].shape
        del group["0"]
        size = 4 * int(np.prod(shape))
        (folder / "secret").write_bytes(bytes(size))
        group.create_dataset("0", shape, np.float32, external=[(str(folder / "secret"), 0, size)])

    return hdf5(folder, v2, change)


def a_virtual_dataset(folder, v2, basic):
    with h5py.File(folder / "secret.h5", "w") as file:
        file["secret"] = np.zeros(4096, np.float32)

    def change(group):
        shape = group["0"].shape
        del group["0"]
        layout = h5py.VirtualLayout(shape, np.float32)
        layout[...] = h5py.VirtualSource(str(folder / "secret.h5"), "secret", shape)
        group.create_virtual_dataset("0", layout)

    return hdf5(folder, v2, change)


def other_numbers(folder, v2, basic):
    return hdf5(folder, v2, lambda group: group.move("0", "7"))


def another_shape(folder, v2, basic):
    def change(group):
        del group["0"]
        group["0"] = np.zeros((3, 3), np.float32)

    return hdf5(folder, v2, change)


def text_for_weights(folder, v2, basic):
    def change(group):
        del group["0"]
        group["0"] = "text"

    return hdf5(folder, v2, change)


def names_that_are_none(folder, v2, basic):
    path = save(v2[1], folder / "names", "weights only.h5")
    with h5py.File(path, "r+") as file:
        file.attrs["layer_names"] = 3
    return path


def sparse_tensors(folder, v2, basic):
    _, state = torch_state((2, 2, 2, 2), "B", 9)
    torch.save({**state, "fc.weight": state["fc.weight"].to_sparse()}, folder / "sparse.pth")
    return folder / "sparse.pth"


def whole_numbers(folder, v2, basic):
    _, state = torch_state((2, 2, 2, 2), "B", 9)
    torch.save({**state, "fc.weight": state["fc.weight"].int()}, folder / "int.pth")
    return folder / "int.pth"


def another_kernel(folder, v2, basic):
    _, state = torch_state((2, 2, 2, 2), "B", 9)
    torch.save({**state, "conv1.weight": torch.zeros(64, 3, 0, 7)}, folder / "kernel.pth")
    return folder / "kernel.pth"


def a_strange_npz(folder, v2, basic):
    with zipfile.ZipFile(folder / "strange.npz", "w") as archive:
        archive.writestr("a.npy", b"no array")
    return folder / "strange.npz"


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (a_plain_pickle, "which is not opened, since it could run anything"),
        (a_pickle_in_an_archive, "which could run anything when opened, and is not opened"),
        (an_old_pickle, "which could run anything when opened, and is not opened"),
        (pickled_arrays, "holds pickled objects, which could run anything and are not opened"),
        full(inside_of_a_lambda, "(Lambda), which ResNet50V2 does not have"),
        full(a_lambda_in_keras, "(Lambda), which ResNet50V2 does not have"),
        (other_wiring, "has a layer 'conv5_block3_out' (Add) that differs from that of ResNet50V2"),
        (another_architecture, "that no network has which can be converted"),
        (another_architecture_s_weights, "holds another network (its layers with weights are "),
        (bottlenecks_of_torch, "have their stride in the 3x3 convolution"),
        (no_projections, "has no projections (downsample) in its shortcuts"),
        (wide_torch, "has the layers of resnet_basic_18 in other shapes"),
        (a_header_too_long, "is damaged or cut short"),
        (offsets_beyond_the_end, "is damaged or cut short"),
        (offsets_that_overlap, "is damaged or cut short"),
        (a_shape_of_other_size, "is damaged or cut short"),
        (half_of_keras, "cut short or damaged"),
        (half_of_hdf5, "is damaged or cut short"),
        (half_of_torch, "cut short or damaged"),
        (half_of_safetensors, "is damaged or cut short"),
        (half_of_npz, "cut short or damaged"),
        (a_damaged_npz, "is damaged or cut short"),
        (a_nan_in_the_middle, "differ by nan of the largest value in block3"),
        (a_negative_epsilon, "has -5.0 for the epsilon of its layer 'conv4_block1_1_bn'"),
        (no_epsilon, "has None for the epsilon of its layer"),
        (a_layer_without_a_class, "is no model of layers with names"),
        (no_configuration, "is no model of layers with names"),
        (weights_of_another_file, "nothing of its own is called 0"),
        (weights_of_any_file, "has its 0 in another file, which is not opened"),
        (a_virtual_dataset, "has its 0 in another file, which is not opened"),
        (other_numbers, "that no network has which can be converted"),
        (another_shape, "in other shapes"),
        (text_for_weights, "has no numbers in the kernel of its layer"),
        (names_that_are_none, "is damaged or cut short"),
        (sparse_tensors, "is damaged or cut short"),
        (whole_numbers, "has fc.weight as int32"),
        (another_kernel, "has a conv1.weight of shape [64, 3, 0, 7]"),
        (a_strange_npz, "is damaged or cut short"),
    ],
)
@pytest.mark.filterwarnings("ignore")
def test_refused(tmp_path, capsys, v2_50, basic, make, words):
    """The error is one sentence; nothing is run or written."""
    folder, output = tmp_path / "given", tmp_path / "output"
    folder.mkdir()
    output.mkdir()
    source = make(folder, v2_50, basic)
    assert main(["convert", str(source), str(output / "target.ckpt")]) == 1
    stdout, stderr = capsys.readouterr()
    error = stderr.splitlines()[-1]
    assert stdout == ""
    assert error.startswith("slimnets: error: ")
    assert str(source) in error
    assert words in error
    assert len(error) < 600
    assert not (folder / "ran").exists()
    assert not list(output.iterdir())


@pytest.mark.parametrize(
    ("target", "options", "words"),
    [
        ("model.h5", [], "call it model.keras"),
        ("a.ckpt.index", [], "give the part that all their names share"),
        ("a.npz", ["--format", "V1"], "--format V1 applies only to checkpoints"),
        ("a.ckpt", ["--names", "torchvision"], "--names torchvision applies only to .safetensors files"),
        ("a.keras", [], "would hold resnet_v2_tiny, which keras.applications does not have"),
        ("a.pth", [], "would hold resnet_v2_tiny, which torchvision does not have"),
        ("a.npz", ["--only", "nothing"], "'nothing' fits no variable"),
        ("a.npz", ["--only", "*/conv1/*", "--exclude", "*/conv1/*"], "leave nothing"),
        ("a.npz", ["--scope", "other"], "has no network under --scope other"),
        ("a.npz", ["--net", "resnet_v2_50"], "holds resnet_v2_tiny and not resnet_v2_50"),
        ("none/a.npz", [], "There is no folder"),
        ("there.npz", [], "exists: give another name, or --overwrite"),
        ("a.npz", ["--report", "none/r.json"], "for the report: make it"),
    ],
)
def test_target_refused(tmp_path, capsys, monkeypatch, tiny_checkpoint, target, options, words):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "there.npz").write_bytes(b"kept")
    assert main(["convert", str(tiny_checkpoint), target, *options]) == 1
    stdout, stderr = capsys.readouterr()
    assert words in stderr.splitlines()[-1]
    assert stdout == ""
    assert [path.name for path in tmp_path.iterdir()] == ["there.npz"]
    assert (tmp_path / "there.npz").read_bytes() == b"kept"


def test_networks_that_differ_leave_no_target(tmp_path, capsys, v2_50, monkeypatch):
    """Running both networks finds a wrong conversion."""
    from checkpoints.frameworks.keras_applications import APPLICATIONS

    application = APPLICATIONS["resnet_v2_50"]
    monkeypatch.setitem(APPLICATIONS, "resnet_v2_50", application._replace(slim_epsilon=0.1))
    assert main(["convert", str(v2_50[0]), str(tmp_path / "slim.ckpt")]) == 1
    error = capsys.readouterr().err.splitlines()[-1]
    assert "more than 0.0001: nothing is written" in error
    assert not list(tmp_path.iterdir())


def test_overwritten(tmp_path, tiny_checkpoint, basic):
    """The target is replaced at once, and no file of an earlier checkpoint with more parts stays."""
    (tmp_path / "a.ckpt.data-00001-of-00002").write_bytes(b"")
    convert(basic[0], tmp_path / "a.ckpt", overwrite=True)
    convert(tiny_checkpoint, tmp_path / "a.ckpt", overwrite=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.ckpt.data-00000-of-00001", "a.ckpt.index"]
    assert stored(tmp_path / "a.ckpt").keys() == stored(tiny_checkpoint).keys()


def test_the_other_format_of_the_same_name(tmp_path, capsys, tiny_checkpoint):
    """A V1 file beside a V2 index of the same name would not be found, nor the reverse."""
    values = stored(tiny_checkpoint)
    for first, second in (("V1", "V2"), ("V2", "V1")):
        target = tmp_path / f"{first}.ckpt"
        convert(tiny_checkpoint, target, format=first)
        with pytest.raises(FileExistsError, match="give another name, or overwrite=True"):
            convert(tiny_checkpoint, target, format=second)
        # Also the source itself.
        convert(target, target, format=second, overwrite=True)
        assert open_checkpoint(target).format == second
        assert stored(target).keys() == values.keys()
        np.testing.assert_array_equal(
            stored(target)["resnet_v2_tiny/conv1/weights"], values["resnet_v2_tiny/conv1/weights"]
        )


def test_links_are_not_replaced(tmp_path, tiny_checkpoint):
    (tmp_path / "real.npz").write_bytes(b"kept")
    (tmp_path / "link.npz").symlink_to(tmp_path / "real.npz")
    (tmp_path / "dangling.npz").symlink_to(tmp_path / "nowhere")
    for name in ("link.npz", "dangling.npz"):
        with pytest.raises(FileExistsError, match="is not a plain file, and is not replaced"):
            convert(tiny_checkpoint, tmp_path / name, overwrite=True)
        assert (tmp_path / name).is_symlink()
    assert (tmp_path / "real.npz").read_bytes() == b"kept"


@pytest.mark.parametrize("report", ["source.npz", "target.npz", "target.npz.slimnets.json", "there.json", "folder"])
def test_report_takes_nothings_place(tmp_path, capsys, monkeypatch, tiny_checkpoint, report):
    monkeypatch.chdir(tmp_path)
    convert(tiny_checkpoint, "source.npz")
    (tmp_path / "there.json").write_text("kept")
    (tmp_path / "folder").mkdir()
    before = (tmp_path / "source.npz").read_bytes()
    assert main(["convert", "source.npz", "target.npz", "--report", report]) == 1
    assert f"The report {report}" in capsys.readouterr().err.splitlines()[-1]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["folder", "source.npz", "there.json"]
    assert (tmp_path / "source.npz").read_bytes() == before


def test_numbers_of_every_kind(tmp_path):
    """Scalars, empty arrays, flags and half precision are equal to the bit, or refused by name if a type is missing."""
    values = {
        "scalar": np.int64(3),
        "empty": np.zeros((0, 3), np.float32),
        "half": np.arange(6, dtype=np.float16).reshape(2, 3),
        "flags": np.array([True, False]),
        "transposed": np.arange(6, dtype=np.float64).reshape(2, 3).T,
    }
    np.savez(tmp_path / "a.npz", **values)
    for source, target in itertools.pairwise(["a.npz", "b.safetensors", "c.ckpt", "d.npz"]):
        convert(tmp_path / source, tmp_path / target)
    with np.load(tmp_path / "d.npz") as arrays:
        for name, value in values.items():
            assert arrays[name].dtype == value.dtype
            assert arrays[name].shape == value.shape
            np.testing.assert_array_equal(arrays[name], value)
    bfloat16 = tf.bfloat16.as_numpy_dtype
    save_file({"weights": np.ones(3, bfloat16)}, tmp_path / "e.safetensors")
    convert(tmp_path / "e.safetensors", tmp_path / "f.ckpt")
    np.testing.assert_array_equal(stored(tmp_path / "f.ckpt")["weights"], np.ones(3, bfloat16))
    with pytest.raises(ValueError, match="NumPy's archives cannot hold weights, which is bfloat16"):
        convert(tmp_path / "f.ckpt", tmp_path / "g.npz")
    with pytest.raises(ValueError, match="format V1 cannot hold weights, which is bfloat16"):
        convert(tmp_path / "e.safetensors", tmp_path / "h.ckpt", format="V1")
    np.savez(tmp_path / "text.npz", name=np.array(["text"]), complex=np.ones(2, np.complex64))
    with pytest.raises(ValueError, match="safetensors cannot hold name"):
        convert(tmp_path / "text.npz", tmp_path / "i.safetensors")
    with zipfile.ZipFile(tmp_path / "a.npz") as archive, zipfile.ZipFile(tmp_path / "nameless.npz", "w") as nameless:
        nameless.writestr(".npy", archive.read("scalar.npy"))
    with pytest.raises(ValueError, match="cannot hold a variable without a name"):
        convert(tmp_path / "nameless.npz", tmp_path / "i.ckpt")
    assert not (tmp_path / "g.npz").exists() and not list(tmp_path.glob("[hi].*"))


def test_one_of_several_networks(tmp_path, basic, tiny_checkpoint):
    """Converts the chosen network, and nothing of the other."""
    both = {**basic[1], **stored(tiny_checkpoint)}
    np.savez(tmp_path / "both.npz", **both)
    convert(tmp_path / "both.npz", tmp_path / "one.ckpt", scope="resnet_v2_tiny")
    assert stored(tmp_path / "one.ckpt").keys() == stored(tiny_checkpoint).keys()
    convert(tmp_path / "both.npz", tmp_path / "other.ckpt", net="resnet_basic_18")
    assert stored(tmp_path / "other.ckpt").keys() == basic[1].keys()


def test_averages_of_some(tmp_path, basic):
    name = "resnet_basic_18/conv1/weights"
    np.savez(tmp_path / "some.npz", **basic[1], **{f"{name}/ExponentialMovingAverage": basic[1][name]})
    with pytest.raises(ValueError, match="holds moving averages of only some variables"):
        convert(tmp_path / "some.npz", tmp_path / "a.npz", ema=True)


@pytest.mark.full
def test_a_part_is_no_network(tmp_path, v2_50):
    """A network without logits still counts. For a smaller part, notes and report claim nothing."""
    convert(v2_50[0], tmp_path / "slim.ckpt")
    bare = convert(tmp_path / "slim.ckpt", tmp_path / "bare.ckpt", exclude=["*/logits/*"])
    assert (bare.network, bare.num_classes, bare.pool1_padding) == ("resnet_v2_50", 0, "PAD1")
    assert diagnose(tmp_path / "bare.ckpt").options == {"pool1_padding": "PAD1"}
    part = convert(tmp_path / "slim.ckpt", tmp_path / "part.npz", only=["*/block1/*"])
    assert (part.network, part.notes) == (None, None)


@pytest.mark.full
def test_disk_full(tmp_path, tiny_checkpoint, basic):
    """A limit on the size of files stands for a full disk: every format gives one sentence, and leaves nothing."""
    convert(basic[0], tmp_path / "given.pth")
    given = set(tmp_path.iterdir())
    for name in ("a.npz", "b.safetensors", "c.ckpt", "d.pth", "--format V1 e.ckpt"):
        source = basic[0] if name.endswith(".pth") else tiny_checkpoint
        *options, target = name.split()
        command = (
            f"ulimit -f 1000; exec {sys.executable} -m tools convert {source} {tmp_path / target} {' '.join(options)}"
        )
        done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
        assert done.returncode == 1
        assert done.stderr.splitlines()[-1].startswith("slimnets: error: ")
        assert any(word in done.stderr.splitlines()[-1] for word in ("File too large", "cannot be written"))
        assert set(tmp_path.iterdir()) == given
