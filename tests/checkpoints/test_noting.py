"""Tests the notes beside checkpoints: labels, what is assumed of the input, and ``slimnets note``."""

import hashlib
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from checkpoints import CheckpointError, diagnose, note, open_checkpoint
from checkpoints.published import CATALOG
from tests.helpers.corpus import save_v1, save_v2, shadows, weights
from tools.cli import main
from tools.features import FeatureExtractor

TINY, KEY = "resnet_v2_tiny", "resnet_v2_50"
ASSUMED = "(assumed: nothing in the file says so; --preprocessing, or slimnets note)"


@pytest.fixture
def checkpoint(tmp_path):
    """Returns the path of a checkpoint of three classes."""
    return save_v2(tmp_path / "model.ckpt", weights(classes=3))


@pytest.fixture
def labels(tmp_path):
    """Returns the path of three labels, as slim's scripts write them."""
    path = tmp_path / "labels.txt"
    path.write_text("0:cat\n1:dog\n2:bird\n")
    return str(path)


def notes_in(folder):
    return sorted(folder.glob("*.slimnets.json"))


# The library.


@pytest.mark.parametrize("save", [save_v1, save_v2])
def test_notes_are_diagnosed(tmp_path, labels, save):
    path = save(tmp_path / "model.ckpt", weights(classes=3))
    before = diagnose(path)
    assert (before.preprocessing, before.image_size, before.labels) == ("inception", 32, None)
    assert (before.input_known, before.assumed) == (False, ("preprocessing", "image_size"))
    file, notes = note(path, preprocessing="vgg", image_size=48, labels=labels)
    assert file == tmp_path / "model.ckpt.slimnets.json"
    assert notes == open_checkpoint(path).notes
    found = diagnose(path)
    assert (found.preprocessing, found.image_size, found.labels) == ("vgg", 48, ("cat", "dog", "bird"))
    assert (found.input_known, found.assumed, found.notes.source, found.options) == (True, (), None, {})
    assert found.usable


def test_what_is_not_given_is_kept(checkpoint):
    """Labels alone do not make an assumed input a known one."""
    note(checkpoint, labels=["cat", "dog", "bird"])
    found = diagnose(checkpoint)
    assert (found.input_known, found.preprocessing, found.image_size) == (False, "inception", 32)
    note(checkpoint, preprocessing="vgg")
    found = diagnose(checkpoint)
    assert (found.input_known, found.assumed, found.preprocessing) == (False, ("image_size",), "vgg")
    note(checkpoint, image_size=64)
    found = diagnose(checkpoint)
    assert (found.input_known, found.preprocessing, found.image_size) == (True, "vgg", 64)
    assert found.labels == ("cat", "dog", "bird")


def test_notes_of_earlier_versions(checkpoint):
    """They have neither labels nor assumptions, and the input in them is known."""
    record = {
        "network": TINY,
        "pool1_padding": "PAD1",
        "preprocessing": "torchvision",
        "image_size": 40,
        "source": {"file": "x.pth", "kind": "torch", "sha256": "0"},
        "file": "model.ckpt.index",
        "sha256": hashlib.sha256(Path(f"{checkpoint}.index").read_bytes()).hexdigest(),
    }
    Path(f"{checkpoint}.slimnets.json").write_text(json.dumps(record))
    found = diagnose(checkpoint)
    assert (found.preprocessing, found.image_size, found.input_known, found.labels) == ("torchvision", 40, True, None)
    note(checkpoint, labels=["a", "b", "c"])
    found = diagnose(checkpoint)
    assert (found.options, found.notes.source, found.input_known) == (
        {"pool1_padding": "PAD1"},
        record["source"],
        True,
    )


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"labels": []}, r"labels is \[\]"),
        ({"labels": "abc"}, "labels is 'abc'"),
        ({"labels": ["cat", 2, "bird"]}, r"labels is \['cat', 2, 'bird'\]"),
        ({"assumed": ["network"]}, r"assumed is \['network'\]"),
        ({"source": {}}, "source is {}"),
        ({"image_size": 0}, "image_size is 0"),
    ],
)
def test_damaged_notes(checkpoint, change, reason):
    file, _ = note(checkpoint, preprocessing="vgg", image_size=32)
    file.write_text(json.dumps(json.loads(file.read_text()) | change))
    sentence = (
        rf"\.slimnets\.json, the notes on the weights beside it, is not as slimnets writes it \({reason}\): remove"
    )
    with pytest.raises(CheckpointError, match=sentence):
        diagnose(checkpoint)
    file.unlink()
    assert note(checkpoint, labels=["cat", "dog", "bird"]).file == file


