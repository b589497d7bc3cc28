"""Tests `slimnets convert` on networks of other shapes, names of other libraries, and targets of other formats."""

import json
import os
import warnings
import zipfile
from pathlib import Path

import numpy as np
import pytest

from tests.helpers.reference import relative_difference, slim_checkpoint
from tests.tools.conversion.test_convert import features, keras_model, save, stored, torch_state
from tools.cli import main
from tools.conversion import convert
from tools.runtime.agreement import logit_size
from tools.runtime.importing import import_tensorflow

import_tensorflow()

import h5py  # noqa: E402
import keras  # noqa: E402
import torch  # noqa: E402
from safetensors.numpy import load_file, save_file  # noqa: E402
from torch import nn  # noqa: E402

from checkpoints import open_checkpoint  # noqa: E402
from checkpoints.files import write_checkpoint  # noqa: E402
from checkpoints.frameworks import read_weights  # noqa: E402
from checkpoints.frameworks.foreign_names import foreign_names  # noqa: E402
from checkpoints.frameworks.torch_names import to_torch  # noqa: E402
from tools.conversion import converting  # noqa: E402
from tools.conversion.proof_images import images_for, preprocessing_for  # noqa: E402

pytestmark = [
    pytest.mark.filterwarnings("default::DeprecationWarning:h5py.*"),
    pytest.mark.filterwarnings("default::UserWarning:keras.*"),
]

DIGITS = "resnet_v2_tiny_digits"


@pytest.fixture(scope="module")
def state():
    """Returns a ResNet-18 for 9 classes by torchvision's names."""
    return torch_state((2, 2, 2, 2), "B", 9)[1]


@pytest.fixture(scope="module")
def basic(tmp_path_factory):
    """Returns the values of a resnet_basic_18 for 10 classes, by slim's names."""
    return slim_checkpoint(tmp_path_factory.mktemp("basic") / "basic.ckpt", "resnet_basic_18", 10)


def refused(capsys, folder, source, target, *options):
    """Returns the error of a conversion, after checking that it left nothing behind."""
    before = {path: path.lstat().st_mtime_ns for path in folder.rglob("*")}
    assert main(["convert", str(source), str(target), *options]) == 1
    stdout, stderr = capsys.readouterr()
    assert stdout == ""
    error = stderr.splitlines()[-1]
    assert error.startswith("slimnets: error: ")
    assert len(stderr.splitlines()) <= 2  # the progress, and the error
    assert len(error) < 600
    assert {path: path.lstat().st_mtime_ns for path in folder.rglob("*")} == before
    return error


def ones(*shape):
    return np.ones(shape, np.float32)


# Networks of other shapes.


def with_channels(channels, num_classes):
    module, state = torch_state((2, 2, 2, 2), "B", num_classes)
    kernel = torch.from_numpy(np.random.default_rng(channels).normal(0, 0.1, (64, channels, 7, 7)).astype(np.float32))
    first = next(layer for layer in module.modules() if isinstance(layer, nn.Conv2d))
    first.in_channels, first.weight = channels, nn.Parameter(kernel)
    return module, state | {"conv1.weight": kernel}


@pytest.mark.parametrize(("channels", "num_classes"), [(1, 7), (4, 1)])
def test_images_of_other_channels_from_pytorch(tmp_path, channels, num_classes):
    """The logits are PyTorch's, and the state dict comes back."""
    module, state = with_channels(channels, num_classes)
    torch.save(state, tmp_path / "source.pth")
    done = convert(tmp_path / "source.pth", tmp_path / "slim.ckpt")
    assert (done.network, done.num_classes, done.preprocessing) == ("resnet_basic_18", num_classes, "none")
    images = np.random.default_rng(0).normal(0, 1, (2, 65, 65, channels)).astype(np.float32)
    with torch.inference_mode():
        expected = module(torch.from_numpy(images.transpose(0, 3, 1, 2).copy())).numpy()
    result = features(tmp_path / "slim.ckpt", ["logits"], images, 65)["logits"]
    assert relative_difference(result, expected) < 1e-5
    convert(tmp_path / "slim.ckpt", tmp_path / "back.safetensors", names="torchvision")
    back = load_file(tmp_path / "back.safetensors")
    assert back.keys() == state.keys()
    for name, value in state.items():
        np.testing.assert_array_equal(back[name], value.numpy())


