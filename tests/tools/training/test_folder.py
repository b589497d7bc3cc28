"""Tests what a training leaves in its folder if a file is damaged, the disk is full, or another process is there."""

import os
import resource
import shutil
from contextlib import contextmanager

import numpy as np
import pytest
import tensorflow as tf

from checkpoints import open_checkpoint
from checkpoints.files import Notes
from tests.helpers.digit_folders import training_digits
from tests.helpers.processes import run_stopped
from tools.cli import main
from tools.errors import InputError
from tools.runtime.locks import lock
from tools.training import fit
from tools.training.folder.events import Events
from tools.training.folder.history import Event, History
from tools.training.folder.states import States

TINY = {"net": "resnet_v2_tiny", "batch_size": 8, "steps": 3, "checkpoint_seconds": 0}


def notes():
    return Notes("resnet_v2_tiny", "SAME", "inception", 32)


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    return training_digits(tmp_path_factory.mktemp("digits") / "train", limit=4)


class StoppedError(Exception):
    pass


def stop_after_step_2(event):
    if event.step == 2:
        raise StoppedError


@pytest.fixture(scope="module")
def seen():
    """Returns the events that the second run of ``finished`` reported."""
    return []


@pytest.fixture(scope="module")
def finished(digits, seen, tmp_path_factory):
    """Returns the folder of a training that was stopped once, and holds the states of the steps 1 to 3."""
    output = tmp_path_factory.mktemp("finished") / "o"
    with pytest.raises(StoppedError):
        fit(digits, output, watch=stop_after_step_2, **TINY)
    assert fit(digits, output, watch=seen.append, **TINY).resumed_from == 1
    return output


@pytest.fixture
def copied(finished, tmp_path):
    return shutil.copytree(finished, tmp_path / "o")


@contextmanager
def small_files(size):
    """Lets no file grow beyond a size, with an error as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def values_of(path):
    reader = open_checkpoint(path)
    return {name: reader.read(name).tobytes() for name in reader.shapes}


def cut(file):
    os.truncate(file, file.stat().st_size // 2)


def zero(file):
    file.write_bytes(bytes(file.stat().st_size))


DAMAGE = pytest.mark.parametrize(("name", "damage"), [(".index", cut), (".data-00000-of-00001", zero)])


@DAMAGE
def test_the_state_before_a_damaged_one_counts(name, damage, copied):
    expected = open_checkpoint(copied / "model.ckpt-2")
    damage(copied / f"model.ckpt-3{name}")
    step, values = States(copied, notes(), keep=3).read()
    assert step == 2
    assert {*values} == {*expected.shapes}
    for variable, value in values.items():
        np.testing.assert_array_equal(value, expected.read(variable))


@pytest.mark.full
@DAMAGE
def test_a_training_with_a_damaged_state_ends_as_before(name, damage, copied, finished, digits):
    damage(copied / f"model.ckpt-3{name}")
    assert fit(digits, copied, **TINY).resumed_from == 2
    assert values_of(copied) == values_of(finished)
    assert (copied / "history.csv").read_bytes() == (finished / "history.csv").read_bytes()


@pytest.mark.parametrize("content", [b"", b"\0\xff\xfe", None])
def test_a_damaged_file_checkpoint_is_mended(content, copied, finished, digits):
    (copied / "checkpoint").unlink()
    if content is not None:
        (copied / "checkpoint").write_bytes(content)
    assert fit(digits, copied, **TINY).resumed_from == 3
    assert (copied / "checkpoint").read_bytes() == (finished / "checkpoint").read_bytes()


@pytest.mark.parametrize("content", [b"step\nx,y\n", b"", None])
def test_a_lost_history_is_named(content, copied, digits):
    (copied / "history.csv").unlink()
    if content is not None:
        (copied / "history.csv").write_bytes(content)
    with pytest.raises(InputError, match=r"history.csv is damaged, and lacks figures of the 3 steps that were done"):
        fit(digits, copied, **TINY)
    assert len(values_of(copied)) > 50


def test_a_full_disk_leaves_the_states_before(copied, digits, capsys):
    before = values_of(copied / "model.ckpt-2")
    for file in copied.glob("model.ckpt-3.*"):
        file.unlink()
    command = ["train", str(digits), "--output", str(copied), "--net", "resnet_v2_tiny", "--batch-size", "8"]
    with small_files(1_000_000):
        assert main([*command, "--steps", "3"]) == 1
    assert capsys.readouterr().err.endswith(
        "slimnets: error: model.ckpt-3 cannot be written (File too large): is there space?\n"
    )
    assert not list(copied.glob(".*"))
    assert values_of(copied) == before


def test_figures_that_cannot_be_written_end_in_a_sentence(tmp_path):
    event = Event(1, 0.1, 0.1, 1.0, 1.0, 0.5)
    history, events = History(tmp_path, 0), Events(tmp_path, 0)
    for _ in range(1000):
        history.add(event)
        events.add(event)
    sentence = r"{} cannot be written \(File too large\): make space, or check permissions, and run the same training"
    with small_files(2000):
        with pytest.raises(OSError, match=sentence.format("history.csv")):
            history.flush()
        with pytest.raises(OSError, match=sentence.format(r"events.out.tfevents\S*")):
            events.flush()
            events.close()


def test_event_files_hold_the_figures_of_all_steps(finished, seen):
    steps = []
    for file in sorted(finished.glob("events.out.tfevents.*")):
        read = list(tf.compat.v1.train.summary_iterator(str(file)))
        assert read[0].file_version == "brain.Event:2"
        assert read[1].session_log.status == tf.compat.v1.SessionLog.START
        steps.append([event.step for event in read[1:]])
    assert steps == [[0, 1, 2], [1, 2, 3]]
    figures = {value.tag: value.simple_value for value in read[-1].summary.value}
    for name in ("epoch", "learning_rate", "loss", "cross_entropy", "accuracy"):
        assert figures.pop(f"training/{name}") == np.float32(getattr(seen[-1], name))
    assert list(figures) == ["training/images_per_second"]


def test_an_event_file_names_validations(tmp_path):
    events = Events(tmp_path, 7)
    events.add(Event(9, 0.5, val_cross_entropy=0.25, val_top_1=0.5, val_top_5=1.0))
    events.close()
    [file] = tmp_path.iterdir()
    *_, event = tf.compat.v1.train.summary_iterator(str(file))
    assert event.step == 9
    assert {value.tag: value.simple_value for value in event.summary.value} == {
        "validation/epoch": 0.5,
        "validation/cross_entropy": 0.25,
        "validation/top_1": 0.5,
        "validation/top_5": 1.0,
    }


def test_a_second_process_is_refused(copied, digits):
    with lock(copied / ".training.lock") as is_ours:
        assert is_ours
        with pytest.raises(
            InputError, match=r"Another process is training in .*o: wait for it, or name another folder"
        ):
            fit(digits, copied, **TINY)


def test_a_folder_that_cannot_be_made_is_named(digits, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match=r"file/o cannot be written \(Not a directory\)"):
        fit(digits, tmp_path / "file" / "o", **TINY)


def test_a_stopped_command_says_how_to_go_on(digits, tmp_path):
    command = ["train", digits, "--output", tmp_path / "o", "--net", "resnet_v2_tiny", "--batch-size", "8"]
    finished = run_stopped("tools.training", "run", *command)
    assert finished.returncode == 1
    assert finished.stderr.endswith(
        "slimnets: stopped; run the same command again to go on from the last saved state\n"
    )
