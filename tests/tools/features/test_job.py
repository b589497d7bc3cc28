"""Tests features in shards, made or stopped and continued by one or several processes, against an undisturbed run."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.helpers.reference import slim_checkpoint
from tools.cli import main
from tools.errors import InputError
from tools.features import job as feature_jobs
from tools.features import load
from tools.features.folder import claimed, remove_leftovers
from tools.runtime.locks import lock

COUNT, BATCH = 90, 4


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """Returns a folder of images, two of which are broken."""
    folder = tmp_path_factory.mktemp("pictures")
    generator = np.random.default_rng(0)
    for i in range(COUNT):
        Image.fromarray(generator.integers(0, 256, (30 + i % 7, 40, 3), np.uint8)).save(folder / f"{i:03d}.png")
    (folder / "017.png").write_bytes(b"")
    (folder / "050.png").write_bytes((folder / "050.png").read_bytes()[:700])
    return folder


@pytest.fixture
def command(pictures, tiny_checkpoint):
    """Returns a function from a folder and options to the arguments of ``slimnets``."""

    def arguments(output, *options, inputs=(pictures,)):
        given = ["features", *inputs, "--checkpoint", tiny_checkpoint, "--end-points", "global_pool,block2"]
        return [str(one) for one in (*given, "--batch-size", BATCH, "--output", output, *options)]

    return arguments


@pytest.fixture
def features(command, capfd):
    """Returns a function from a folder and options to the command's exit status, stdout and stderr."""

    def run(output, *options, **inputs):
        capfd.readouterr()
        status = main(command(output, *options, **inputs))
        return status, *capfd.readouterr()

    return run


def undisturbed(pictures, checkpoint, output, *options):
    options = ["--checkpoint", checkpoint, "--end-points", "global_pool,block2", "--batch-size", BATCH, *options]
    assert main(["features", str(pictures), *map(str, options), "--output", str(output)]) == 1  # two have failed
    return output


@pytest.fixture(scope="module")
def whole(pictures, tiny_checkpoint, tmp_path_factory):
    """Returns the folder of one undisturbed run without shards."""
    return undisturbed(pictures, tiny_checkpoint, tmp_path_factory.mktemp("whole") / "out")


@pytest.fixture(scope="module")
def _three(pictures, tiny_checkpoint, tmp_path_factory):
    return undisturbed(pictures, tiny_checkpoint, tmp_path_factory.mktemp("three") / "out", "--shards", 3)


@pytest.fixture
def three(_three, tmp_path):
    """Returns a folder of three finished shards."""
    return shutil.copytree(_three, tmp_path / "out")


def merged(folder, capfd):
    """Merges the shards of ``folder``, and returns the new folder."""
    output = folder.with_name(f"{folder.name}-merged")
    assert main(["merge", str(folder), "--output", str(output)]) == 0
    assert capfd.readouterr().out == f"{COUNT} images merged: {output}\n"
    return output


def assert_same(folder, whole):
    """Asserts that arrays and index are equal byte for byte."""
    for name in ("global_pool.npy", "block2.npy", "index.csv"):
        assert (folder / name).read_bytes() == (whole / name).read_bytes(), name


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def shard(i, count):
    return f"shard-{i:05d}-of-{count:05d}"


@pytest.mark.parametrize("shards", [2, 5, 23])
def test_rows_do_not_depend_on_the_cut(features, tmp_path, whole, shards, capfd):
    """Each of 23 shards is one batch; the last one has two images."""
    status, stdout, stderr = features(tmp_path / "out", "--shards", shards)
    assert (status, stdout) == (1, f"88 images done, 2 failed: {tmp_path / 'out'}\n")
    assert "failed, 1: the file is empty\n" in stderr
    assert names(tmp_path / "out") == ["manifest.json", "run.json", *(shard(i, shards) for i in range(shards))]
    assert_same(merged(tmp_path / "out", capfd), whole)