@pytest.mark.full
def test_images_of_other_channels_from_keras(tmp_path):
    """Version 1 takes four channels in their order, and the model comes back."""
    keras.backend.clear_session()
    model = keras.applications.ResNet50(weights=None, include_top=False, input_tensor=keras.Input((96, 96, 4)))
    for layer in model.layers:
        if isinstance(layer, keras.layers.Conv2D):
            shape = layer.kernel.shape
            kernel = np.random.default_rng(0).normal(0, np.sqrt(1 / np.prod(shape[:-1])), shape)
            layer.kernel.assign(kernel.astype(np.float32))
    kernel = model.get_layer("conv1_conv").kernel.numpy()
    done = convert(save(model, tmp_path / "source"), tmp_path / "slim.ckpt")
    assert (done.network, done.preprocessing, done.image_size) == ("resnet_v1_50", "none", 96)
    np.testing.assert_array_equal(stored(tmp_path / "slim.ckpt")["resnet_v1_50/conv1/weights"], kernel)
    convert(tmp_path / "slim.ckpt", tmp_path / "back.keras")
    back = keras.saving.load_model(tmp_path / "back.keras")
    np.testing.assert_array_equal(back.get_layer("conv1_conv").kernel.numpy(), kernel)
    assert back.input_shape == (None, 96, 96, 4)


def test_double_precision_from_pytorch(tmp_path, state):
    other = {name: value.double() if value.is_floating_point() else value for name, value in state.items()}
    torch.save(other, tmp_path / "source.pth")
    convert(tmp_path / "source.pth", tmp_path / "slim.ckpt")
    value = stored(tmp_path / "slim.ckpt")["resnet_basic_18/logits/biases"]
    np.testing.assert_array_equal(value.astype(np.float64), other["fc.bias"].double().numpy())


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"bn1.running_var": torch.ones(32)}, "a bn1.running_var of shape [32] and not [64]"),
        ({"layer2.0.bn1.running_mean": torch.ones(1)}, "a layer2.0.bn1.running_mean of shape [1] and not [128]"),
        ({"layer2.0.bn1.weight": torch.ones(1, 128)}, "a layer2.0.bn1.weight of shape [1, 128] and not [128]"),
        ({"layer1.1.conv2.weight": torch.ones(64, 32, 3, 3)}, "of shape [64, 32, 3, 3] and not [64, 64, 3, 3]"),
        ({"conv1.weight": torch.ones(64, 3, 3, 3)}, "a conv1.weight of shape [64, 3, 3, 3] and not [64, 3, 7, 7]"),
        ({"conv1.weight": torch.ones(64, 0, 7, 7)}, "a conv1.weight of shape [64, 0, 7, 7]"),
        ({"conv1.weight": torch.ones(64)}, "a conv1.weight of shape [64]"),
        ({"fc.weight": torch.ones(0, 512), "fc.bias": torch.ones(0)}, "a fc.weight of shape [0, 512]"),
        ({"fc.bias": torch.ones(4)}, "a fc.weight of shape [9, 512] and not [4, 512]"),
        ({"bn1.running_mean": torch.full((64,), torch.inf)}, "has infinite values in resnet_basic_18/conv1"),
        ({"conv1.weight": torch.full((64, 3, 7, 7), 1e300, dtype=torch.float64)}, "or values too large for float32"),
        ({"bn1.running_var": -torch.ones(64)}, "does it hold NaNs, or variances below 0?"),
        ({"bn1.running_mean": torch.ones(64, dtype=torch.bool)}, "has bn1.running_mean as bool"),
        ({"head.weight": torch.ones(3, 3)}, "it has 'head.weight' besides"),
    ],
)
def test_other_shapes_and_values_from_pytorch(tmp_path, capsys, state, change, words):
    torch.save(state | change, tmp_path / "source.pth")
    assert words in refused(capsys, tmp_path, tmp_path / "source.pth", tmp_path / "target.ckpt")


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("block1/unit_1/basic/conv1/BatchNorm/moving_variance", ones(1), "a layer1.0.bn1.running_var of shape [1]"),
        ("block1/unit_1/basic/conv1/weights", ones(3, 3, 32, 64), "of shape [3, 3, 32, 64] and not [3, 3, 64, 64]"),
        ("block1/unit_1/basic/conv2/weights", np.ones((3, 3, 64, 64), np.int64), "conv2/weights as int64"),
        ("block1/unit_1/basic/conv2/weights", np.ones((3, 3, 64, 64), np.complex64), "conv2/weights as complex64"),
        ("conv1/BatchNorm/moving_mean", np.full(64, np.inf), "has infinite values in resnet_basic_18/conv1"),
        ("logits/weights", ones(1, 1, 256, 10), "a logits/weights of shape [1, 1, 256, 10]"),
        ("logits/biases", ones(4), "as its logits have 10 classes by their weights and 4 by their biases: take the"),
        ("conv1/weights", ones(7, 7, 0, 64), "a conv1/weights of shape [7, 7, 0, 64]"),
    ],
)
def test_other_shapes_and_values_to_pytorch(tmp_path, capsys, basic, name, value, words):
    np.savez(tmp_path / "source.npz", **basic | {f"resnet_basic_18/{name}": value})
    assert words in refused(capsys, tmp_path, tmp_path / "source.npz", tmp_path / "target.pth")


