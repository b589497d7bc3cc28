"""Tests the description of the machine and of this process."""

import os
import subprocess
import sys

import numpy as np
import pytest

from tools.runtime import machine

MB = 10**6

on_linux = pytest.mark.skipif(sys.platform != "linux", reason="other systems do not tell")


def in_another_process(work, asked_for):
    script = f"import os; from tools.runtime import machine; {work}; print(machine.{asked_for}())"
    return int(subprocess.run([sys.executable, "-c", script], check=True, text=True, stdout=subprocess.PIPE).stdout)


@on_linux
def test_the_peak_is_of_this_process_alone():
    """It excludes the process that started this one, and includes memory that was given back."""
    large = np.ones(400 * MB, np.uint8)
    little = in_another_process("pass", "process_peak")
    much = in_another_process("bytes(range(250)) * 800_000", "process_peak")
    assert little < 100 * MB < large.nbytes
    assert 190 * MB <= much - little <= 220 * MB


@on_linux
def test_cores_that_this_process_may_use():
    one = min(os.sched_getaffinity(0))
    assert in_another_process(f"os.sched_setaffinity(0, [{one}])", "cores") == 1
    assert machine.cores() == len(os.sched_getaffinity(0))
