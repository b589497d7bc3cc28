"""Tests updates after images were changed, added or removed, against a fresh run, row by row."""

import io
import json
import os
import shutil
import subprocess
import tarfile
import time
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from tools.cli import main
from tools.features import load
from tools.features.shard_images import IMAGES, read_images

COUNT, BATCH = 60, 4
# The features at these two end points do not depend on the images before them.
END_POINTS = ["global_pool", "block2"]


def png(seed):
    stream = io.BytesIO()
    pixels = np.random.default_rng(seed).integers(0, 256, (20 + seed % 7, 30, 3), np.uint8)
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()


@pytest.fixture
def folder(tmp_path):
    """Returns a folder of images, two of which are broken; like most images, they are older than two seconds."""
    folder = tmp_path / "images"
    folder.mkdir()
    for i in range(COUNT):
        (folder / f"{2 * i:03d}.png").write_bytes(png(i))
    (folder / "034.png").write_bytes(b"")
    (folder / "100.png").write_bytes(png(50)[:100])
    return folder


@pytest.fixture
def features(tiny_checkpoint, capfd, folder):
    """Returns a function from an output and options to exit status, stdout and stderr of ``slimnets features``."""

    def run(output, *options, inputs=None):
        capfd.readouterr()
        given = ["features", inputs or folder, "--checkpoint", tiny_checkpoint, "--end-points", ",".join(END_POINTS)]
        status = main([str(one) for one in (*given, "--batch-size", BATCH, "--output", output, *options)])
        return status, *capfd.readouterr()

    return run


def rows_of(output):
    """Maps the images' names to everything in their rows except the row's number."""
    loaded = load(output)
    arrays = [np.asarray(loaded.arrays[name]) for name in END_POINTS]
    assert [row.row for row in loaded.index] == list(range(len(arrays[0])))
    return {
        row.path: (row[2:], *(array[number].tobytes() for array in arrays)) for number, row in enumerate(loaded.index)
    }


def shard(i, count):
    return f"shard-{i:05d}-of-{count:05d}"


def made(output):
    """Maps the shards to something that changes if they are made again."""
    return {path.parent.name: path.stat().st_ino for path in sorted(output.glob("shard-*/shard.json"))}


def changed(folder):
    """Changes three images of shards 0 and 3, repairs the two broken ones, and adds five among the others."""
    for name in ("000", "002", "090"):
        (folder / f"{name}.png").write_bytes(png(1000 + int(name)))
    (folder / "034.png").write_bytes(png(2))
    (folder / "100.png").write_bytes(png(3))
    for name in ("001", "055", "057", "120", "121"):
        (folder / f"{name}.png").write_bytes(png(2000 + int(name)))


@pytest.mark.parametrize(
    ("form", "shards"),
    [
        ("npy", 1),
        ("parquet", 5),
        *(
            pytest.param(*each, marks=pytest.mark.full)
            for each in (("npy", 5), ("parquet", 1), ("tfrecord", 1), ("tfrecord", 5))
        ),
    ],
)
def test_update_equals_a_fresh_run(features, folder, tmp_path, form, shards):
    """Three are changed, two repaired, five new. By hand: 15 batches in 5 shards are 12 images each."""
    options = ["--format", form, "--shards", shards]
    assert features(tmp_path / "out", *options)[0] == 1  # two have failed
    before = made(tmp_path / "out")
    changed(folder)
    status, stdout, stderr = features(tmp_path / "out", *options, "--update")
    assert (status, stdout) == (0, f"65 images done, 0 failed: {tmp_path / 'out'}\n")
    assert "10 images in " in stderr  # only these are computed
    if shards == 5:
        # 000 and 002 are in the first, 034 in the second, 090 in the fourth, 100 in the fifth.
        after = made(tmp_path / "out")
        assert [name for name in before if before[name] != after[name]] == [shard(i, 5) for i in (0, 1, 3, 4)]
        assert after.keys() - before.keys() == {"shard-00005-added"}
    features(tmp_path / "fresh", *options)
    assert rows_of(tmp_path / "out") == rows_of(tmp_path / "fresh")
    # Nothing is left to do, with or without the option; in one piece the result is the same.
    for again in ([], ["--update"]):
        status, stdout, stderr = features(tmp_path / "out", *options, *again)
        assert (status, stdout) == (0, f"65 images done, 0 failed: {tmp_path / 'out'}\n")
        assert "resumed from 65 images that were done before" in stderr
    if shards == 5:
        assert main(["merge", str(tmp_path / "out"), "--output", str(tmp_path / "merged")]) == 0
        assert rows_of(tmp_path / "merged") == rows_of(tmp_path / "fresh")
        assert features(tmp_path / "merged", *options[:2], "--shards", 1)[0] == 0