def test_labels_of_another_number(checkpoint):
    """Only somebody who edits the file can cause it. The labels are ignored, and noting others mends it."""
    file, _ = note(checkpoint, labels=["cat", "dog", "bird"])
    file.write_text(json.dumps(json.loads(file.read_text()) | {"labels": ["cat", "dog"]}))
    found = diagnose(checkpoint)
    [problem] = found.problems
    assert (problem.kind, found.labels) == ("labels", None)
    assert problem.sentence == (
        f"{file} names 2 classes, and the network has 3: name them with `slimnets note --labels`, or remove that file."
    )
    note(checkpoint, labels=["cat", "dog", "bird"])
    assert diagnose(checkpoint).usable


def test_notes_follow_the_newest_checkpoint_of_a_folder(tmp_path, labels):
    for step in (9, 10):
        save_v2(tmp_path / f"model.ckpt-{step}", weights(classes=3, seed=step))
    (tmp_path / "checkpoint").write_text('model_checkpoint_path: "model.ckpt-10"\n')
    assert note(tmp_path, labels=labels).file == tmp_path / "model.ckpt-10.slimnets.json"
    assert diagnose(tmp_path).labels == ("cat", "dog", "bird")
    assert diagnose(tmp_path / "model.ckpt-9").labels is None


def test_notes_are_no_checkpoint(checkpoint):
    """Neither a folder nor a misspelled name leads to them."""
    note(checkpoint, image_size=64)
    assert diagnose(checkpoint.parent).image_size == 64
    for given in ("model", "model.ckpd"):
        with pytest.raises(CheckpointError, match=r"no such file, .*; there is model\.ckpt\.$"):
            open_checkpoint(checkpoint.parent / given)


def test_one_of_several_networks_and_averages(tmp_path):
    both = save_v2(tmp_path / "both", {**weights(scope="a"), **weights("resnet_cifar_20", scope="b")})
    with pytest.raises(CheckpointError, match=r"holds several networks, .*: choose one by its scope, scope='a'"):
        note(both, preprocessing="vgg")
    note(both, preprocessing="vgg", scope="a")
    assert diagnose(both, scope="a").preprocessing == "vgg"
    assert diagnose(both, scope="b").preprocessing == "cifar"
    averages = save_v2(tmp_path / "averages", shadows(weights()))
    note(averages, preprocessing="vgg")
    assert diagnose(averages).preprocessing == "vgg"


def test_nothing_to_note_and_wrong_labels_in_python(checkpoint):
    with pytest.raises(ValueError, match="nothing to note: give preprocessing, image_size or labels"):
        note(checkpoint)
    for names in (["cat", "dog"], ["cat", "dog", 3]):
        with pytest.raises(ValueError, match=f"must be 3 strings, one for each class, and are {len(names)} items"):
            note(checkpoint, labels=names)
    with pytest.raises(ValueError, match="The image size must be at most 100,000, and is 200,000"):
        note(checkpoint, image_size=200_000)
    assert notes_in(checkpoint.parent) == []


# Published weights.


def test_a_store_without_notes_knows_the_input_from_the_catalog(monkeypatch, tmp_path):
    """Downloads of earlier versions have no notes. The network is a small one, instead of one of a hundred MB."""
    monkeypatch.setitem(CATALOG, KEY, CATALOG[KEY]._replace(network=TINY, preprocessing="vgg", image_size=40))
    monkeypatch.setenv("SLIMNETS_CHECKPOINTS", str(tmp_path))
    (tmp_path / KEY).mkdir()
    path = save_v1(tmp_path / KEY / f"{KEY}.ckpt", weights(classes=3))
    for given in (KEY, path):
        found = diagnose(given)
        assert (found.preprocessing, found.image_size, found.input_known) == ("vgg", 40, True)
    with FeatureExtractor(KEY, ["block1"]) as extractor:
        assert (extractor.preprocessing, extractor.image_size, extractor.input_known) == ("vgg", 40, True)
    copy = save_v1(tmp_path / f"{KEY}.ckpt", weights(classes=3))
    assert not diagnose(copy).input_known
    # What the user notes is added to what the catalog tells.
    note(KEY, labels=["cat", "dog", "bird"])
    found = diagnose(KEY)
    assert (found.labels, found.preprocessing, found.input_known) == (("cat", "dog", "bird"), "vgg", True)


