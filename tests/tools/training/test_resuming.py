"""Tests that a training that was stopped or killed ends with the same weights and history, to the bit."""

import json
import os
import random
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import Image

from checkpoints import open_checkpoint
from tests.helpers.digit_folders import training_digits
from tests.helpers.processes import COMMAND, environment
from tools.errors import InputError
from tools.training import fit

TINY = {"net": "resnet_v2_tiny", "batch_size": 8, "epochs": 2, "seed": 3, "ema": 0.9}


class StoppedError(Exception):
    pass


def values_of(path):
    reader = open_checkpoint(path)
    return {name: reader.read(name).tobytes() for name in reader.shapes}


def stop_after(step):
    """Returns a watcher that raises after a step."""

    def watch(event):
        if event.step == step:
            raise StoppedError

    return watch


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    folder = tmp_path_factory.mktemp("digits")
    training_digits(folder / "train", limit=4)
    training_digits(folder / "val", limit=3)
    return folder


@pytest.mark.full
def test_a_stopped_training_ends_as_an_undisturbed_one(digits, tmp_path):
    data = {"data": digits / "train", "val": digits / "val", **TINY}
    undisturbed = fit(output=tmp_path / "undisturbed", **data)
    assert undisturbed.steps == 10  # 2 epochs of 40 images in batches of 8
    # Before a validation, and at the last step, whose state is not saved yet.
    for step in (5, 10):
        with pytest.raises(StoppedError):
            fit(output=tmp_path / "stopped", save_seconds=0, watch=stop_after(step), **data)
    result = fit(output=tmp_path / "stopped", **data)
    assert result.resumed_from == 9
    assert result._replace(output=None, resumed_from=0) == undisturbed._replace(output=None)
    for state in ("", "best"):
        assert values_of(tmp_path / "stopped" / state) == values_of(tmp_path / "undisturbed" / state)
    histories = [(tmp_path / name / "history.csv").read_bytes() for name in ("stopped", "undisturbed")]
    assert histories[0] == histories[1]
    assert histories[0].count(b"\n") == 1 + 10 + 2


def test_a_training_of_other_settings_or_images_is_refused(digits, tmp_path):
    output = tmp_path / "output"
    options = {"net": "resnet_v2_tiny", "batch_size": 8, "steps": 2}
    fit(digits / "train", output, **options)
    before = values_of(output)
    with pytest.raises(InputError, match="holds another training: batch_size is 16 and was 8"):
        fit(digits / "train", output, **{**options, "batch_size": 16})
    with pytest.raises(InputError, match=r"data is 30 images \(SHA-256 of their names: \w{12}\) and was 40 images "):
        fit(digits / "val", output, **options)
    with pytest.raises(InputError, match="network is resnet_cifar_20 and was resnet_v2_tiny"):
        fit(digits / "train", output, **{**options, "net": "resnet_cifar_20"})
    assert values_of(output) == before
    # What does not change the result may change.
    assert fit(digits / "train", output, **options, keep=1, save_seconds=1).resumed_from == 2
    fit(digits / "train", output, **{**options, "steps": 3}, overwrite=True)
    assert len((output / "history.csv").read_text().splitlines()) == 4


def test_a_folder_of_something_else_is_refused(digits, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match=r"has files that no training wrote \(notes.txt\)"):
        fit(digits / "train", tmp_path, net="resnet_v2_tiny", steps=1)
    with pytest.raises(InputError, match="is a file: name a folder"):
        fit(digits / "train", tmp_path / "notes.txt", net="resnet_v2_tiny", steps=1)


@pytest.mark.full
def test_only_the_last_states_are_kept(digits, tmp_path):
    fit(digits / "train", tmp_path / "o", net="resnet_v2_tiny", batch_size=8, steps=6, checkpoint_seconds=0, keep=2)
    states = {file.name for file in (tmp_path / "o").glob("model.ckpt-*.index")}
    assert states == {"model.ckpt-5.index", "model.ckpt-6.index"}


def pictures(folder, count):
    """Writes noise as images of two classes."""
    rng = np.random.default_rng(0)
    for number in range(count):
        place = folder / "ab"[number % 2]
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, [70, 80, 3], np.uint8)).save(place / f"{number}.jpg")
    return folder


@pytest.mark.full
@pytest.mark.parametrize(
    ("net", "options"),
    [
        ("resnet_v2_tiny", ["--epochs", "40", "--batch-size", "16"]),
        ("resnet_cifar_20", ["--epochs", "12", "--batch-size", "16"]),
        ("resnet_v2_50", ["--image-size", "64", "--batch-size", "8", "--epochs", "12", "--eval-steps", "7"]),
    ],
)
def test_twenty_kills_change_nothing(net, options, tmp_path):
    """Kills a training 20 times at random; the last run is left alone."""
    write = {"resnet_v2_50": lambda place: pictures(place, 64)}.get(net, lambda place: training_digits(place, limit=60))
    data = write(tmp_path / "data")
    command = [sys.executable, "-c", COMMAND, "train", str(data), "--val", str(data), "--net", net, *options]
    command += ["--save-seconds", "0.1"]

    def start(name):
        arguments = [*command, "--output", str(tmp_path / name)]
        return subprocess.Popen(arguments, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE)

    process = start("undisturbed")
    process.communicate()
    assert process.returncode == 0
    history, chance = tmp_path / "killed" / "history.csv", random.Random(net)
    for _ in range(20):
        before = history.stat().st_size if history.exists() else 0
        process = start("killed")
        # Each run saves something, so that the last one is not alone with the work, and is killed in the midst of it.
        while process.poll() is None and not (history.exists() and history.stat().st_size > before):
            time.sleep(0.01)
        time.sleep(chance.uniform(0, 0.3))
        assert process.poll() is None, "the training was over before it was killed"
        os.kill(process.pid, signal.SIGKILL)
        process.communicate()
    process = start("killed")
    _, error = process.communicate()
    assert process.returncode == 0, error.decode()
    assert values_of(tmp_path / "killed") == values_of(tmp_path / "undisturbed")
    assert values_of(tmp_path / "killed/best") == values_of(tmp_path / "undisturbed/best")
    histories = [(tmp_path / name / "history.csv").read_bytes() for name in ("killed", "undisturbed")]
    assert histories[0] == histories[1]
    assert not list((tmp_path / "killed").glob(".*"))
    assert json.loads((tmp_path / "killed/run.json").read_text())["network"] == net