@pytest.mark.parametrize("shards", [pytest.param(1, marks=pytest.mark.full), 5])
def test_changed_images_are_refused(features, folder, tmp_path, shards):
    """Nothing is written in this case."""
    features(tmp_path / "out", "--shards", shards)
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*")}
    for name in ("000", "002", "090"):
        (folder / f"{name}.png").write_bytes(png(1000))
    status, stdout, stderr = features(tmp_path / "out", "--shards", shards)
    names = ", ".join(f"{folder}/{name}.png" for name in ("000", "002", "090"))
    assert (status, stdout) == (1, "")
    assert f"error: 3 images have changed since the features in {tmp_path}/out were made ({names}): give --update" in (
        stderr
    )
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*")} == before
    assert features(tmp_path / "out", "--overwrite", "--shards", shards)[1].startswith("58 images done, 2 failed")


def test_the_same_size_and_an_old_time_do_not_hide_a_change(features, folder, tmp_path):
    """Times are set back as by `cp -p`, and BMP files of one image size have equally many bytes."""
    (path := folder / "zzz.bmp").write_bytes(b"")
    for colour in ("red", "green"):
        Image.new("RGB", (8, 8), colour).save(path)
        os.utime(path, ns=(10**18, 10**18))
        if colour == "red":
            features(tmp_path / "out")
    assert "1 image has changed since" in features(tmp_path / "out")[2]


@pytest.mark.parametrize("shards", [pytest.param(1, marks=pytest.mark.full), 5])
def test_a_new_time_is_no_change(features, folder, tmp_path, shards):
    features(tmp_path / "out", "--shards", shards)
    for path in folder.iterdir():
        os.utime(path)
    shutil.copy(folder / "000.png", tmp_path / "copy.png")
    (tmp_path / "copy.png").replace(folder / "000.png")
    for options in ([], ["--overwrite", "--shards", shards]):
        assert "58 images done, 2 failed" in features(tmp_path / "out", *options)[1]


def test_failed_images_are_made_again_on_request(features, folder, tmp_path):
    """Failed images stay as they are without the option, as long as their files do not change."""
    features(tmp_path / "out", "--shards", 5)
    before = made(tmp_path / "out")
    assert "resumed from 60 images" in features(tmp_path / "out")[2]
    assert made(tmp_path / "out") == before
    assert "2 images in " in features(tmp_path / "out", "--update")[2]
    (folder / "034.png").write_bytes(png(2))
    assert (
        f"1 image has changed since the features in {tmp_path}/out were made ({folder}/034.png)"
        in (features(tmp_path / "out")[2])
    )
    assert features(tmp_path / "out", "--update")[1].startswith("59 images done, 1 failed")


@pytest.mark.parametrize("shards", [pytest.param(1, marks=pytest.mark.full), 5])
def test_removed_images(features, folder, tmp_path, shards):
    """Their rows disappear, and the rest equals a fresh run, even for a shard that keeps no image."""
    features(tmp_path / "out", "--shards", shards)
    for i in (*range(12, 24), 3, 59):
        (folder / f"{2 * i:03d}.png").unlink()
    status, _, stderr = features(tmp_path / "out", "--shards", shards)
    assert status == 1
    assert "the number of images is 46 and was 60" in stderr
    assert "or --overwrite; --update takes in new, changed and removed images." in stderr
    assert features(tmp_path / "out", "--shards", shards, "--update")[1].startswith("45 images done, 1 failed")
    features(tmp_path / "fresh", "--shards", shards)
    assert rows_of(tmp_path / "out") == rows_of(tmp_path / "fresh")