@pytest.fixture(scope="module")
def keras_weights(tmp_path_factory):
    return save(keras_model("ResNet50V2", classes=3), tmp_path_factory.mktemp("keras") / "weights", ".weights.h5")


@pytest.mark.parametrize(
    ("layer", "number", "value", "words"),
    [
        ("conv2d", "0", ones(3, 64), "the kernel of 'conv1_conv' is of shape [3, 64]"),
        ("conv2d", "0", ones(7, 7, 0, 64), "the kernel of 'conv1_conv' is of shape [7, 7, 0, 64]"),
        ("dense", "0", ones(2048, 0), "the kernel of 'predictions' is of shape [2048, 0]"),
        ("dense", "1", ones(1), "its logits have 3 classes by their weights and 1 by their biases"),
        ("batch_normalization", "2", np.full(64, np.inf, np.float32), "has infinite values in resnet_v2_50/block1"),
        ("batch_normalization", "0", ones(32), "so that some are missing, of another shape"),
    ],
)
def test_other_shapes_and_values_from_keras(tmp_path, capsys, keras_weights, layer, number, value, words):
    source = tmp_path / keras_weights.name
    source.write_bytes(keras_weights.read_bytes())
    with h5py.File(source, "r+") as file:
        group = file[f"layers/{layer}/vars"]
        del group[number]
        group[number] = value
    assert words in refused(capsys, tmp_path, source, tmp_path / "target.ckpt")


def test_a_model_that_was_not_the_first(tmp_path, capsys):
    """Keras numbers layers without a name. Other differences are reported with the layer's name."""
    models = [keras.applications.ResNet50V2(weights=None, classes=3, classifier_activation=None) for _ in range(2)]
    assert models[0].layers[37].name != models[1].layers[37].name  # a pooling
    error = refused(capsys, tmp_path, save(models[1], tmp_path / "source"), tmp_path / "target.ckpt")
    assert "has a layer 'predictions' (Dense) that differs from that of ResNet50V2" in error
    assert "(activation 'linear' and not 'softmax')" in error


# Names of other libraries.


@pytest.mark.parametrize("prefix", ["model.", "module.encoder.net."])
def test_prefixes_of_pytorchs_names(tmp_path, state, prefix):
    torch.save({"state_dict": {prefix + name: value for name, value in state.items()}}, tmp_path / "source.pth")
    assert convert(tmp_path / "source.pth", tmp_path / "slim.npz").network == "resnet_basic_18"
    with np.load(tmp_path / "slim.npz") as arrays:
        np.testing.assert_array_equal(arrays["resnet_basic_18/logits/biases"], state["fc.bias"].numpy())


@pytest.mark.parametrize("ending", [".pth", ".safetensors"])
def test_more_than_what_is_under_a_prefix(tmp_path, capsys, state, ending):
    """A head of the wrapper may take another input than the network's own head."""
    wrapped = {name if name.startswith("fc.") else f"backbone.{name}": value for name, value in state.items()}
    source = tmp_path / f"source{ending}"
    if ending == ".pth":
        torch.save(wrapped, source)
    else:
        save_file({name: value.numpy() for name, value in wrapped.items()}, source)
    error = refused(capsys, tmp_path, source, tmp_path / "target.ckpt")
    assert "it has 'fc.bias' beside the one under 'backbone.'" in error


