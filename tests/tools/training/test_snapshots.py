"""Tests the snapshots of a training's state: one of the two is complete, whatever happens to the other."""

import numpy as np
import pytest

from tools.training.folder.snapshots import Snapshots

VALUES = {
    "scope/weights": np.arange(24, dtype=np.float32).reshape(2, 3, 4),
    "global_step": np.array(7, np.int64),
    "empty": np.zeros([0, 3], np.float32),
}


def check(found, step, factor):
    assert found[0] == step
    assert [*found[1]] == [*VALUES]
    for name, value in VALUES.items():
        assert found[1][name].dtype == value.dtype
        np.testing.assert_array_equal(found[1][name], factor * value)


def times(factor):
    return {name: (factor * value).astype(value.dtype) for name, value in VALUES.items()}


def test_the_last_snapshot_is_read_back(tmp_path):
    snapshots = Snapshots(tmp_path)
    assert (snapshots.last, snapshots.read()) == (0, None)
    for step in (1, 2, 3):
        snapshots.save(step, times(step))
        check(Snapshots(tmp_path).read(), step, step)
        assert snapshots.last == step
    assert len(list(tmp_path.iterdir())) == 2
    snapshots.remove()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("damage", ["cut", "flipped", "begun", "empty", "other"])
def test_the_one_before_is_read_if_the_last_is_damaged(damage, tmp_path):
    snapshots = Snapshots(tmp_path)
    snapshots.save(4, times(1))
    snapshots.save(9, times(2))
    file = max(tmp_path.iterdir(), key=lambda file: file.read_bytes()[8])
    data = bytearray(file.read_bytes())
    if damage == "cut":
        data = data[:-5]
    elif damage == "flipped":
        data[-40] ^= 1
    elif damage == "begun":
        data[8:16] = b"\xff" * 8  # a step of -1
    else:
        data = b"" if damage == "empty" else b"something else of some length, which is no snapshot"
    file.write_bytes(data)
    check(snapshots.read(), 4, 1)
    # The next one takes the place of the damaged one.
    snapshots.save(10, times(3))
    check(snapshots.read(), 10, 3)


def test_a_folder_that_cannot_be_written_is_told(tmp_path):
    with pytest.raises(OSError, match=r"snapshot-0 cannot be written \(No such file or directory\): make space"):
        Snapshots(tmp_path / "gone").save(1, VALUES)
