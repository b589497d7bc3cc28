"""Tests that TensorFlow's messages on stderr appear only if the environment asks for them."""

import subprocess
import sys

import pytest

from tests.helpers.processes import environment
from tools.digits import CHECKPOINT, HELD_OUT
from tools.runtime import importing as startup

LEVEL, VERBOSITY = "TF_CPP_MIN_LOG_LEVEL", "TF_CPP_MAX_VLOG_LEVEL"


def stderr_of(*arguments, **variables):
    """Returns the stderr of a command that succeeds."""
    unset = (LEVEL, VERBOSITY, "TF_CPP_VMODULE")
    inherited = {name: value for name, value in environment().items() if name not in unset}
    command = [sys.executable, "-m", "tools", *map(str, arguments)]
    done = subprocess.run(command, env={**inherited, **variables}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stderr


def full(*values):
    return pytest.param(*values, marks=pytest.mark.full)


SILENT = [{}, {LEVEL: "none"}, {LEVEL: "3", VERBOSITY: "1"}]
RARE = [*({LEVEL: level} for level in ("", "1", "2", "3", "99")), {VERBOSITY: "0"}, {"PYTHONWARNINGS": "always"}]


@pytest.mark.parametrize("variables", [*SILENT, *map(full, RARE)])
def test_silence(variables):
    assert stderr_of("nets", "--json", **variables) == ""


@pytest.mark.parametrize("variables", [{LEVEL: "0"}, {VERBOSITY: "1"}, full({LEVEL: "-1"}), full({LEVEL: "0" * 3})])
def test_messages_for_who_asks_for_them(variables):
    # Printed on every processor; TensorFlow speaks of oneDNN only on some.
    assert "rebuild TensorFlow with the appropriate compiler flags" in stderr_of("nets", "--json", **variables)


@pytest.mark.parametrize(
    ("variables", "wanted"),
    [
        *((variables, False) for variables in (*SILENT, *RARE)),
        ({LEVEL: "0"}, True),
        ({LEVEL: " 0 "}, True),
        ({LEVEL: "0", VERBOSITY: "0"}, True),
        ({VERBOSITY: "2"}, True),
        ({LEVEL: "", VERBOSITY: "2"}, True),
        ({"TF_CPP_VMODULE": "executor=1"}, True),
        ({"TF_CPP_VMODULE": ""}, False),
        ({LEVEL: "2", "TF_CPP_VMODULE": "executor=1"}, False),
    ],
)
def test_who_asks(variables, wanted):
    assert startup._messages_wanted(variables) == wanted


@pytest.mark.full
@pytest.mark.parametrize("distributor", ["local", "ray"])
@pytest.mark.parametrize("level", ["3", ""])
def test_worker_processes_are_as_silent(tmp_path, level, distributor):
    """They inherit the variable, so TensorFlow's messages at their start are hidden too."""
    images = sorted(HELD_OUT.glob("*.png"))[:4]
    options = ["--checkpoint", CHECKPOINT, "--end-points", "logits", "--output", tmp_path / "out"]
    options += ["--workers", 2, "--shards", 2, "--batch-size", 2, "--distributor", distributor]
    stderr = stderr_of("features", *images, *options, **{LEVEL: level})
    assert not [word for word in ("oneDNN", "port.cc", "cpu_feature_guard", "absl") if word in stderr], stderr
