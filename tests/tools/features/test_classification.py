"""Tests the names of classes, and ``slimnets classify``.

The kernel of the logits is zero, so the biases decide which class wins.
"""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from checkpoints import note
from checkpoints.published import imagenet_labels, labels_for, read_labels
from tests.helpers.corpus import save_v2, weights
from tools.cli import main
from tools.features import classify
from tools.features.classification import classifier

TINY = "resnet_v2_tiny"


def test_imagenet_labels_are_in_the_order_of_their_identifiers():
    lines = Path("checkpoints/imagenet_synsets.txt").read_text(encoding="utf-8").splitlines()
    identifiers = [line.split("\t")[0] for line in lines]
    assert identifiers == sorted(set(identifiers))
    assert len(identifiers) == 1000
    # WordNet 3.0 identifiers, as ImageNet's own site lists them.
    known = {0: "n01440764", 207: "n02099601", 388: "n02510455", 817: "n04285008", 999: "n15075141"}
    assert {number: identifiers[number] for number in known} == known


def test_imagenet_labels():
    names = imagenet_labels(1000)
    assert names[388] == "giant panda, panda, panda bear, coon bear, Ailuropoda melanoleuca"
    assert names[817] == "sports car, sport car"
    assert [number for number, name in enumerate(names) if name == "crane"] == [134, 517]
    assert len(set(names)) == 999
    with pytest.raises(ValueError, match="1000 classes, 1001 with the background, and not 21"):
        imagenet_labels(21)
    assert labels_for(1001)[:2] == ["background", "tench, Tinca tinca"]
    assert labels_for(3) == ["0", "1", "2"]


@pytest.mark.parametrize(
    "text",
    ["cat\ndog\nbird: a robin\n", "\ufeffcat\r\ndog\r\n\r\nbird: a robin", "2:bird: a robin\n0:cat\n1:dog\n"],
)
def test_labels_of_a_file(tmp_path, text):
    """Reads plain names, a file of Windows' editors, and slim's files with numbers."""
    (tmp_path / "labels.txt").write_bytes(text.encode())
    assert read_labels(tmp_path / "labels.txt", 3) == ["cat", "dog", "bird: a robin"]


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"cat\ndog\n", "name 2 classes, and the network has 3"),
        (b"", "name 0 classes, and the network has 3"),
        (b"0:cat\n1:dog\n3:bird\n", "have no name for class 2 of 3"),
        (b"0:cat\n1:dog\n2:bird\n3:fish\n", "name 4 classes"),
        (b"\xff\xfe\x00", "cannot be read"),
        (None, "cannot be read"),
    ],
)
def test_labels_that_do_not_fit(tmp_path, content, sentence):
    if content is not None:
        (tmp_path / "labels.txt").write_bytes(content)
    with pytest.raises(ValueError, match=sentence):
        read_labels(tmp_path / "labels.txt", 3)


# The command.


@pytest.fixture
def picture(tmp_path):
    path = tmp_path / "picture.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 30, 3), np.uint8)).save(path)
    return str(path)


def biased(path, *logits):
    """Writes a checkpoint with these logits for every image; returns its path."""
    values = weights(classes=len(logits))
    values[f"{TINY}/logits/weights"][:] = 0
    values[f"{TINY}/logits/biases"][:] = logits
    return str(save_v2(path, values))


@pytest.mark.numerical
def test_classes_come_in_the_order_of_their_probabilities(tmp_path, capsys, picture):
    checkpoint = biased(tmp_path / "model", 1.0, 3.0, 2.0)
    (tmp_path / "labels.txt").write_text("cat\ndog\nbird\n")
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"\x89PNG")
    arguments = ["classify", picture, str(broken), "--checkpoint", checkpoint, "--json"]
    assert main([*arguments, "--labels", str(tmp_path / "labels.txt"), "--top", "7"]) == 1
    captured = capsys.readouterr()
    first, second = json.loads(captured.out)
    probabilities = np.exp([3, 2, 1]) / np.exp([3, 2, 1]).sum()
    assert [found["class"] for found in first["classes"]] == [1, 2, 0]
    assert [found["label"] for found in first["classes"]] == ["dog", "bird", "cat"]
    assert [found["probability"] for found in first["classes"]] == pytest.approx(probabilities, rel=1e-5)
    assert first["error"] is None
    assert second["classes"] == []
    assert "known format" in second["error"]
    assert "resnet_v2_tiny from" in captured.err


def test_the_table(tmp_path, capsys, picture):
    assert main(["classify", picture, "--checkpoint", biased(tmp_path / "model", 0.0, 5.0), "--top", "1"]) == 0
    row = capsys.readouterr().out.splitlines()[2]
    assert row.split() == [picture, "0.9933", "1", "1"]  # 1 / (1 + exp(-5))