OTHERS = {
    "a ViT of timm's": {"cls_token": ones(1, 1, 8), "blocks.0.attn.qkv.weight": ones(24, 8)},
    "Hugging Face's ResNet": {
        "resnet.embedder.embedder.convolution.weight": ones(64, 3, 7, 7),
        "resnet.encoder.stages.0.layers.0.layer.0.convolution.weight": ones(64, 64, 3, 3),
        "classifier.1.weight": ones(3, 8),
    },
    "VGG": {"features.0.weight": ones(64, 3, 3, 3), "features.0.bias": ones(64)},
    "BERT": {"bert.embeddings.LayerNorm.gamma": ones(8), "bert.pooler.dense.weight": ones(8, 8)},
    "one layer": {"weight": ones(3, 4), "bias": ones(3)},
    "BiT": {
        "resnet/root_block/standardized_conv2d/kernel": ones(7, 7, 3, 64),
        "resnet/block1/unit01/a/group_norm/gamma": ones(64),
    },
    "Keras' by variables": {"conv1_conv/kernel:0": ones(7, 7, 3, 64), "conv1_conv/bias:0": ones(64)},
    "Haiku's": {"res_net50/~/initial_conv/w": ones(7, 7, 3, 64)},
    "MXNet's": {"conv0_weight": ones(64, 3, 7, 7), "bn0_gamma": ones(64)},
    "a list of arrays": {"arr_0": ones(7, 7, 3, 64), "arr_1": ones(64)},
}


@pytest.mark.parametrize(
    ("library", "source", "target"),
    [
        *((library, "source.safetensors", "target.ckpt") for library in OTHERS),
        ("BiT", "source.npz", "target.ckpt"),
        ("VGG", "source.npz", "target.safetensors"),
        ("BERT", "source.safetensors", "target.npz"),
        ("VGG", "source.safetensors", "target.pth"),
    ],
)
def test_names_of_other_libraries(tmp_path, capsys, library, source, target):
    """The refusal quotes names of the file and offers an option, which then works."""
    arrays = OTHERS[library]
    if source.endswith(".npz"):
        np.savez(tmp_path / source, **arrays)
    else:
        save_file(arrays, tmp_path / source)
    error = refused(capsys, tmp_path, tmp_path / source, tmp_path / target)
    assert f"with another library's names ({len(arrays)}, such as " in error
    assert any(name[:40] in error for name in arrays)
    assert "slim's names (resnet_v2_50/conv1/weights)" in error
    assert "--only '*' copies arrays with any names as they are" in error
    if not target.endswith(".pth"):
        assert main(["convert", str(tmp_path / source), str(tmp_path / target), "--only", "*"]) == 0
        if target.endswith(".ckpt"):
            assert stored(tmp_path / target).keys() == arrays.keys()


def test_deeper_networks_of_torchvisions(tmp_path, capsys):
    state = {
        **{"backbone.conv1.weight": ones(64, 3, 7, 7), "backbone.bn1.weight": ones(64)},
        **{"backbone.layer1.0.conv1.weight": ones(64, 64, 1, 1), "backbone.layer1.0.conv3.weight": ones(256, 64, 1, 1)},
    }
    save_file(state, tmp_path / "source.safetensors")
    error = refused(capsys, tmp_path, tmp_path / "source.safetensors", tmp_path / "target.ckpt")
    assert "have their stride in the 3x3 convolution" in error


@pytest.mark.parametrize(
    "arrays",
    [
        {"my_head/weights": ones(4, 3), "my_head/biases": ones(3)},
        {"resnet_v2_50/block1/unit_1/bottleneck_v2/preact/gamma": ones(64)},
        {"resnet_v2_50/postnorm/gamma": ones(64)},
        {"a/conv1/weights/Momentum": ones(7, 7, 3, 64)},
        {"a/conv1/weights/ExponentialMovingAverage": ones(7, 7, 3, 64)},
        {"vgg_16/conv1/conv1_1/weights": ones(3, 3, 3, 64), "params.temperature": ones(1)},
        {"tower/global_step": np.int64(3)},
        {"scalar": ones(), "matrix": ones(2, 3)},
    ],
)
def test_slims_own_names_go_on(tmp_path, arrays):
    """Parts, heads and other networks of slim convert between arrays, and to a checkpoint."""
    assert foreign_names({name: value.shape for name, value in arrays.items()}) == []
    np.savez(tmp_path / "a.npz", **arrays)
    convert(tmp_path / "a.npz", tmp_path / "b.safetensors")
    convert(tmp_path / "b.safetensors", tmp_path / "c.ckpt")
    assert stored(tmp_path / "c.ckpt").keys() == arrays.keys()


