"""Tests features without TensorFlow: from a description of an earlier extractor, which is never used if it is stale."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from tests.helpers.processes import run
from tools.cli import main
from tools.features import load
from tools.features.computing import stored
from tools.features.computing.stored import recall

# Runs the command, and says last whether TensorFlow was imported.
_PROGRAM = "import sys; from tools.cli import main; main(sys.argv[1:]); print('tensorflow' in sys.modules)"


@pytest.fixture
def place(tiny, tmp_path):
    """Returns a folder with a checkpoint of its own."""
    for file in Path(tiny).parent.glob("tiny.ckpt*"):
        shutil.copy(file, tmp_path / file.name)
    return tmp_path


def command(place, images, output, *options):
    given = ["features", images, "--checkpoint", place / "tiny.ckpt", "--output", place / output, "--batch-size", 8]
    named = ["--end-points", "block2,global_pool", "--engine-dir", place / "models"]
    return [*map(str, (*given, *named, *(options or ("--engine", "openvino"))))]


def in_a_process(*arguments):
    """Returns what a process of its own printed on stderr, and whether it imported TensorFlow."""
    done = run(*arguments, code=_PROGRAM, check=True)
    return done.stderr, done.stdout.splitlines()[-1] == "True"


def descriptions(place):
    return [*(place / "models" / "extractors").iterdir()]


@pytest.mark.parametrize("engine", ["openvino", pytest.param("onnxruntime", marks=pytest.mark.full)])
def test_without_tensorflow(place, images, engine):
    """The second run imports no TensorFlow, and writes the same rows, record and messages."""
    said = []
    for number, imports in enumerate([True, False]):
        stderr, imported = in_a_process(*command(place, images, f"features-{number}", "--engine", engine))
        assert imported is imports, stderr
        said.append([line for line in stderr.splitlines() if "image" not in line])
    assert said[0] == said[1]
    first, second = (load(place / f"features-{number}") for number in range(2))
    assert [*first.index] == [*second.index]
    for name, values in first.arrays.items():
        assert np.array_equal(values, second.arrays[name], equal_nan=True)
    for key in first.run.keys() - {"seconds", "images_per_second"}:
        assert first.run[key] == second.run[key], key


@pytest.mark.full
def test_a_key_of_the_catalog(images, tmp_path):
    key = ["--checkpoint", "resnet_v2_tiny_digits", "--engine", "openvino", "--engine-dir", str(tmp_path / "models")]
    command = ["features", str(images), *key, "--end-points", "logits", "--output"]
    assert in_a_process(*command, str(tmp_path / "one"))[1]
    assert not in_a_process(*command, str(tmp_path / "two"))[1]
    one, two = (load(tmp_path / name) for name in ("one", "two"))
    assert np.array_equal(one.arrays["logits"], two.arrays["logits"], equal_nan=True)
    assert one.run["checkpoint"] == two.run["checkpoint"]


def other_weights(place):
    data = place / "tiny.ckpt.data-00000-of-00001"
    content = bytearray(data.read_bytes())
    content[len(content) // 2] ^= 1
    data.write_bytes(content)


def notes(place):
    (place / "tiny.ckpt.slimnets.json").write_text("{}")


def another_file(place):
    (place / "tiny.ckpt").write_bytes(b"a checkpoint of version 1 takes precedence")


def changed_description(place):
    (file,) = descriptions(place)
    file.write_text(file.read_text().replace("inception", "vgg"))


def cut_description(place):
    (file,) = descriptions(place)
    file.write_text(file.read_text()[:-9])


def no_description(place):
    (file,) = descriptions(place)
    file.write_text("[]")


@pytest.mark.parametrize(
    "change", [other_weights, notes, another_file, changed_description, cut_description, no_description]
)
def test_a_stale_description_is_not_used(place, images, change, monkeypatch):
    asked = []
    monkeypatch.setattr(stored, "recall", lambda options: asked.append(options) or recall(options))
    assert main(command(place, images, "features")) == 1  # two images are broken
    assert recall(asked[0]) is not None
    change(place)
    assert recall(asked[0]) is None


@pytest.mark.filterwarnings("ignore:The weights go with")
@pytest.mark.parametrize(
    "options",
    [
        ("--engine", "tensorflow"),
        ("--engine", "auto"),
        ("--engine", "openvino", "--preprocessing", "cifar"),
        ("--engine", "openvino", "--checkpoint", "."),
    ],
)
def test_what_needs_tensorflow_has_no_description(place, images, options, monkeypatch):
    monkeypatch.chdir(place)
    main(command(place, images, "features", *options))
    assert not (place / "models" / "extractors").exists()


def test_a_model_that_is_gone_is_made_again(place, images):
    main(command(place, images, "before"))
    for folder in (place / "models").iterdir():
        if folder.name != "extractors":
            shutil.rmtree(folder)
    main(command(place, images, "after"))
    before, after = (load(place / name).arrays["global_pool"] for name in ("before", "after"))
    assert np.array_equal(before, after, equal_nan=True)


@pytest.mark.full
def test_int8_is_calibrated_on_the_same_images(place, images):
    """Without TensorFlow too, the model of a job is that of its images, and of no others."""
    options = ("--engine", "openvino", "--precision", "int8", "--min-cosine", "0.5", "--calibrate", "64")
    assert in_a_process(*command(place, images, "one", *options))[1]
    assert not in_a_process(*command(place, images, "two", *options))[1]
    fewer = place / "fewer"
    shutil.copytree(images, fewer)
    (fewer / "000.png").unlink()
    assert in_a_process(*command(place, fewer, "three", *options))[1]
    one, two, three = (json.loads((place / name / "run.json").read_text()) for name in ("one", "two", "three"))
    assert one["engine_model"] == two["engine_model"] != three["engine_model"]
    assert np.array_equal(*(load(place / name).arrays["global_pool"] for name in ("one", "two")), equal_nan=True)