@pytest.mark.parametrize("shards", [1, 2])
def test_goes_on_whatever_options_the_network_has(pictures, tmp_path, capfd, shards):
    """Options of resnet_cifar are a tuple, which JSON does not have."""
    slim_checkpoint(tmp_path / "cifar.ckpt", "resnet_cifar_20", 10)
    given = ["--checkpoint", tmp_path / "cifar.ckpt", "--end-points", "global_pool", "--shards", shards]
    command = ["features", str(pictures), *map(str, given), "--output", str(tmp_path / "out")]
    assert main(command) == 1  # two have failed
    capfd.readouterr()
    assert main(command) == 1
    stdout, stderr = capfd.readouterr()
    assert f"resumed from {COUNT} images that were done before" in stderr
    assert stdout == f"{COUNT - 2} images done, 2 failed: {tmp_path / 'out'}\n"


def test_shards_are_whole_batches(three):
    """Calculated by hand for 23 batches of 4: the first shard has 7, the other two 8, and the last batch 2 images."""
    counts = [np.load(three / shard(i, 3) / "global_pool.npy").shape for i in range(3)]
    assert counts == [(28, 512), (32, 512), (30, 512)]


def test_loaded_shards(three, whole):
    loaded, expected = load(three), load(whole)
    assert list(loaded.index) == list(expected.index)
    for name, array in expected.arrays.items():
        assert np.asarray(loaded.arrays[name]).tobytes() == array.tobytes()
        assert loaded.arrays[name][30:61:3].tobytes() == array[30:61:3].tobytes()
    assert loaded.run["counts"]["reasons"] == expected.run["counts"]["reasons"]
    assert sum(loaded.run["counts"]["reasons"].values()) == 2


@pytest.mark.parametrize("form", ["parquet", "tfrecord"])
@pytest.mark.parametrize("shards", [1, 3])
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_formats(features, tmp_path, whole, form, shards, dtype, capfd):
    """The arrays are bit-identical to the undisturbed run's; float16 is rounded as NumPy does."""
    features(tmp_path / "out", "--shards", shards, "--format", form, "--dtype", dtype)
    assert main(["merge", str(tmp_path / "out"), "--output", str(tmp_path / "merged")]) == 0
    expected = load(whole)
    for folder in ("out", "merged"):
        loaded = load(tmp_path / folder)
        assert list(loaded.index) == list(expected.index)
        for name, array in expected.arrays.items():
            assert np.asarray(loaded.arrays[name]).tobytes() == array.astype(dtype).tobytes()


def test_the_same_again(features, tmp_path, whole, three):
    """A finished run has nothing left to do in any layout."""
    for output in (shutil.copytree(whole, tmp_path / "whole"), three):
        before = {path: path.stat().st_mtime_ns for path in output.rglob("*")}
        status, stdout, stderr = features(output)
        assert (status, stdout) == (1, f"88 images done, 2 failed: {output}\n")
        assert "resumed from 90 images" in stderr
        assert {path: path.stat().st_mtime_ns for path in output.rglob("*")} == before


def test_only_what_is_missing_is_made(features, tmp_path, whole, capfd):
    output = tmp_path / "out"
    features(output, "--shards", 5)
    for left in (shard(1, 5), shard(3, 5)):
        shutil.rmtree(output / left)
    (output / "run.json").unlink()
    with pytest.raises(InputError, match="out is not complete, 3 of 5 shards are done: run the command that makes"):
        load(output)
    before = {i: (output / shard(i, 5)).stat().st_mtime_ns for i in (0, 2, 4)}
    _, _, stderr = features(output)  # the number of shards is the manifest's
    assert {i: (output / shard(i, 5)).stat().st_mtime_ns for i in (0, 2, 4)} == before
    done = sum(np.load(output / shard(i, 5) / "global_pool.npy", mmap_mode="r").shape[0] for i in (0, 2, 4))
    assert f"resumed from {done} images that were done before\n{COUNT - done} images in " in stderr
    run = json.loads((output / "run.json").read_text())
    assert run["resumed_from"] == done
    assert run["counts"]["images"] == COUNT
    assert_same(merged(output, capfd), whole)


