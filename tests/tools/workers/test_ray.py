"""Tests Ray on a cluster of two nodes on this machine."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tools.cli import main

pytestmark = [pytest.mark.full, pytest.mark.filterwarnings("ignore")]

# Two nodes stand for two machines; the script stays until its input ends.
CLUSTER = """
import sys
from ray.cluster_utils import Cluster
cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
cluster.add_node(num_cpus=1)
cluster.wait_for_nodes()
print("address", cluster.address, flush=True)
sys.stdin.read()
cluster.shutdown()
"""


# Set in the environment of the cluster's processes, because others may have their own Ray here.
MARK = f"SLIMNETS_TEST_{os.getpid()}"


@pytest.fixture(scope="module")
def address():
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL, "text": True}
    process = subprocess.Popen([sys.executable, "-c", CLUSTER], **pipes, env={**os.environ, MARK: "1"})
    yield next(line.split()[1] for line in process.stdout if line.startswith("address "))
    process.communicate("")


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pictures")
    generator = np.random.default_rng(0)
    for i in range(200):
        Image.fromarray(generator.integers(0, 256, (40, 40, 3), np.uint8)).save(folder / f"{i:03d}.png")
    (folder / "100.png").write_bytes(b"")
    return folder


@pytest.fixture
def command(pictures, tiny_checkpoint):
    def arguments(output, *options):
        given = ["features", pictures, "--checkpoint", tiny_checkpoint, "--end-points", "global_pool", "--threads", 1]
        return [str(one) for one in (*given, "--batch-size", 8, "--shards", 10, "--output", output, *options)]

    return arguments


def merged(folder):
    assert main(["merge", str(folder), "--output", f"{folder}-merged"]) == 0
    return [Path(f"{folder}-merged", name).read_bytes() for name in ("global_pool.npy", "index.csv")]


def start(command):
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen([sys.executable, "-m", "tools", *command], **pipes)


@pytest.fixture(scope="module")
def local(pictures, tiny_checkpoint, tmp_path_factory):
    """Returns the files that one process with one thread writes."""
    output = tmp_path_factory.mktemp("local") / "out"
    options = ["--checkpoint", tiny_checkpoint, "--end-points", "global_pool", "--threads", 1, "--batch-size", 8]
    assert main(["features", str(pictures), *map(str, options), "--output", str(output)]) == 1
    return [(output / name).read_bytes() for name in ("global_pool.npy", "index.csv")]


def test_two_nodes_are_as_one_process(command, tmp_path, local, address):
    """The results are equal byte for byte, with one thread each."""
    process = start(command(tmp_path / "out", "--distributor", "ray", "--ray-address", address, "--workers", 2))
    stdout, stderr = process.communicate()
    assert process.returncode == 1, stderr
    assert stdout == f"199 images done, 1 failed: {tmp_path / 'out'}\n"
    assert merged(tmp_path / "out") == local


def test_one_machine_by_itself(command, tmp_path, local, monkeypatch):
    """Joins no cluster if no address is given, even if one exists or existed."""
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    process = start(command(tmp_path / "out", "--distributor", "ray", "--workers", 2))
    stdout, stderr = process.communicate(timeout=300)
    assert process.returncode == 1, stderr
    assert stdout == f"199 images done, 1 failed: {tmp_path / 'out'}\n"
    assert merged(tmp_path / "out") == local


def test_a_worker_is_killed(command, tmp_path, local, address):
    """Other workers make its shards, each once."""
    output = tmp_path / "out"
    process = start(command(output, "--distributor", "ray", "--ray-address", address, "--workers", 2))
    while process.poll() is None and not list(output.glob("shard-*")):
        time.sleep(0.01)
    processes = [path for path in Path("/proc").iterdir() if path.name.isdigit()]
    actors = [
        path for path in processes if b"MapWorker" in of(path, "cmdline") and MARK.encode() in of(path, "environ")
    ]
    os.kill(int(actors[0].name), signal.SIGKILL)
    stdout, stderr = process.communicate()
    assert process.returncode == 1, stderr
    assert stdout == f"199 images done, 1 failed: {output}\n"
    assert sorted(path.name for path in output.iterdir()) == [
        "manifest.json",
        "run.json",
        *(f"shard-{i:05d}-of-00010" for i in range(10)),
    ]
    assert merged(output) == local


def of(process, what):
    try:
        return (process / what).read_bytes()
    except OSError:  # it has ended meanwhile
        return b""


def test_no_cluster(command, tmp_path, capfd):
    output = tmp_path / "out"
    assert main(command(output, "--distributor", "ray", "--ray-address", "127.0.0.1:1", "--workers", 2)) == 1
    stderr = capfd.readouterr().err.splitlines()
    assert stderr[-1].startswith("slimnets: error: There is no Ray cluster at 127.0.0.1:1 (")