def test_other_variables_beside_a_network(tmp_path, basic):
    more = {"classifier.weight": ones(3, 3), "own/kernel": ones(3, 3, 4, 4)}
    np.savez(tmp_path / "a.npz", **basic, **more)
    assert convert(tmp_path / "a.npz", tmp_path / "b.ckpt").network == "resnet_basic_18"
    assert stored(tmp_path / "b.ckpt").keys() == basic.keys() | more.keys()


def test_what_no_network_was_found_in_is_said(tmp_path, capsys):
    np.savez(tmp_path / "a.npz", **{"my_head/weights": ones(4, 3)})
    assert main(["convert", str(tmp_path / "a.npz"), str(tmp_path / "b.ckpt")]) == 0
    assert "none that is known, or several; the variables are copied as they are" in capsys.readouterr().out


# Targets.


@pytest.mark.parametrize(
    ("target", "words"),
    [
        *((name, f"or {name}.ckpt for a checkpoint") for name in ("saved_model", "frozen_graph", "SavedModel", "onnx")),
        *((name, f"or {name}.ckpt for a checkpoint") for name in ("keras", "tflite", "pb", "h5", "torch", "pytorch")),
        *((name, f"or {name}.ckpt for a checkpoint") for name in ("npz", "safetensors", "my_saved_model", "OpenVINO")),
        ("model.tflite", "or model.ckpt for a checkpoint; `slimnets export` writes .pb, .tflite, .onnx"),
        ("x.onnx", "or x.ckpt for a checkpoint; `slimnets export` writes"),
        ("x.XML", "or x.ckpt for a checkpoint; `slimnets export` writes"),
        ("my_saved_model", "`slimnets export` writes .pb, .tflite, .onnx, .xml and SavedModels."),
        ("frozen_graph.pb", "or frozen_graph.ckpt for a checkpoint; `slimnets export` writes"),
        ("x.png", "or x.ckpt for a checkpoint."),
        ("x.pth.tar", "or x.pth.ckpt for a checkpoint"),
        (".npz", "or npz.ckpt for a checkpoint"),
        ("checkpoint", "or model.ckpt for a checkpoint"),
        ("model.hdf5", "call it model.keras"),
        ("model.ckpt.meta", "give the part that all their names share"),
        ("new/", "such as new/model.ckpt"),
        ("folder/", "such as folder/model.ckpt"),
        ("folder", "folder is a folder"),
        ("model.npz ", "begins or ends in a space"),
        ("", "name is empty"),
        ("a\0.ckpt", "has a zero byte in its name"),
        ("x" * 300 + ".npz", "cannot be written (File name too long)"),
        (os.fsdecode(b"\xff.ckpt"), "which is not UTF-8: give another place or name"),
    ],
)
def test_names_of_other_formats(tmp_path, capsys, monkeypatch, target, words):
    monkeypatch.chdir(tmp_path)
    Path("folder").mkdir()
    error = refused(capsys, tmp_path, DIGITS, target)
    assert words in error


@pytest.mark.parametrize(
    "target", ["rescued", "model.ckpt-100", "resnet_v2_50", "saved_model.ckpt", "v1.5", "keras_50"]
)
def test_plain_names_are_checkpoints(tmp_path, target):
    assert convert(DIGITS, tmp_path / target).target_kind == "slim"
    assert len(open_checkpoint(tmp_path / target).shapes) == 78


