"""Tests the description of the machine and of this process."""

import os
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

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


def test_a_gpu_is_described(monkeypatch, tmp_path):
    """The file is as Nvidia's drivers write it: the open kernel module, and the closed one."""
    details = {"device_name": "NVIDIA H200", "compute_capability": (9, 0)}
    build = {"cuda_version": "12.5.1", "cudnn_version": "9"}
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: ["first", "second"])
    monkeypatch.setattr(tf.config.experimental, "get_device_details", {"first": details, "second": {}}.get)
    monkeypatch.setattr(tf.sysconfig, "get_build_info", lambda: build)
    monkeypatch.setattr(machine, "_DRIVER", tmp_path / "version")
    assert machine.describe()["driver"] is None
    for line in (
        "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  550.54.15  Release Build  (user@host)  Tue Mar  5",
        "NVRM version: NVIDIA UNIX x86_64 Kernel Module  550.54.15  Thu Feb  8 05:59:46 UTC 2024",
    ):
        (tmp_path / "version").write_text(f"{line}\nGCC version:  gcc version 12.2.0 (Debian)\n", encoding="utf-8")
        found = machine.describe()
        assert found["gpus"] == ["NVIDIA H200, compute capability 9.0", "a GPU without a name"]
        assert (found["driver"], found["cuda"], found["cudnn"]) == ("550.54.15", "12.5.1", "9")
    line = machine.one_line()
    assert line.startswith("NVIDIA H200, compute capability 9.0; a GPU without a name; ")
    assert line.endswith(", driver 550.54.15, built for CUDA 12.5.1 and cuDNN 9")


@pytest.mark.skipif(bool(tf.config.list_physical_devices("GPU")), reason="this machine has a GPU")
def test_without_a_gpu_none_is_described():
    assert {"gpus", "driver", "cuda", "cudnn"}.isdisjoint(machine.describe())
