"""Tests that an export which cannot be made ends in one sentence, and leaves everything as it was."""

import contextlib
import importlib.util
import os
import re

import pytest
from PIL import Image

from checkpoints import CheckpointError
from nets.endpoint_info import UnknownEndPointError
from tests.helpers.exports import TARGETS, pictures, random_checkpoint
from tools.cli import main
from tools.errors import InputError
from tools.export import FORMATS, export
from tools.runtime import freezing


def contents(folder):
    """Returns all that is in a folder: kinds, contents and times of change."""
    return {
        path: (path.lstat().st_mode, path.lstat().st_mtime_ns, path.read_bytes() if path.is_file() else None)
        for path in folder.rglob("*")
    }


@contextlib.contextmanager
def refused(folder, error, match):
    """Asserts that the block raises one sentence, and changes nothing in a folder."""
    before = contents(folder)
    with pytest.raises(error) as caught:
        yield
    assert type(caught.value) is error
    said = str(caught.value)
    assert match in said
    assert "\n" not in said
    assert said.endswith((".", "?"))
    assert contents(folder) == before


@pytest.fixture(scope="session")
def one_class(tmp_path_factory):
    return random_checkpoint(tmp_path_factory.mktemp("one") / "one.ckpt", "resnet_v2_tiny", 32, num_classes=1)


@pytest.fixture(scope="session")
def headless(tmp_path_factory):
    return random_checkpoint(tmp_path_factory.mktemp("none") / "none.ckpt", "resnet_v2_tiny", 32, num_classes=0)


def images(folder, count, broken=0):
    """Writes images to a folder, and files that are none; returns their paths."""
    paths = []
    for number, pixels in enumerate(pictures(count, 9, 11)):
        paths.append(folder / f"{number}.png")
        Image.fromarray(pixels).save(paths[-1])
    for number in range(broken):
        paths.append(folder / f"broken_{number}.png")
        paths[-1].write_bytes(b"\x89PNG\r\n\x1a\nnot an image")
    return paths


# Names and formats.


def test_an_unknown_ending(tiny, tmp_path):
    with refused(tmp_path, InputError, "the unknown ending .pth"):
        export(tiny, tmp_path / "a.pth")
    with pytest.raises(InputError) as caught:
        export(tiny, tmp_path / "a.pth")
    for ending in (".pb", ".tflite", ".onnx", ".xml", ".keras", "SavedModel"):
        assert ending in str(caught.value)


@pytest.mark.parametrize(
    ("target", "format", "match"),
    [
        ("a.onnx", "tflite", "its name must end in .tflite"),
        ("a", "onnx", "its name must end in .onnx"),
        ("a.pb", "saved_model", "its name must be that of a folder"),
        ("a.onnx", "caffe", "format must be one of saved_model, pb, tflite, onnx, openvino, keras, but is 'caffe'"),
    ],
)
def test_a_format_against_the_name(tiny, tmp_path, target, format, match):
    with refused(tmp_path, InputError, match):
        export(tiny, tmp_path / target, format=format)


@pytest.mark.parametrize(
    ("format", "dtype", "package"),
    [
        *((name, "float32", package) for name, made in FORMATS.items() for package in made.packages),
        ("openvino", "int8", "nncf"),
    ],
)
def test_a_missing_package(tiny, tmp_path, monkeypatch, format, dtype, package):
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *rest: None if name == package else find_spec(name, *rest)
    )
    calibrate = images(tmp_path, 2) if dtype == "int8" else None
    sentence = f"The format {format} requires {package}: pip install 'slimnets[export]'."
    with refused(tmp_path, ModuleNotFoundError, sentence):
        export(tiny, tmp_path / TARGETS[format], dtype=dtype, calibrate=calibrate)


# Targets.


@pytest.mark.parametrize("format", TARGETS)
def test_a_target_in_no_folder(tiny, tmp_path, format):
    with refused(tmp_path, FileNotFoundError, f"There is no folder {tmp_path}/none"):
        export(tiny, tmp_path / "none" / TARGETS[format])


