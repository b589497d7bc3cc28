"""Tests that a file which does not compute the network's numbers, or is not finished, never takes its place."""

import io
import signal
import subprocess
import sys
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pytest
import tensorflow as tf

from tests.helpers.corpus import save_v2
from tests.helpers.exports import KERAS, TARGETS, in_one_process
from tests.helpers.processes import COMMAND, environment
from tests.tools.export.conftest import POINTS
from tests.tools.test_cli import wait_for
from tools.errors import InputError
from tools.export import export, exporting

WEIGHTS = "resnet_v2_tiny/logits/biases"


def bend(target, values):
    if target.suffix == ".keras":
        bend_archive(target, values)
    elif target.is_dir():
        bend_variables(target / "variables" / "variables", values)
    else:
        bend_bytes(target, values)


def bend_bytes(target, values):
    """Doubles one weight of a file, or of the files of a folder, wherever the bytes of its vector are."""
    before = values.astype("<f4").tobytes()
    after = np.where(np.arange(len(values)) == 3, values * 2, values).astype("<f4").tobytes()
    found = 0
    for file in [target.with_suffix(".bin"), *([target] if target.is_file() else target.rglob("*"))]:
        if file.is_file():
            content = file.read_bytes()
            found += content.count(before)
            file.write_bytes(content.replace(before, after))
    assert found


def bend_variables(prefix, values):
    """Does the same in a SavedModel's variables, whose checksums TensorFlow checks."""
    stored = tf.train.load_checkpoint(str(prefix))
    variables = {name: stored.get_tensor(name) for name in stored.get_variable_to_shape_map()}
    (found,) = (name for name, value in variables.items() if np.array_equal(value, values))
    variables[found][3] *= 2
    save_v2(prefix, variables)


def bend_archive(target, values):
    """Does the same in the HDF5 file of Keras' archive."""
    with zipfile.ZipFile(target) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    weights = io.BytesIO(members["model.weights.h5"])
    found = []
    with h5py.File(weights, "r+") as file:
        file.visititems(
            lambda name, item: (
                found.append(name)
                if isinstance(item, h5py.Dataset) and item.shape == values.shape and np.array_equal(item, values)
                else None
            )
        )
        for name in found:
            file[name][3] *= 2
    assert found
    members["model.weights.h5"] = weights.getvalue()
    with zipfile.ZipFile(target, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)


def changing(monkeypatch, change):
    """Makes every export change its file after it has been written."""
    check = exporting.check_file

    def changed(description, folder, target, *bounds):
        change(target)
        return check(description, folder, target, *bounds)

    monkeypatch.setattr(exporting, "check_file", changed)


def old(folder, format):
    """Writes what a finished export may have left at the target; returns all files with their contents."""
    target = folder / (TARGETS | KERAS)[format]
    if format == "saved_model":
        target.mkdir()
        (target / "saved_model.pb").write_text("old")
    else:
        names = [target.name, f"{target.name}.slimnets.json"] + ["network.bin"] * (format == "openvino")
        for name in names:
            (folder / name).write_text("old")
    return files(folder)