@pytest.mark.parametrize(
    ("options", "what"),
    [
        (["--batch-size", 8], "batch_size is 8 and was 4"),
        (["--shards", 4], "shards is 4 and was 3"),
        (["--format", "parquet"], "format is parquet and was npy"),
        (["--dtype", "float16"], "dtype is float16 and was float32"),
        (["--image-size", 48, "--pool", "mean"], "image_size is 48 and was 32; pool is mean and was none"),
        (["--preprocessing", "cifar"], "preprocessing is cifar and was inception"),
        (["--end-points", "block2"], "end_points is block2 and was global_pool, block2"),
        (["--num-classes", 0], "num_classes is 0 and was 10"),
    ],
)
@pytest.mark.filterwarnings("ignore::nets.guards.InferenceWarning")
@pytest.mark.parametrize("finished", [True, False])
def test_another_run_is_refused(features, tmp_path, three, options, what, finished):
    if not finished:
        shutil.rmtree(three / shard(1, 3))
        (three / "run.json").unlink()
    before = sorted(tmp_path.rglob("*"))
    status, stdout, stderr = features(three, *options)
    assert (status, stdout) == (1, "")
    said = stderr.splitlines()[-1]
    assert said.startswith(f"slimnets: error: {three} holds features of another run: ")
    assert what in said
    assert said.endswith(". Give the same settings, another folder, or --overwrite.")
    assert sorted(tmp_path.rglob("*")) == before


def test_other_inputs_or_weights_are_refused(features, three, pictures, tiny_checkpoint_v1):
    first = sorted(pictures.iterdir())[:40]
    stderr = features(three, inputs=first)[2]
    assert "the number of images is 40 and was 90; the list of images, by its SHA-256, is" in stderr
    stderr = features(three, "--checkpoint", tiny_checkpoint_v1)[2]
    assert "holds features of another run: the checkpoint, by its SHA-256, is " in stderr


def test_a_copy_of_the_checkpoint_is_the_same_run(features, tmp_path, three, tiny_checkpoint):
    for file in tiny_checkpoint.parent.glob(f"{tiny_checkpoint.name}*"):
        shutil.copy(file, tmp_path)
    assert "resumed from 90 images" in features(three, "--checkpoint", tmp_path / tiny_checkpoint.name)[2]


@pytest.mark.parametrize("shards", [1, 3])
def test_overwrite(features, tmp_path, three, shards):
    assert features(three, "--shards", shards, "--batch-size", 8, "--overwrite")[0] == 1
    assert load(three).run["batch_size"] == 8
    assert names(tmp_path) == ["out"]


@pytest.mark.parametrize("content", ["{}", "[]", '{"inputs": 1, "shards": 2}', "no JSON"])
def test_a_manifest_of_somebody_else(features, tmp_path, content):
    """Tests a web site's manifest, for example: nothing in that folder may be deleted."""
    output = tmp_path / "site"
    output.mkdir()
    (output / "manifest.json").write_text(content)
    (output / "index.html").write_text("kept")
    for options in ((), ("--overwrite",)):
        status, stdout, stderr = features(output, *options)
        assert (status, stdout, stderr.count("\n")) == (1, "", 1)
    assert "holds index.html, which is not a feature file: name another folder" in stderr
    assert names(output) == ["index.html", "manifest.json"]


def test_a_job_that_is_given_up_meanwhile(features, three, tmp_path, monkeypatch):
    """A process that still works on the old job does not put its shards into the new job's folder."""
    (three / "run.json").unlink()
    shutil.rmtree(three / shard(2, 3))
    make = feature_jobs.FeatureJob.make

    def overwritten(job, *arguments):
        manifest = json.loads((three / "manifest.json").read_text())
        (three / "manifest.json").write_text(json.dumps({**manifest, "pool": "mean"}))
        make(job, *arguments)

    monkeypatch.setattr(feature_jobs.FeatureJob, "make", overwritten)
    status, stdout, stderr = features(three)
    assert (status, stdout) == (1, "")
    assert "holds features of another run: pool is none and was mean" in stderr.splitlines()[-1]
    assert names(three) == ["manifest.json", shard(0, 3), shard(1, 3)]


def test_neighbours_keep_their_temporaries(features, tmp_path):
    """A run to ``out`` does not remove the temporary files of a run to ``out.v2``."""
    other = tmp_path / ".out.v2.abcdefgh.incomplete"
    own = tmp_path / ".out.abcdefgh.incomplete"
    other.mkdir()
    own.mkdir()
    features(tmp_path / "out")
    assert names(tmp_path) == [".out.v2.abcdefgh.incomplete", "out"]