@pytest.mark.parametrize("beside", ["network.xml", "network.bin", "network.xml.slimnets.json"])
def test_a_target_that_exists(tiny, tmp_path, beside):
    (tmp_path / beside).write_text("kept")
    with refused(tmp_path, FileExistsError, f"{beside} exists: give another name, or overwrite=True."):
        export(tiny, tmp_path / "network.xml")


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("kind", ["folder", "link", "link to nothing", "pipe"])
@pytest.mark.parametrize("name", ["network.onnx", "network.onnx.slimnets.json"])
def test_a_file_in_place_of_something_else(tiny, tmp_path, overwrite, kind, name):
    place = tmp_path / name
    if kind == "folder":
        place.mkdir()
    elif kind == "pipe":
        os.mkfifo(place)
    else:
        (tmp_path / "there").write_text("kept")
        place.symlink_to("there" if kind == "link" else "nowhere")
    with refused(tmp_path, FileExistsError, f"{name} is not a plain file, and is not replaced: give another name."):
        export(tiny, tmp_path / "network.onnx", overwrite=overwrite)


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("kind", ["file", "link", "link to nothing", "other"])
def test_a_folder_in_place_of_something_else(tiny, tmp_path, overwrite, kind):
    place = tmp_path / "network"
    if kind == "file":
        place.write_text("kept")
    elif kind == "other":
        place.mkdir()
        (place / "mine.txt").write_text("kept")
    else:
        (tmp_path / "there").mkdir()
        place.symlink_to("there" if kind == "link" else "nowhere")
    match = "holds something else than a SavedModel" if kind == "other" else "is not a folder, and is not replaced"
    with refused(tmp_path, FileExistsError, f"network {match}"):
        export(tiny, place, overwrite=overwrite)


def test_a_saved_model_that_exists(tiny, tmp_path):
    (tmp_path / "network").mkdir()
    (tmp_path / "network" / "saved_model.pb").write_text("kept")
    with refused(tmp_path, FileExistsError, "network exists: give another name, or overwrite=True."):
        export(tiny, tmp_path / "network")


def test_a_place_that_cannot_be_written(tiny):
    with pytest.raises(OSError, match=r"/proc/network\.onnx cannot be written"):
        export(tiny, "/proc/network.onnx")


# Arguments.


@pytest.mark.parametrize(
    ("format", "options", "match"),
    [
        ("pb", {"input": "bytes"}, "input must be one of pixels, encoded, network, but is 'bytes'"),
        ("onnx", {"input": "encoded"}, "input='encoded': use 'pixels' or 'network'"),
        ("tflite", {"input": "encoded"}, "input='encoded': use 'pixels' or 'network'"),
        ("openvino", {"input": "encoded"}, "input='encoded': use 'pixels' or 'network'"),
        ("pb", {"dtype": "bfloat16"}, "dtype must be one of float32, float16, int8, but is 'bfloat16'"),
        ("pb", {"dtype": "float16"}, "dtype='float16': use 'float32'"),
        ("saved_model", {"dtype": "int8", "calibrate": "a"}, "dtype='int8': use 'float32'"),
        ("onnx", {"dtype": "float16"}, "dtype='float16': use 'float32' or 'int8'"),
        ("tflite", {"dtype": "int8"}, "requires images to take the ranges of values from: give calibrate=IMAGES"),
        ("tflite", {"calibrate": "a"}, "calibrate applies only to dtype='int8', and dtype is 'float32': omit it"),
        ("pb", {"batch": 0}, "batch must be a whole number of at least 1, or None for any, but is 0"),
        ("pb", {"batch": -1}, "batch must be a whole number of at least 1, or None for any, but is -1"),
        ("pb", {"batch": 2.5}, "batch must be a whole number of at least 1, or None for any, but is 2.5"),
        ("pb", {"batch": "4"}, "batch must be a whole number of at least 1, or None for any, but is '4'"),
        ("pb", {"tolerance": 0}, "tolerance must be a positive number, but is 0"),
        ("pb", {"tolerance": float("nan")}, "tolerance must be a positive number, but is nan"),
        ("pb", {"tolerance": float("inf")}, "tolerance must be a positive number, but is inf"),
        ("pb", {"min_cosine": 0.9}, "min_cosine applies only to dtype='int8': give tolerance=N for dtype='float32'"),
        ("onnx", {"dtype": "int8", "calibrate": "a", "tolerance": 1}, "give min_cosine=N for dtype='int8'"),
        ("onnx", {"dtype": "int8", "calibrate": "a", "min_cosine": 2}, "min_cosine must be from -1 to 1, but is 2"),
        ("onnx", {"dtype": "int8", "calibrate": "a", "min_cosine": float("nan")}, "from -1 to 1, but is nan"),
    ],
)
def test_arguments_that_no_network_can_have(tiny, tmp_path, format, options, match):
    with refused(tmp_path, InputError, match):
        export(tiny, tmp_path / TARGETS[format], **options)