def files(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def bias(tiny):
    return tf.train.load_checkpoint(str(tiny)).get_tensor(WEIGHTS)


@pytest.mark.filterwarnings("default::DeprecationWarning:h5py.*")
@pytest.mark.parametrize(
    "format", [one if one in ("pb", "keras") else pytest.param(one, marks=pytest.mark.full) for one in TARGETS | KERAS]
)
def test_one_changed_weight(tiny, exported, bias, tmp_path, monkeypatch, format):
    """The exports of the fixture are copied, so that only the proof is made again."""
    good = exported(format)
    points = POINTS if format in TARGETS else POINTS[:-1]
    changing(monkeypatch, lambda target: bend(target, bias))
    empty, used = tmp_path / "empty", tmp_path / "used"
    empty.mkdir()
    used.mkdir()
    before = old(used, format)
    sentence = rf"^The {format} file computes predictions with a difference of .*: nothing is written\.$"
    for folder, overwrite in ((empty, False), (used, True)):
        with in_one_process(good), pytest.raises(InputError, match=sentence):
            export(tiny, folder / Path(good.target).name, end_points=points, overwrite=overwrite)
    assert list(empty.iterdir()) == []
    assert files(used) == before
    assert not list(used.glob(".*"))


def test_the_same_without_a_change(tiny, exported, tmp_path):
    with in_one_process(exported("pb")):
        export(tiny, tmp_path / TARGETS["pb"], end_points=POINTS)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["network.pb", "network.pb.slimnets.json"]


@pytest.mark.filterwarnings("ignore::nets.guards.InferenceWarning")
def test_weights_that_are_not_numbers(tiny, tmp_path):
    stored = tf.train.load_checkpoint(str(tiny))
    values = {name: stored.get_tensor(name) for name in stored.get_variable_to_shape_map()}
    values[WEIGHTS] = np.where(np.arange(10) == 3, np.nan, values[WEIGHTS]).astype(np.float32)
    broken = save_v2(tmp_path / "broken.ckpt", values)
    (tmp_path / "out").mkdir()
    with pytest.raises(InputError, match="The network itself computes predictions with values that are not finite"):
        export(broken, tmp_path / "out" / "network.pb")
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.full
@pytest.mark.parametrize("format", TARGETS)
def test_a_file_that_its_runtime_cannot_read(tiny, tmp_path, monkeypatch, format):
    def cut(target):
        largest = max([target, *target.parent.rglob("*")], key=lambda file: file.is_file() and file.stat().st_size)
        largest.write_bytes(largest.read_bytes()[: largest.stat().st_size // 2])

    changing(monkeypatch, cut)
    with pytest.raises(InputError, match=f"The network cannot be run as {format} ") as caught:
        export(tiny, tmp_path / TARGETS[format])
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def beginning(monkeypatch, tmp_path, code):
    """Makes the processes of an export run this first; returns a folder for the export."""
    (tmp_path / "first").mkdir()
    (tmp_path / "first" / "sitecustomize.py").write_text(f"import os, sys, signal, resource\n{code}\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "first"))
    (tmp_path / "out").mkdir()
    return tmp_path / "out"


def test_a_converter_that_is_killed(tiny, tmp_path, monkeypatch):
    """Its last words are not the reason, so they are not quoted."""
    code = "print('all is well', file=sys.stderr, flush=True); os.kill(os.getpid(), signal.SIGKILL)"
    folder = beginning(monkeypatch, tmp_path, code)
    with pytest.raises(InputError, match=r"cannot be written as tflite \(its process was ended by SIGKILL\)"):
        export(tiny, folder / "network.tflite")
    assert list(folder.iterdir()) == []


@pytest.mark.full
@pytest.mark.parametrize("format", ["pb", "openvino"])
def test_a_full_disk(tiny, tmp_path, monkeypatch, format):
    """The process may write files of 100 kB only, the rest of its weights fail as they do on a full disk."""
    code = (
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN); resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))"
    )
    folder = beginning(monkeypatch, tmp_path, code)
    with pytest.raises(InputError, match=f"cannot be (written|run) as {format} "):
        export(tiny, folder / TARGETS[format])
    assert list(folder.iterdir()) == []


# Tells the number of the process that has a task, which then waits for its end.
WAITS = """
import os, sys, time
if {task!r} in sys.orig_argv:
    with open({path!r}, "w") as stream:
        stream.write(str(os.getpid()))
    time.sleep(60)
"""


def has_ended(process):
    """Returns whether there is no such process, or only its exit status, which nobody has read."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


@pytest.mark.parametrize("sent", [pytest.param(signal.SIGINT, marks=pytest.mark.full), signal.SIGTERM])
@pytest.mark.parametrize("task", ["prepare", "write"])
def test_a_stop(tiny, tmp_path, task, sent):
    """Neither the target, nor a temporary folder, nor a process stays."""
    begun, out, temporary, first = (tmp_path / name for name in ("begun", "out", "temporary", "first"))
    for folder in (out, temporary, first):
        folder.mkdir()
    (first / "sitecustomize.py").write_text(WAITS.format(task=task, path=str(begun)))
    command = [sys.executable, "-c", COMMAND, "export", str(tiny), str(out / "network.onnx")]
    settings = {**environment(first), "TMPDIR": str(temporary)}
    with subprocess.Popen(command, env=settings, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        wait_for(lambda: begun.exists() and begun.read_text())
        process.send_signal(sent)
        stdout, stderr = process.communicate(timeout=60)
    assert process.returncode == 1
    assert stdout == ""
    assert stderr.splitlines()[-1] == "slimnets: interrupted; unfinished work is not kept"
    assert list(out.iterdir()) == []
    assert list(temporary.iterdir()) == []
    wait_for(lambda: has_ended(begun.read_text()))