def test_a_folder_of_left_overs_is_empty(features, tmp_path):
    (tmp_path / "out" / ".shard-00000-of-00003.abcdefgh.incomplete").mkdir(parents=True)
    assert features(tmp_path / "out")[1] == f"88 images done, 2 failed: {tmp_path / 'out'}\n"
    assert names(tmp_path / "out") == ["block2.npy", "global_pool.npy", "images.npz", "index.csv", "run.json"]


def test_through_a_link(features, tmp_path, whole):
    """The folder that the link points to is locked and written."""
    (tmp_path / "real").mkdir()
    (tmp_path / "out").symlink_to(tmp_path / "real")
    with lock(tmp_path / ".real.lock"):
        assert "another process is working on 1 of the shards" in features(tmp_path / "out")[2]
    features(tmp_path / "out")
    assert_same(tmp_path / "real", whole)
    features(tmp_path / "out", "--overwrite", "--shards", 2)
    assert names(tmp_path / "real") == ["manifest.json", "run.json", shard(0, 2), shard(1, 2)]


@pytest.mark.full
def test_no_more_shards_than_batches_unless_asked_for(features, tmp_path):
    assert features(tmp_path / "out", "--workers", 2, "--batch-size", 50)[0] == 1
    assert load(tmp_path / "out").run["shards"] == 2
    assert features(tmp_path / "one", "--workers", 2, "--batch-size", 90)[0] == 1
    assert load(tmp_path / "one").run["shards"] == 1


def test_a_damaged_shard_is_named(three):
    (three / shard(1, 3) / "block2.npy").write_bytes(b"")
    with pytest.raises(
        InputError, match=rf"{shard(1, 3)} is damaged \(.*\): remove it, and run the command that made it again"
    ):
        np.asarray(load(three).arrays["block2"])
    index = three / shard(1, 3) / "index.csv"
    whole = index.read_text().splitlines(keepends=True)
    index.write_text("".join(whole[:-1]))
    features = load(three)
    with pytest.raises(
        InputError, match=rf"damaged \(its index has {len(whole) - 2:,} rows, and {len(whole) - 1:,} are expected"
    ):
        features.index[len(features.index) // 2]


def test_overwrite_keeps_what_is_not_ours(features, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.txt").write_text("kept")
    status, _, stderr = features(tmp_path / "out", "--overwrite")
    assert (status, stderr.count("\n")) == (1, 1)
    assert "holds thesis.txt, which is not a feature file: name another folder" in stderr
    assert (tmp_path / "out" / "thesis.txt").read_text() == "kept"


def test_shard_indexes(features, tmp_path, whole, capfd):
    """Runs processes that know nothing of each other, in any order; the last one says that all is done.

    Images 17 and 50 have failed: one of the 28 of the first shard, one of the 32 of the second.
    """
    output = tmp_path / "out"
    for i, done, failed in ((2, 30, 0), (0, 27, 1), (1, 31, 1)):
        assert not (output / "run.json").exists()
        status, stdout, _ = features(output, "--shards", 3, "--shard-index", i)
        assert (status, stdout) == (failed, f"{done} images done, {failed} failed: {output}\n")
    assert_same(merged(output, capfd), whole)


def test_shards_of_several_machines(features, tmp_path, whole, capfd):
    """Tests machines that share no folder: `merge` takes several."""
    for i in range(3):
        features(tmp_path / f"machine{i}", "--shards", 3, "--shard-index", i)
    machines = [str(tmp_path / f"machine{i}") for i in range(3)]
    assert main(["merge", *machines[:2], "--output", str(tmp_path / "merged")]) == 1
    assert "1 of 3 shards are in none of the folders (2): make them first" in capfd.readouterr().err
    assert main(["merge", *machines, "--output", str(tmp_path / "merged")]) == 0
    assert_same(tmp_path / "merged", whole)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--shards", 24], "24 shards of 23 batches of 4 images cannot be: give 1 to 23."),
        (["--shards", 3, "--shard-index", 3], "There is no shard 3: there are 3, numbered from 0."),
        (["--shard-index", 0], "--shard-index requires --shards"),
        (["--shards", 3, "--shard-index", 0, "--overwrite"], "--overwrite would delete shards that other commands"),
        (["--format", "hdf5"], "There is no format 'hdf5': choose one of npy, parquet, tfrecord."),
        (["--ray-address", "localhost:1"], "--ray-address requires --distributor ray."),
    ],
)
def test_mistakes(features, tmp_path, options, sentence):
    status, stdout, stderr = features(tmp_path / "out", *options)
    assert (status, stdout) == (1, "")
    assert stderr.splitlines()[-1].startswith("slimnets: error: ")
    assert sentence in stderr.splitlines()[-1]
    assert not (tmp_path / "out").exists()