def test_the_weights_that_ship_have_notes():
    found = diagnose("resnet_v2_tiny_digits")
    assert found.labels == tuple("0123456789")
    entry = CATALOG["resnet_v2_tiny_digits"]
    assert found.notes == entry.notes._replace(labels=found.labels)


# The commands.


def test_the_command(checkpoint, labels, capsys):
    assert main(["note", str(checkpoint), "--labels", labels]) == 0
    file = f"{checkpoint}.slimnets.json"
    assert capsys.readouterr().out.splitlines() == [
        "network       resnet_v2_tiny",
        f"input         preprocessing inception at 32 {ASSUMED}",
        "labels        cat, dog, bird",
        f"noted in      {file}",
    ]
    assert main(["note", str(checkpoint), "--preprocessing", "cifar"]) == 0
    partly = "(32 is assumed: nothing in the file says so; --image-size, or slimnets note)"
    assert f"input         preprocessing cifar at 32 {partly}" in capsys.readouterr().out
    assert main(["note", str(checkpoint), "--image-size", "64"]) == 0
    assert "input         preprocessing cifar at 64\nlabels        cat, dog, bird\n" in capsys.readouterr().out


def test_inspect_says_what_is_assumed(checkpoint, labels, capsys):
    assert main(["inspect", str(checkpoint)]) == 0
    printed = capsys.readouterr().out
    assert f"input         preprocessing inception at 32 {ASSUMED}\n" in printed
    assert "labels " not in printed
    assert main(["inspect", str(checkpoint), "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["input_known"], said["labels"], said["converted_from"]) == (False, None, None)
    note(checkpoint, preprocessing="inception", image_size=32, labels=labels)
    assert main(["inspect", str(checkpoint)]) == 0
    printed = capsys.readouterr().out
    assert "labels        cat, dog, bird\ninput         preprocessing inception at 32\n" in printed
    assert main(["inspect", str(checkpoint), "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["input_known"], said["labels"]) == (True, ["cat", "dog", "bird"])


def test_nothing_to_note_is_wrong_usage(checkpoint, capsys):
    with pytest.raises(SystemExit) as caught:
        main(["note", str(checkpoint)])
    assert caught.value.code == 2
    assert "there is nothing to note: give --preprocessing, --image-size or --labels" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--preprocessing", "vggg"], "Unknown preprocessing 'vggg': there is cifar, grayscale, "),
        (["--labels", "two.txt"], "The labels two.txt name 2 classes, and the network has 3: give one name for each."),
        (["--labels", "none.txt"], "The labels none.txt cannot be read"),
        (["--image-size", "8", "--scope", "other"], "has no network under --scope other"),
    ],
)
def test_what_is_refused(monkeypatch, checkpoint, capsys, options, sentence):
    monkeypatch.chdir(checkpoint.parent)
    Path("two.txt").write_text("cat\ndog\n")
    assert main(["note", str(checkpoint), *options]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    [line] = captured.err.splitlines()
    assert line.startswith("slimnets: error: ")
    assert sentence in line
    assert notes_in(checkpoint.parent) == []


def test_files_that_cannot_be_used(tmp_path, labels, capsys):
    """The sentence is that of the diagnosis."""
    (tmp_path / "page.ckpt").write_text("<html>Not Found</html>")
    save_v2(tmp_path / "other", {"w": np.ones(3, np.float32)})
    headless = save_v2(tmp_path / "headless", weights(logits=False))
    for name in ("page.ckpt", "other", "none"):
        assert main(["note", str(tmp_path / name), "--image-size", "32"]) == 1
        [problem] = diagnose(tmp_path / name).problems
        assert capsys.readouterr().err == f"slimnets: error: {problem.sentence}\n"
    assert main(["note", str(headless), "--labels", labels]) == 1
    assert "has no logits, and so no classes to name: omit labels." in capsys.readouterr().err
    assert notes_in(tmp_path) == []
    assert main(["note", str(headless), "--image-size", "64"]) == 0


def test_notes_that_cannot_be_written(checkpoint, capsys):
    """Replacing the notes fails, and nothing half written is left."""
    file = Path(f"{checkpoint}.slimnets.json")
    file.mkdir()
    before = sorted(checkpoint.parent.iterdir())
    assert main(["note", str(checkpoint), "--image-size", "64"]) == 1
    said = capsys.readouterr().err
    assert said == (
        f"slimnets: error: {file} cannot be written (Is a directory): make its folder writable, or copy the checkpoint "
        "to another one.\n"
    )
    assert sorted(checkpoint.parent.iterdir()) == before
    shutil.rmtree(file)