@pytest.mark.parametrize("option", [{"freeze": True}, {"precision": "bfloat16"}, {"engine": "openvino"}])
def test_arguments_of_extractors_that_exports_cannot_honour(tiny, tmp_path, option):
    with refused(tmp_path, ValueError, f"{next(iter(option))} does not apply to an export"):
        export(tiny, tmp_path / "network.pb", **option)


@pytest.mark.parametrize(
    ("options", "error", "match"),
    [
        ({"end_points": []}, ValueError, "end_points must be a list of at least one name"),
        ({"end_points": ["block1", "block1"]}, ValueError, "end_points names 'block1' more than once"),
        ({"end_points": ["classes", "classes"]}, InputError, "end_points names 'classes' more than once"),
        (
            {"end_points": ["block1", "resnet_v2_tiny/block1"]},
            InputError,
            "end_points names block1 twice, as 'block1' and 'resnet_v2_tiny/block1': omit one",
        ),
        ({"end_points": "blok1"}, UnknownEndPointError, "did you mean block1"),
        ({"image_size": 0}, ValueError, "The image size must be at least 1, and is 0"),
        ({"preprocessing": "none"}, InputError, "set preprocessing, or give the network's own input with input='netw"),
        ({"net": "resnet_v2_51"}, ValueError, "resnet_v2_51"),
    ],
)
def test_what_the_network_cannot(tiny, tmp_path, options, error, match):
    with refused(tmp_path, error, match):
        export(tiny, tmp_path / "network.pb", **options)


def test_no_checkpoint(tmp_path):
    with refused(tmp_path, CheckpointError, "none.ckpt"):
        export(tmp_path / "none.ckpt", tmp_path / "network.pb")


def test_classes_of_a_network_without_any(headless, tmp_path):
    with refused(tmp_path, InputError, "has no logits, which 'classes' requires: omit it"):
        export(headless, tmp_path / "network.pb", end_points="classes")


def test_classes_of_a_network_with_one(one_class, tmp_path):
    with refused(tmp_path, InputError, "has one class, whose softmax is 1 for every image"):
        export(one_class, tmp_path / "network.pb", end_points="classes")


def test_classes_of_a_keras_model(tiny, tmp_path):
    with refused(tmp_path, InputError, "The format keras cannot have the output 'classes': take 'predictions'."):
        export(tiny, tmp_path / "network.keras", end_points=["global_pool", "classes"])


def test_labels_of_a_network_without_classes(headless, tmp_path):
    (tmp_path / "labels.txt").write_text("a\nb\n", encoding="utf-8")
    with refused(tmp_path, InputError, "labels applies only to a network with classes"):
        export(headless, tmp_path / "network.pb", labels=tmp_path / "labels.txt")


def test_labels_of_another_number(tiny, tmp_path):
    (tmp_path / "labels.txt").write_text("a\nb\n", encoding="utf-8")
    with refused(tmp_path, ValueError, "labels.txt name 2 classes, and the network has 10"):
        export(tiny, tmp_path / "network.pb", labels=tmp_path / "labels.txt")