def test_update_of_an_unfinished_job(features, folder, tmp_path):
    """Unfinished shards take images without a place; a second update puts new images in the last shard with room."""
    for index in (0, 3):
        features(tmp_path / "out", "--shards", 5, "--shard-index", index)
    changed(folder)
    features(tmp_path / "out", "--update")
    features(tmp_path / "fresh")
    assert rows_of(tmp_path / "out") == rows_of(tmp_path / "fresh")
    (folder / "900.png").write_bytes(png(900))
    assert "1 images in " in features(tmp_path / "out", "--update")[2]
    assert len(made(tmp_path / "out")) == 6
    features(tmp_path / "fresh", "--overwrite")
    assert rows_of(tmp_path / "out") == rows_of(tmp_path / "fresh")


def test_update_with_workers(features, folder, tmp_path):
    features(tmp_path / "out", "--shards", 5)
    changed(folder)
    assert features(tmp_path / "out", "--update", "--workers", 2)[1].startswith("65 images done, 0 failed")
    features(tmp_path / "fresh", "--threads", 1)
    assert rows_of(tmp_path / "out") == rows_of(tmp_path / "fresh")


@pytest.mark.full
def test_update_with_workers_that_freeze(features, tmp_path):
    """Workers freeze the weights from 1,000 images on, and the parent process does not."""
    many = tmp_path / "many"
    many.mkdir()
    for i in range(1000):
        Image.new("RGB", (8, 8), (i % 256, i // 256, 7)).save(many / f"{i:04d}.png", compress_level=1)
    features(tmp_path / "out", "--shards", 5, inputs=many)
    Image.new("RGB", (8, 8), "red").save(many / "0700.png")
    before = made(tmp_path / "out")
    assert "1 images in " in features(tmp_path / "out", "--update", "--workers", 2, inputs=many)[2]
    after = made(tmp_path / "out")
    assert [name for name in before if before[name] != after[name]] == [shard(3, 5)]


@pytest.mark.parametrize("shards", [pytest.param(1, marks=pytest.mark.full), 5])
def test_update_is_stopped_and_goes_on(features, folder, tmp_path, shards, monkeypatch):
    """Stops while a shard replaces its older version: whichever of the two exists, nothing is lost."""
    features(tmp_path / "out", "--shards", shards)
    changed(folder)
    rename = os.rename

    def stop(source, target, *rest, **more):
        if "incomplete" in str(source) and "replaced" not in str(target):
            raise KeyboardInterrupt
        return rename(source, target, *rest, **more)

    monkeypatch.setattr("os.rename", stop)
    assert features(tmp_path / "out", "--update")[0] == 1
    monkeypatch.undo()
    assert any(path.name.endswith(".replaced") for path in tmp_path.rglob(".*"))
    assert features(tmp_path / "out", "--update")[1].startswith("65 images done, 0 failed")
    features(tmp_path / "fresh", "--shards", shards)
    assert rows_of(tmp_path / "out") == rows_of(tmp_path / "fresh")
    assert not any(path.name.endswith((".replaced", ".incomplete")) for path in tmp_path.rglob(".*"))


@pytest.mark.filterwarnings("default:.*earlier version")
@pytest.mark.parametrize("shards", [pytest.param(1, marks=pytest.mark.full), 5])
def test_a_folder_of_an_earlier_version(features, folder, tmp_path, shards):
    """The folder is read, and continued with a notice; an update makes all of it again."""
    features(tmp_path / "out", "--shards", shards)
    for path in (tmp_path / "out").rglob(IMAGES):
        path.unlink()
    assert len(load(tmp_path / "out").index) == 60
    status, _, stderr = features(tmp_path / "out", "--shards", shards)
    assert status == 1
    assert (
        "did not record 60 of its images. Changes of these cannot be detected; --update computes them again" in stderr
    )
    changed(folder)
    assert "65 images in " in features(tmp_path / "out", "--update")[2]
    features(tmp_path / "fresh", "--shards", shards)
    assert rows_of(tmp_path / "out") == rows_of(tmp_path / "fresh")


def test_another_arithmetic_is_not_mixed(features, folder, tmp_path):
    """Fewer images than a batch are computed as a smaller batch, so one more image changes all rows' last bits."""
    few = tmp_path / "few"
    few.mkdir()
    for i in range(3):
        (few / f"{i}.png").write_bytes(png(i))
    features(tmp_path / "out", inputs=few)
    (few / "3.png").write_bytes(png(3))
    assert "4 images in " in features(tmp_path / "out", "--update", inputs=few)[2]
    features(tmp_path / "fresh", inputs=few)
    assert rows_of(tmp_path / "out") == rows_of(tmp_path / "fresh")


def write_tar(path, contents, label=b"7", mtime=1000):
    with tarfile.open(path, "w") as archive:
        for name, content in {**contents, "1.cls": label}.items():
            member = tarfile.TarInfo(name)
            member.size, member.mtime = len(content), mtime
            archive.addfile(member, io.BytesIO(content))


def test_tar_archives(features, tmp_path):
    """Members are compared: another image, another time, another class."""
    contents = {f"{i}.png": png(i) for i in range(8)}
    path = tmp_path / "a.tar"
    write_tar(path, contents)
    features(tmp_path / "out", inputs=path)
    write_tar(path, contents, mtime=2000)
    assert "resumed from 8 images" in features(tmp_path / "out", inputs=path)[2]
    write_tar(path, contents | {"3.png": png(30)}, label=b"8", mtime=2000)
    assert (
        f"2 images have changed since the features in {tmp_path}/out were made ({path}/1.png, {path}/3.png)"
        in (features(tmp_path / "out", inputs=path)[2])
    )
    assert "2 images in " in features(tmp_path / "out", "--update", inputs=path)[2]
    features(tmp_path / "fresh", inputs=path)
    assert rows_of(tmp_path / "out") == rows_of(tmp_path / "fresh")
    assert load(tmp_path / "out").index[1].label == "8"


def test_records(features, tmp_path):
    """The checksums in the file are compared."""

    def write(seeds):
        with tf.io.TFRecordWriter(str(tmp_path / "a.tfrecord")) as writer:
            for seed in seeds:
                example = tf.train.Example()
                example.features.feature["image/encoded"].bytes_list.value.append(png(seed))
                writer.write(example.SerializeToString())

    write(range(8))
    features(tmp_path / "out", inputs=tmp_path / "a.tfrecord")
    write([*range(5), 50, 6, 7, 8])
    stderr = features(tmp_path / "out", "--update", inputs=tmp_path / "a.tfrecord")[2]
    assert "7 images in the updated shards are unchanged: their rows were kept\n2 images in " in stderr
    features(tmp_path / "fresh", inputs=tmp_path / "a.tfrecord")
    assert rows_of(tmp_path / "out") == rows_of(tmp_path / "fresh")


def test_addresses(features, tmp_path):
    """The listing's information on the files is compared, or else their sizes."""
    fsspec = pytest.importorskip("fsspec")
    files = fsspec.filesystem("memory")
    for i in range(6):
        files.pipe(f"/updates/{i}.png", png(i))
    listed = tmp_path / "list.txt"
    listed.write_text("".join(f"memory://updates/{i}.png\n" for i in range(6)))
    for inputs in ("memory://updates", f"@{listed}"):
        output = tmp_path / inputs.strip("@/:").replace("/", "-")
        features(output, inputs=inputs)
        assert "resumed from 6 images" in features(output, inputs=inputs)[2]
        files.pipe("/updates/2.png", png(len(str(output))))
        assert "1 image has changed since" in features(output, inputs=inputs)[2]
        assert "1 images in " in features(output, "--update", inputs=inputs)[2]
    files.rm("/updates", recursive=True)


def test_what_is_recorded_is_the_file(features, folder, tmp_path):
    """Sizes and sums are those that the system's own tools report."""
    time.sleep(2.1)  # until a change would have another time
    features(tmp_path / "out")
    images = read_images(tmp_path / "out")
    assert images.names == sorted(map(str, folder.iterdir()))
    assert images.sizes.tolist() == [Path(name).stat().st_size for name in images.names]
    assert images.versions.tolist() == [Path(name).stat().st_ctime_ns for name in images.names]
    sums = subprocess.run(["sha256sum", *images.names], capture_output=True, text=True, check=True).stdout.split()[::2]
    assert [row.tobytes().hex() for row in images.sha256] == sums
    assert np.flatnonzero(images.failed).tolist() == [17, 50]


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--update", "--overwrite"], "--overwrite deletes what --update keeps: omit one of them"),
        (
            ["--update", "--shards", "5", "--shard-index", "1"],
            "--update itself finds the shards to make again: omit --shard-index",
        ),
        (["--update", "--pool", "mean"], "pool is mean and was none. Give the same settings"),
        (["--update", "--shards", "4"], "shards is 4 and was 5"),
    ],
)
def test_what_an_update_is_not(features, tmp_path, options, sentence):
    features(tmp_path / "out", "--shards", 5)
    run = (tmp_path / "out" / "run.json").read_text()
    status, stdout, stderr = features(tmp_path / "out", *options)
    assert (status, stdout) == (1, "")
    assert sentence in stderr
    assert (tmp_path / "out" / "run.json").read_text() == run
    assert json.loads(run)["counts"]["images"] == COUNT