@pytest.mark.parametrize(
    ("report", "words"),
    [
        ("", "The report '' is not a file name"),
        ("new/", "The report 'new/' is not a file name"),
        ("y" * 240, "The report's name is longer than 230 bytes"),
        ("none/report.json", "for the report: make it"),
    ],
)
def test_names_of_reports(tmp_path, capsys, monkeypatch, report, words):
    monkeypatch.chdir(tmp_path)
    assert words in refused(capsys, tmp_path, DIGITS, "target.npz", "--report", report)


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("s" * 300, "cannot be read (File name too long)"),
        ("loop", "which leads nowhere"),
        ("empty.npz", "is empty (0 bytes)"),
        ("twice.npz", "several arrays have the same name"),
    ],
)
def test_odd_sources(tmp_path, capsys, monkeypatch, source, words):
    monkeypatch.chdir(tmp_path)
    Path("loop").symlink_to("loop")
    Path("empty.npz").touch()
    np.savez("once.npz", **{"a/weights": ones(2)})
    with zipfile.ZipFile("once.npz") as once, zipfile.ZipFile("twice.npz", "w") as twice, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the second entry with the same name
        for _ in range(2):
            twice.writestr(zipfile.ZipInfo("a/weights.npy"), once.read("a/weights.npy"))
    assert words in refused(capsys, tmp_path, source, "target.ckpt")


def test_no_classes(tmp_path, basic):
    """0 classes omits the logits and their training variables, for any kind of file."""
    biases = "resnet_basic_18/logits/biases"
    more = {f"{biases}/ExponentialMovingAverage": ones(10), f"{biases}/Momentum": ones(10)}
    np.savez(tmp_path / "a.npz", **basic, **more)
    for target in ("b.ckpt", "c.pth"):
        assert convert(tmp_path / "a.npz", tmp_path / target, num_classes=0).num_classes == 0
    assert stored(tmp_path / "b.ckpt").keys() == {name for name in basic if "/logits/" not in name}
    assert "fc.weight" not in torch.load(tmp_path / "c.pth", weights_only=True)
    assert json.loads((tmp_path / "c.pth.slimnets.json").read_text())["network"] == "resnet_basic_18"


@pytest.mark.numerical
def test_one_class_whose_logits_cancel(tmp_path, capsys, monkeypatch):
    """The logits on the images of the proof are zero except for rounding errors, and a wrong bias is still found."""
    values = slim_checkpoint(tmp_path / "random.ckpt", "resnet_basic_18", 1)
    preprocessing = preprocessing_for(read_weights(tmp_path / "random.ckpt"))
    images = images_for(preprocessing, 64, 3)
    points = features(tmp_path / "random.ckpt", ["global_pool"], images, 64, preprocessing=preprocessing)
    one, other = points["global_pool"].astype(np.float64)
    kernel = values["resnet_basic_18/logits/weights"].ravel().astype(np.float64)
    apart = (one - other) / np.linalg.norm(one - other)
    kernel -= apart * (apart @ kernel)
    values["resnet_basic_18/logits/weights"] = kernel.reshape(1, 1, -1, 1).astype(np.float32)
    values["resnet_basic_18/logits/biases"] = np.array([-(one @ kernel)], np.float32)
    source, size = tmp_path / "source.ckpt", logit_size(points["global_pool"], kernel[:, np.newaxis])
    write_checkpoint(source, values)
    logits = features(source, ["logits"], images, 64, preprocessing=preprocessing)["logits"]
    assert np.abs(logits).max() < 1e-5 * size
    done = convert(source, tmp_path / "target.pth")
    assert 0 < done.differences["logits"] < 1e-5

    def with_a_wrong_bias(*arguments):
        state = to_torch(*arguments)
        return state | {"fc.bias": state["fc.bias"] + np.float32(1e-3 * size)}

    monkeypatch.setattr(converting, "to_torch", with_a_wrong_bias)
    error = refused(capsys, tmp_path, source, tmp_path / "wrong.pth")
    assert "in logits, more than 0.0001: nothing is written; is it the network that its names say?" in error


def test_an_unknown_argument_is_named(tmp_path):
    with pytest.raises(TypeError, match=r"unexpected keyword argument 'num_class'.* num_classes, image_size"):
        convert(tmp_path / "a.npz", tmp_path / "b.npz", num_class=3)


def test_logit_size():
    """The largest of a thousand logits is a few times the size; a single one varies around it."""
    generator = np.random.default_rng(0)
    features, kernel = generator.normal(3, 1, (2, 512)), generator.normal(0, 0.1, (512, 1000))
    logits = features @ kernel
    size = logit_size(features, kernel)
    assert 2 < np.abs(logits).max() / size < 5
    assert 0.8 < logits.std() / size < 1.2