def test_float16_does_not_reach_everywhere():
    values = np.array([1.0, np.inf, 7e4, np.nan], np.float32)
    with pytest.raises(
        InputError, match="logits has the value 70000, which is too large for float16: store it as float32"
    ):
        feature_jobs._as_stored(values, "float16", "logits")
    assert feature_jobs._as_stored(values[:2], "float16", "logits").tolist() == [1.0, np.inf]


# Interruptions and changes.


# If the tests run in the background, the processes that they start ignore Ctrl-C.
SLIMNETS = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
from tools.cli import main
sys.exit(main())
"""


def start(command):
    """Starts a process of the command, in a group of its own."""
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "start_new_session": True}
    return subprocess.Popen([sys.executable, "-c", SLIMNETS, *command], **pipes)


def wait_for_shards(output, count, process):
    """Waits until some shards are done, or all."""
    while process.poll() is None and len(list(output.glob("shard-*"))) < count:
        time.sleep(0.01)


def test_killed(command, features, tmp_path, whole, capfd):
    output = tmp_path / "out"
    arguments = command(output, "--shards", 23)
    process = start(arguments)
    wait_for_shards(output, 3, process)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    assert 3 <= len(list(output.glob("shard-*"))) < 23
    features(output)
    assert names(output) == ["manifest.json", "run.json", *(shard(i, 23) for i in range(23))]
    assert_same(merged(output, capfd), whole)


@pytest.mark.full
def test_killed_at_thirty_random_moments(command, features, tmp_path, whole, capfd):
    """Kills a process in every part of the work: up to a second later, whatever shards exist by then."""
    generator = random.Random(0)
    kills = rounds = 0
    while kills < 30:
        output = tmp_path / f"out{rounds}"
        arguments = command(output, "--shards", 23)
        while kills < 30:
            process = start(arguments)
            before = len(list(output.glob("shard-*")))
            # The time is counted from its first shard, or for some from its start.
            if generator.random() < 0.7:
                wait_for_shards(output, before + 1, process)
                time.sleep(generator.uniform(0, 0.15))
            else:
                time.sleep(generator.uniform(0.5, 5))
            if process.poll() is not None:
                process.communicate()
                break
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
            kills += 1
        features(output)
        assert names(output) == ["manifest.json", "run.json", *(shard(i, 23) for i in range(23))]
        assert_same(merged(output, capfd), whole)
        rounds += 1


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_stopped(command, features, tmp_path, whole, number, capfd):
    output = tmp_path / "out"
    process = start(command(output, "--shards", 23))
    wait_for_shards(output, 2, process)
    process.send_signal(number)
    stdout, stderr = process.communicate()
    done = len(list(output.glob("shard-*")))
    assert (process.returncode, stdout) == (1, "")
    assert stderr.splitlines()[-1] == (
        f"slimnets: stopped; {done} of 23 shards are done and kept, {4 * done} of 90 images: run the same command "
        "again for the rest"
    )
    assert names(output) == ["manifest.json", *(shard(i, 23) for i in range(done))]
    features(output)
    assert_same(merged(output, capfd), whole)


def test_two_at_once(command, tmp_path, whole, capfd):
    """They share the work, and make each shard once; the first to end says what the other one is working on."""
    output = tmp_path / "out"
    processes = [start(command(output, "--shards", 12)) for _ in range(2)]
    ended = [process.communicate() for process in processes]
    for stdout, stderr in ended:
        assert "Traceback" not in stderr
        assert stdout.endswith(f"failed: {output}\n")
    assert any(f"88 images done, 2 failed: {output}\n" == stdout for stdout, _ in ended)
    assert names(output) == ["manifest.json", "run.json", *(shard(i, 12) for i in range(12))]
    assert_same(merged(output, capfd), whole)


def test_a_shard_that_another_process_is_at(features, tmp_path):
    output = tmp_path / "out"
    output.mkdir()
    with lock(output / f".{shard(1, 3)}.lock") as held:
        assert held
        status, _, stderr = features(output, "--shards", 3)
    assert status == 1
    assert (
        "slimnets: not complete: another process is working on 1 of the shards (1); run the same command again"
        in stderr
    )
    assert not (output / "run.json").exists()
    assert names(output) == ["manifest.json", shard(0, 3), shard(2, 3)]


def test_one_folder_that_another_process_is_at(features, tmp_path):
    with lock(tmp_path / ".out.lock"):
        status, _, stderr = features(tmp_path / "out")
    assert status == 1
    assert "slimnets: not complete: another process is working on 1 of the shards (0)" in stderr
    assert names(tmp_path) == []


def test_a_disk_that_is_full(command, features, tmp_path, whole, capfd):
    """A limit on the size of files stands for a full disk: arrays in 10 shards would stay below it, but not in 3."""
    output = tmp_path / "out"
    limited = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, 40_000)); "
    code = f"{limited}import sys; from tools.cli import main; sys.exit(main(sys.argv[1:]))"
    run = [sys.executable, "-c", code, *command(output, "--shards", 3)]
    ended = subprocess.run(run, capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout) == (1, "")
    assert ended.stderr.splitlines()[-1] == (
        f"slimnets: error: {output} cannot be written (File too large): make room, or name another folder. "
        "Finished shards are kept; run the same command again for the rest."
    )
    assert names(output) == ["manifest.json"]
    features(output)
    assert_same(merged(output, capfd), whole)


@pytest.fixture
def disk(tmp_path):
    """Yields a small disk, a tmpfs, and a function that mounts it again with other options."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=200k", "tmpfs", folder], check=False).returncode:
        pytest.skip("a tmpfs needs the right to mount it")
    yield folder, lambda options: subprocess.run(["mount", "-o", f"remount,{options}", folder], check=True)
    subprocess.run(["umount", folder], check=True)