def test_one_process_updates_one_piece(features, tmp_path):
    features(tmp_path / "out")
    stderr = features(tmp_path / "out", "--update", "--workers", 2)[2]
    assert "out has a single shard, which only one process can update: omit --workers and --distributor" in stderr


def test_an_update_of_nothing_is_a_first_run(features, tmp_path):
    assert features(tmp_path / "out", "--update")[1].startswith("58 images done, 2 failed")


@pytest.mark.full
def test_twenty_thousand_images(features, tmp_path):
    """Four of 20 shards contain the changes; the others are not touched."""
    many = tmp_path / "many"
    many.mkdir()
    generator = np.random.default_rng(0)
    for i in range(20_000):
        Image.fromarray(generator.integers(0, 256, (8, 8, 3), np.uint8)).save(many / f"{i:05d}.png", compress_level=1)
    for i in (7_000, 19_500):
        (many / f"{i:05d}.png").write_bytes(b"broken")
    assert features(tmp_path / "out", "--shards", 20, inputs=many)[0] == 1
    before = made(tmp_path / "out")
    for i in (0, 1, 12_345, 7_000, 19_500):  # three are changed, two are repaired
        Image.fromarray(generator.integers(0, 256, (8, 8, 3), np.uint8)).save(many / f"{i:05d}.png")
    for i in range(5):
        Image.fromarray(generator.integers(0, 256, (8, 8, 3), np.uint8)).save(many / f"{4_000 * i:05d}-new.png")
    status, stdout, stderr = features(tmp_path / "out", "--update", inputs=many)
    assert (status, stdout) == (0, f"20005 images done, 0 failed: {tmp_path / 'out'}\n")
    assert "10 images in " in stderr
    after = made(tmp_path / "out")
    # 20,000 images in 20 shards of 1,000. By hand, these are in 0, 7, 12 and 19.
    assert [name for name in before if before[name] != after[name]] == [shard(i, 20) for i in (0, 7, 12, 19)]
    assert sorted(after.keys() - before.keys()) == ["shard-00020-added"]
    assert features(tmp_path / "fresh", "--shards", 20, inputs=many)[0] == 0
    assert rows_of(tmp_path / "out") == rows_of(tmp_path / "fresh")


# Labels.


def test_labels_of_folders_stand_in_the_index(tmp_path, features):
    """Features that were made without labels are not made again: images are told by their names and bytes."""
    for name in ("cat/1.png", "dog/2.png", "3.png"):
        path = tmp_path / "classes" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(png(len(name)))
    assert features(tmp_path / "out", inputs=tmp_path / "classes")[0] == 0
    index = tmp_path / "out" / "index.csv"
    assert [line.rpartition(",")[2] for line in index.read_text().splitlines()] == ["label", "", "cat", "dog"]
    assert [row.label for row in load(tmp_path / "out").index] == ["", "cat", "dog"]
    index.write_text(index.read_text().replace(",cat\n", ",\n").replace(",dog\n", ",\n"))  # as earlier versions did
    before = index.read_bytes()
    for options in ([], ["--update"]):
        status, out, err = features(tmp_path / "out", *options, inputs=tmp_path / "classes")
        assert (status, out) == (0, f"3 images done, 0 failed: {tmp_path / 'out'}\n")
        assert "resumed from 3 images that were done before" in err
        assert index.read_bytes() == before