def test_wrong_labels_and_no_logits_are_refused(tmp_path, capsys, picture):
    checkpoint = biased(tmp_path / "model", 0.0, 5.0)
    (tmp_path / "labels.txt").write_text("cat\n")
    assert main(["classify", picture, "--checkpoint", checkpoint, "--labels", str(tmp_path / "labels.txt")]) == 1
    assert "name 1 classes, and the network has 2" in capsys.readouterr().err
    headless = save_v2(tmp_path / "headless", weights(logits=False))
    assert main(["classify", picture, "--checkpoint", str(headless)]) == 1
    assert "has no logits" in capsys.readouterr().err


@pytest.mark.parametrize(("given", "winner"), [([], "2"), (["--num-classes", "1000"], "1")])
def test_numbers_follow_the_classes(tmp_path, capsys, picture, given, winner):
    """Class three of 1001 wins; without the background it is the second, and ImageNet's goldfish."""
    logits = np.zeros(1001)
    logits[2] = 9
    checkpoint = biased(tmp_path / "model", *logits)
    assert main(["classify", picture, "--checkpoint", checkpoint, "--top", "1", *given]) == 0
    row = capsys.readouterr().out.splitlines()[2].split()
    assert row[2:4] == [winner, "goldfish,"]


# Labels that are noted beside the checkpoint.


def label_of(capsys, picture, checkpoint, *options):
    """Returns the label of the most probable class, and what is printed on stderr."""
    assert main(["classify", picture, "--checkpoint", checkpoint, "--top", "1", "--json", *options]) == 0
    captured = capsys.readouterr()
    return json.loads(captured.out)[0]["classes"][0]["label"], captured.err


def test_noted_labels_are_the_default(tmp_path, capsys, picture):
    checkpoint = biased(tmp_path / "model", 1.0, 3.0, 2.0)
    assert label_of(capsys, picture, checkpoint)[0] == "1"
    note(checkpoint, labels=["cat", "dog", "bird"])
    assert label_of(capsys, picture, checkpoint)[0] == "dog"
    (tmp_path / "labels.txt").write_text("Katze\nHund\nVogel\n")
    assert label_of(capsys, picture, checkpoint, "--labels", str(tmp_path / "labels.txt"))[0] == "Hund"
    with classifier(1, checkpoint) as extractor:
        assert extractor.labels == ("cat", "dog", "bird")
        [result] = classify([picture], extractor)
        assert result.labels == ["dog", "bird", "cat"]


@pytest.mark.parametrize("classes", [1000, 1001])
def test_labels_follow_converted_logits(tmp_path, capsys, picture, classes):
    """The class of number 500 wins; with a background added it is 501, and 499 without the background."""
    logits = np.zeros(classes)
    logits[500] = 9
    checkpoint = biased(tmp_path / "model", *logits)
    note(checkpoint, labels=[f"class {i}" for i in range(classes)])
    for wanted in (1000, 1001):
        assert label_of(capsys, picture, checkpoint, "--num-classes", str(wanted))[0] == "class 500"
    with classifier(1, checkpoint, num_classes=2001 - classes) as extractor:
        assert len(extractor.labels) == 2001 - classes
        assert extractor.labels[0] == ("background" if classes == 1000 else "class 1")


ASSUMED = "assumed: nothing in the file says so;"


@pytest.mark.filterwarnings("ignore:The weights go with:nets.guards.InferenceWarning")
@pytest.mark.parametrize(
    ("options", "said"),
    [
        ([], f"preprocessing inception at 32 ({ASSUMED} --preprocessing, or slimnets note)"),
        (["--preprocessing", "cifar"], f"preprocessing cifar at 32 (32 is {ASSUMED} --image-size, or slimnets note)"),
        (
            ["--image-size", "48"],
            f"preprocessing inception at 48 (inception is {ASSUMED} --preprocessing, or slimnets note)",
        ),
        (["--image-size", "48", "--preprocessing", "cifar"], "preprocessing cifar at 48"),
    ],
)
def test_what_is_assumed_of_the_input(tmp_path, capsys, picture, options, said):
    checkpoint = biased(tmp_path / "model", 0.0, 5.0)
    lines = label_of(capsys, picture, checkpoint, *options)[1].splitlines()
    assert f"resnet_v2_tiny from {checkpoint}, 2 classes, {said}" in lines


def test_a_noted_input_is_not_assumed(tmp_path, capsys, picture):
    checkpoint = biased(tmp_path / "model", 0.0, 5.0)
    note(checkpoint, preprocessing="inception", image_size=32)
    lines = label_of(capsys, picture, checkpoint)[1].splitlines()
    assert f"resnet_v2_tiny from {checkpoint}, 2 classes, preprocessing inception at 32" in lines
