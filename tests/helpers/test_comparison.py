"""Tests that the comparison of two checkouts tells figures and files from sentences and times."""

import json

import numpy as np
import pytest

from tests.helpers.comparison import compare_folders, compare_outputs

TABLE = "name      classes\nresnet_v2_50  1,001\n"


@pytest.mark.parametrize(
    ("before", "after", "kinds"),
    [
        (TABLE, TABLE, []),
        (TABLE, TABLE.replace("1,001", "1,000"), [False]),
        (TABLE, TABLE.replace("name      ", "name     "), [False]),
        ("What is said.\n", "It says so.\n", [True]),
        ("88 images in 1.5 s, 58.7 images/s\n", "88 images in 2.5 s, 35.2 images/s\n", []),
        ("88 images in 1.5 s\n", "87 images in 1.5 s\n", [False]),
        ('{"top_1": 0.5, "seconds": 1}', '{"top_1": 0.5, "seconds": 2}', []),
        ('{"top_1": 0.5}', '{"top_1": 0.6}', [False]),
        ('{"top_1": 0.5}', '{"top1": 0.5}', [False]),
    ],
)
def test_outputs(before, after, kinds):
    assert [found.is_sentence for found in compare_outputs("nets", before, after)] == kinds


def write(folder, values=(1.0, 2.0), images=2, seconds=3.0):
    folder.mkdir()
    np.save(folder / "global_pool.npy", np.array(values, np.float32))
    (folder / "run.json").write_text(json.dumps({"images": images, "seconds": seconds, "versions": {"numpy": "2"}}))
    return folder


def test_folders(tmp_path):
    before = write(tmp_path / "before")
    assert compare_folders(before, write(tmp_path / "same", seconds=4.0)) == []
    for name, changes, file in (
        ("values", {"values": (1.0, np.nextafter(np.float32(2), np.float32(3)))}, "global_pool.npy"),
        ("record", {"images": 3}, "run.json"),
    ):
        [found] = compare_folders(before, write(tmp_path / name, **changes))
        assert (found.what, found.is_sentence) == (file, False)
    (before / "index.csv").touch()
    assert [found.what for found in compare_folders(before, tmp_path / "same")] == ["index.csv"]