def test_weights_that_no_graph_can_hold(tiny, tmp_path, monkeypatch):
    monkeypatch.setattr(freezing, "_LARGEST", 1000)
    with refused(
        tmp_path, ValueError, "more than the 2 GiB that a graph can hold as constants: they cannot be exported"
    ):
        export(tiny, tmp_path / "network.onnx")


# Images to calibrate with.


@pytest.mark.parametrize(("good", "broken"), [(31, 0), (31, 9), (1, 60)])
def test_too_few_images(tiny, tmp_path, good, broken):
    given = images(tmp_path, good, broken)
    with refused(tmp_path, InputError, f"calibrate has {good} images that can be decoded: give at least 32"):
        export(tiny, tmp_path / "network.onnx", dtype="int8", calibrate=given)


def test_no_images(tiny, tmp_path):
    (tmp_path / "empty").mkdir()
    with refused(tmp_path, InputError, "No images found in"):
        export(tiny, tmp_path / "network.onnx", dtype="int8", calibrate=tmp_path / "empty")
    with refused(tmp_path, InputError, "none"):
        export(tiny, tmp_path / "network.onnx", dtype="int8", calibrate=tmp_path / "none")


def test_images_for_a_network_whose_preprocessing_is_unknown(tiny, tmp_path):
    given = images(tmp_path, 32)
    with refused(tmp_path, InputError, "dtype='int8' requires a preprocessing for the images of calibrate"):
        export(tiny, tmp_path / "a.onnx", dtype="int8", calibrate=given, input="network", preprocessing="none")


# The command.


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (
            "none.pth",
            "and a name without an ending for a folder with a SavedModel; --format saved_model takes any name.",
        ),
        ("there.onnx", "there.onnx exists: give another name, or --overwrite."),
        (
            "a.tflite --dtype int8",
            "--dtype int8 requires images to take the ranges of values from: give --calibrate IMAGES.",
        ),
        ("a.onnx --input encoded", "The format onnx cannot have --input encoded: use 'pixels' or 'network'."),
        ("a.pb --calibrate x.png", "--calibrate applies only to --dtype int8, and dtype is 'float32': omit it."),
        ("a.pb --tolerance nan", "--tolerance must be a positive number, but is nan."),
        ("a.pb --min-cosine 0.9", "--min-cosine applies only to --dtype int8: give --tolerance N for --dtype float32."),
        ("a.onnx --dtype int8 --calibrate there.png", "--calibrate has 1 images that can be decoded: give at least 32"),
        ("a.pb --end-points blok1", "Unknown end point 'blok1': did you mean block1 or block4 or block3?"),
        ("a.pb --preprocessing none", "--input pixels requires a preprocessing, and these weights have none: set"),
    ],
)
def test_the_command(tiny, tmp_path, monkeypatch, capsys, arguments, sentence):
    """It speaks of options, on one line."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "there.onnx").write_text("kept")
    Image.fromarray(pictures(1, 9, 11)[0]).save(tmp_path / "there.png")
    before = contents(tmp_path)
    assert main(["export", str(tiny), *arguments.split()]) == 1
    stdout, stderr = capsys.readouterr()
    assert stdout == ""
    *reports, line = stderr.splitlines()
    assert line.startswith("slimnets: error: ")
    assert sentence in line
    assert not re.search(r"\w=[\w']", line)
    assert all(report.endswith(" ...") for report in reports)
    assert contents(tmp_path) == before


@pytest.mark.parametrize(
    "arguments", [[], ["a.ckpt"], ["a.ckpt", "a.pb", "--batch", "0"], ["a.ckpt", "a.pb", "--dtype", "int4"]]
)
def test_wrong_usage(capsys, arguments):
    with pytest.raises(SystemExit) as exit:
        main(["export", *arguments])
    assert exit.value.code == 2
    stdout, stderr = capsys.readouterr()
    assert stdout == ""
    assert stderr.startswith("usage: slimnets export")