def test_a_small_disk(disk, features, tmp_path, whole):
    """The disk has room for some of the shards, and then for all."""
    folder, remount = disk
    output = folder / "out"
    status, stdout, stderr = features(output, "--shards", 9)
    assert (status, stdout) == (1, "")
    assert stderr.splitlines()[-1].startswith(
        f"slimnets: error: {output} cannot be written (No space left on device): make room"
    )
    done = len(list(output.glob("shard-*")))
    assert 0 < done < 9
    assert names(output) == ["manifest.json", *(shard(i, 9) for i in range(done))]
    rows = sum(len(np.load(output / shard(i, 9) / "block2.npy")) for i in range(done))
    remount("size=10m")
    assert f"resumed from {rows} images" in features(output)[2]
    main(["merge", str(output), "--output", str(tmp_path / "merged")])
    assert_same(tmp_path / "merged", whole)


def test_a_disk_that_becomes_read_only(disk, features):
    folder, remount = disk
    output = folder / "out"
    features(output, "--shards", 12, "--shard-index", 0)
    remount("ro")
    status, stdout, stderr = features(output)
    assert (status, stdout) == (1, "")
    assert stderr.splitlines()[-1].startswith(f"slimnets: error: {output} cannot be written (Read-only file system)")
    assert names(output) == ["manifest.json", shard(0, 12)]


