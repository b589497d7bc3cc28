"""Tests the labels of images: the name of the folder that an image is in, below the folder that was given."""

import os
from pathlib import Path

import fsspec
import pytest

from tests.tools.images.test_sources import png
from tools.images import open_inputs
from tools.images.inputs import Reordered, sha256_of

NAMES = ("cat/1.png", "dog/deep/2.png", "3.png")
LABELS = {"3.png": "", "cat/1.png": "cat", "dog/deep/2.png": "dog"}


@pytest.fixture
def classes(tmp_path, monkeypatch):
    """Makes a folder ``photos`` of two classes with an image beside them, in the working folder."""
    monkeypatch.chdir(tmp_path)
    for i, name in enumerate(NAMES):
        path = tmp_path / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(png(i))
    return tmp_path / "photos"


def labels_of(*given, **patterns):
    inputs = open_inputs([str(one) for one in given], **patterns)
    assert [inputs.read(i).label for i in range(len(inputs))] == [inputs.label(i) for i in range(len(inputs))]
    return {inputs.name(i): inputs.label(i) for i in range(len(inputs))}


@pytest.mark.parametrize("spelling", ["photos", "photos/", "./photos", "photos//", "../{parent}/photos", "{path}"])
def test_a_folder_however_it_is_spelled(classes, spelling):
    given = spelling.format(parent=classes.parent.name, path=classes)
    root = f"{os.path.normpath(given)}/"
    assert labels_of(given) == {root + name: label for name, label in LABELS.items()}


def test_the_working_folder(classes, monkeypatch):
    monkeypatch.chdir(classes)
    for given in (".", "./"):
        assert labels_of(given) == LABELS


def test_links_are_labelled_by_their_own_names(classes, tmp_path):
    """A link to a folder is a class of the link's name, and a link as the input is no class."""
    (classes / "puppy").symlink_to(classes / "dog")
    assert labels_of("photos") == {f"photos/{name}": label for name, label in LABELS.items()} | {
        "photos/puppy/deep/2.png": "puppy"
    }
    Path("link").symlink_to("photos/cat")
    assert labels_of("link") == {"link/1.png": ""}


def test_several_inputs(classes):
    """Each input is labelled from its own root. Files that are named, or listed, have no label."""
    Path("list.txt").write_text("photos/cat/1.png\n")
    assert labels_of("photos/3.png", "photos/dog", "@list.txt") == {
        "photos/3.png": "",
        "photos/dog/deep/2.png": "deep",
        "photos/cat/1.png": "",
    }
    assert labels_of(".", "photos", exclude=["3.png"]) == {
        "photos/cat/1.png": "cat",  # of the second input, which names the same files
        "photos/dog/deep/2.png": "dog",
    }
    inputs = open_inputs([".", "photos"])
    assert [inputs.label(i) for i in range(len(inputs))] == ["photos"] * 3 + ["", "cat", "dog"]
    assert [Reordered(inputs, [5, 0]).label(i) for i in range(2)] == ["dog", "photos"]


@pytest.mark.parametrize("address", ["memory://labels", "memory:///labels/", "memory://labels//"])
def test_a_remote_folder_whose_address_is_spelled_otherwise(address):
    """fsspec names the files ``memory:///labels/...``, whatever the folder was called."""
    files = fsspec.filesystem("memory")
    for i, name in enumerate(NAMES):
        files.pipe_file(f"/labels/{name}", png(i))
    try:
        assert labels_of(address) == {f"memory:///labels/{name}": label for name, label in LABELS.items()}
    finally:
        files.rm("/labels", recursive=True)


def test_labels_that_folders_give_do_not_change_an_image(classes):
    """Features of earlier versions, which had no such labels, stay valid."""
    labelled, plain = open_inputs(["photos"]), open_inputs(["photos/3.png", "photos/cat", "photos/dog/deep"])
    for i in range(3):
        assert labelled.name(i) == plain.name(i)
        hashes = [sha256_of(inputs.name(i), inputs.read(i)) for inputs in (labelled, plain)]
        assert hashes[0] == hashes[1]