def test_inputs_that_change_meanwhile(features, tmp_path, pictures, whole):
    """One is deleted and one cut short after the first shards: their rows say so, and the others do not change."""
    listed = tmp_path / "list.txt"
    copies = tmp_path / "copies"
    shutil.copytree(pictures, copies)
    listed.write_text("\n".join(sorted(map(str, copies.iterdir()))))
    output = tmp_path / "out"
    features(output, "--shards", 3, "--shard-index", 0, inputs=[f"@{listed}"])
    (copies / "040.png").unlink()
    (copies / "070.png").write_bytes((copies / "070.png").read_bytes()[:500])
    assert features(output, "--shards", 3, inputs=[f"@{listed}"])[0] == 1
    loaded, expected = load(output), load(whole)
    failed = [row.row for row in loaded.index if row.status == "failed"]
    assert failed == [17, 40, 50, 70]
    assert loaded.index[40].error == "there is no such file"
    others = [i for i in range(COUNT) if i not in failed]
    for name, array in expected.arrays.items():
        assert loaded.arrays[name][others].tobytes() == array[others].tobytes()


@pytest.mark.parametrize("content", ["", "{"])
def test_a_manifest_that_cannot_be_read(features, tmp_path, content):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "manifest.json").write_text(content)
    status, _, stderr = features(tmp_path / "out")
    assert (status, stderr.count("\n")) == (1, 1)
    assert "manifest.json cannot be read" in stderr


@pytest.mark.numerical
def test_workers(features, tmp_path, whole, capfd):
    """Runs two processes of one thread each: every image is computed once, and rows differ in rounding at most."""
    status, stdout, _ = features(tmp_path / "out", "--workers", 2, "--shards", 6)
    assert (status, stdout) == (1, f"88 images done, 2 failed: {tmp_path / 'out'}\n")
    output = merged(tmp_path / "out", capfd)
    assert (output / "index.csv").read_bytes() == (whole / "index.csv").read_bytes()
    for name in ("global_pool.npy", "block2.npy"):
        np.testing.assert_allclose(np.load(output / name), np.load(whole / name), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("number", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.full)])
def test_workers_are_stopped(command, features, tmp_path, number):
    """Sends the signal to the whole group, as a terminal does."""
    output = tmp_path / "out"
    process = start(command(output, "--workers", 2, "--shards", 23))
    wait_for_shards(output, 1, process)
    os.killpg(process.pid, number)
    stdout, stderr = process.communicate()
    done = len(list(output.glob("shard-*")))
    assert (process.returncode, stdout) == (1, "")
    assert "Traceback" not in stderr
    assert f"slimnets: stopped; {done} of 23 shards are done and kept" in stderr.splitlines()[-1]
    assert all(name == "manifest.json" or name.startswith("shard-") for name in names(output))


@pytest.mark.full
def test_a_worker_is_killed(command, features, tmp_path, whole, capfd):
    output = tmp_path / "out"
    process = start(command(output, "--workers", 2, "--shards", 23))
    wait_for_shards(output, 1, process)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    worker = next(child for child in children if b"spawn_main" in Path(f"/proc/{child}/cmdline").read_bytes())
    os.kill(int(worker), signal.SIGKILL)
    stdout, stderr = process.communicate()
    assert (process.returncode, stdout) == (1, "")
    assert stderr.splitlines()[-1] == (
        "slimnets: error: A worker was killed by signal 9: finished shards are kept; run the same command again for "
        "the rest."
    )
    # One of the two could not clean up.
    assert len([name for name in names(output) if name.endswith(".incomplete")]) <= 1
    features(output, "--workers", 2)
    assert names(output) == ["manifest.json", "run.json", *(shard(i, 23) for i in range(23))]
    output = merged(output, capfd)
    assert (output / "index.csv").read_bytes() == (whole / "index.csv").read_bytes()


def test_what_another_process_is_making_stays(tmp_path):
    """A lock that a killed process left beside a job of several shards is no claim of the whole folder."""
    output = tmp_path / "out"
    output.mkdir()
    (output / "manifest.json").touch()
    (tmp_path / ".out.lock").touch()
    (output / ".shard-00000-of-00002.aaaaaaaa.incomplete").mkdir()
    with claimed(output / shard(1, 2)) as ours:
        assert ours
        living = output / ".shard-00001-of-00002.bbbbbbbb.incomplete"
        living.mkdir()
        remove_leftovers(output)
        assert names(output) == [living.name, ".shard-00001-of-00002.lock", "manifest.json"]
    remove_leftovers(output)
    assert names(output) == ["manifest.json"]
