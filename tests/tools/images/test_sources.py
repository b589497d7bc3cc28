"""Tests images from files, TFRecord files and tar archives, local and remote.

TensorFlow, Python's tarfile and fsspec write the containers; damage is done by hand.
"""

import gzip
import io
import os
import sys
import tarfile

import fsspec
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from tools.errors import ImageError, InputError
from tools.images import decode, open_inputs
from tools.images.inputs import digest
from tools.images.sources import storage
from tools.images.sources.records import RecordFile, RecordWriter


def png(seed):
    """Returns the bytes of a small image."""
    stream = io.BytesIO()
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (5, 6 + seed, 3), np.uint8)).save(stream, "PNG")
    return stream.getvalue()


def example(**features):
    """Returns an Example of slim's features; names have two underscores for slashes."""
    made = tf.train.Example()
    for name, value in features.items():
        feature = made.features.feature[name.replace("__", "/")]
        (feature.int64_list if isinstance(value, int) else feature.bytes_list).value.append(value)
    return made.SerializeToString()


def write_records(path, examples):
    with tf.io.TFRecordWriter(str(path)) as writer:
        for one in examples:
            writer.write(one)
    return path


def write_tar(path, members, mode="w"):
    with tarfile.open(path, mode) as archive:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path


def pictures(inputs):
    """Returns name, label and pixels of all images."""
    return [(p.name, p.label, decode(p.data).tolist()) for p in (inputs.read(i) for i in range(len(inputs)))]


def pixels(seed):
    return decode(png(seed)).tolist()


FOUR = [
    example(image__encoded=png(i), image__format=b"png", image__class__label=7 * i, image__filename=b"f%d.png" % i)
    for i in range(4)
]


@pytest.mark.parametrize("name", ["flowers.tfrecord", "train-00000-of-00002", "no_suffix"])
def test_records(tmp_path, name):
    """Reads slim's record files, which have no suffix and are recognized by their first bytes."""
    inputs = open_inputs([write_records(tmp_path / name, FOUR)])
    assert pictures(inputs) == [(f"f{i}.png", str(7 * i), pixels(i)) for i in range(4)]
    assert inputs.name(2) == f"{tmp_path / name}[2]"


def test_records_without_names_and_labels(tmp_path):
    path = write_records(tmp_path / "a.tfrecord", [example(image__encoded=png(0))])
    assert pictures(open_inputs([path])) == [(f"{path}[0]", "", pixels(0))]


def test_a_list_of_records_and_files(tmp_path):
    """Images keep the order of the list."""
    (tmp_path / "a.png").write_bytes(png(9))
    write_records(tmp_path / "train-00000-of-00001", FOUR)
    listed = tmp_path / "list.txt"
    listed.write_text(f"{tmp_path}/a.png\n{tmp_path}/train-00000-of-00001\n{tmp_path}/gone.png\n{tmp_path}/a.png\n")
    inputs = open_inputs([f"@{listed}"])
    names = [f"{tmp_path}/a.png", *(f"{tmp_path}/train-00000-of-00001[{i}]" for i in range(4))]
    assert [inputs.name(i) for i in range(len(inputs))] == [*names, f"{tmp_path}/gone.png", f"{tmp_path}/a.png"]
    assert inputs.read(3).name == "f2.png"
    assert inputs.read(6).data == png(9)


def test_a_corrupt_record_is_one_picture(tmp_path):
    """The records beside it do not change."""
    path = write_records(tmp_path / "a.tfrecord", FOUR)
    content = bytearray(path.read_bytes())
    content[content.index(FOUR[1]) + 50] ^= 1
    path.write_bytes(content)
    inputs = open_inputs([path])
    with pytest.raises(ImageError, match="the record is damaged: its checksum is of other data"):
        inputs.read(1)
    assert [inputs.read(i).name for i in (0, 2, 3)] == ["f0.png", "f2.png", "f3.png"]


def test_records_that_are_other_things(tmp_path):
    path = write_records(tmp_path / "a.tfrecord", [FOUR[0], example(text=b"no picture"), b"\xff\xff"])
    inputs = open_inputs([path])
    with pytest.raises(ImageError, match="the record has no feature image/encoded"):
        inputs.read(1)
    with pytest.raises(ImageError, match="the record is no Example"):
        inputs.read(2)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda content: content[:-1], r"a\.tfrecord is cut short after 3 records: fetch or write it again"),
        (lambda content: content + b"12345", r"is cut short after 4 records, at byte \d+: fetch"),
        (lambda content: content + bytes(range(40)), "is damaged after 4 records"),
        (lambda content: b"\x01" + content[1:], "is not a TFRecord file: it does not begin with a record's length"),
        (lambda content: gzip.compress(content)[:-20], "is cut short or damaged"),
        (lambda content: b"", "No images found in"),
    ],
)
def test_damaged_record_files(tmp_path, change, sentence):
    path = write_records(tmp_path / "a.tfrecord", FOUR)
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(InputError, match=sentence):
        open_inputs([path])


def test_records_with_other_features(tmp_path):
    path = write_records(tmp_path / "a.tfrecord", [example(text=b"a", image=b"b")])
    with pytest.raises(InputError, match="have no feature image/encoded, but image, text: give other files"):
        open_inputs([path])


def test_records_written_here_are_tensorflow_s(tmp_path):
    with RecordWriter(tmp_path / "ours") as writer:
        for one in (b"", b"abc", *FOUR):
            writer.write(one)
    write_records(tmp_path / "theirs", [b"", b"abc", *FOUR])
    assert (tmp_path / "ours").read_bytes() == (tmp_path / "theirs").read_bytes()
    records = RecordFile(str(tmp_path / "ours"))
    assert [records.read(i) for i in range(len(records))] == [b"", b"abc", *FOUR]


TAR = {
    "a/0001.jpg": png(1),
    "a/0001.cls": b"17\n",
    "a/0001.json": b"{}",
    "a/0002.v1.PNG": png(2),
    "0003.cls": b"dog",
    "0003.png": png(3),
    "readme.txt": b"hello",
}


def test_tar(tmp_path):
    """Follows webdataset's convention: files with the same name up to the first dot are one sample, in any order."""
    path = write_tar(tmp_path / "a.tar", TAR)
    assert pictures(open_inputs([path])) == [
        (f"{path}/a/0001.jpg", "17", pixels(1)),
        (f"{path}/a/0002.v1.PNG", "", pixels(2)),
        (f"{path}/0003.png", "dog", pixels(3)),
    ]


@pytest.mark.parametrize("left", [0.3, 0.6, 0.9])
def test_a_tar_cut_short(tmp_path, left):
    path = write_tar(tmp_path / "a.tar", TAR)
    content = path.read_bytes()
    # GNU tar ends with at least two blocks of zeros, filled up to twenty blocks.
    end = len(content.rstrip(b"\0")) // 512 * 512 + 512
    path.write_bytes(content[: int(left * end)])
    with pytest.raises(InputError, match="cut short"):
        open_inputs([path])
    path.write_bytes(content[:end])
    with pytest.raises(InputError, match="is cut short or damaged after 7 files: fetch or write it again"):
        open_inputs([path])


def test_a_tar_with_a_damaged_header(tmp_path):
    """Python's tarfile silently ends there."""
    path = write_tar(tmp_path / "a.tar", TAR)
    content = bytearray(path.read_bytes())
    content[content.index(b"0003.png") + 1] ^= 1
    path.write_bytes(content)
    with pytest.raises(InputError, match="is cut short or damaged after 5 files: fetch or write it again"):
        open_inputs([path])


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("a.tar", b"no archive", "is not a tar archive, or cut short"),
        ("a.tar.gz", b"", "is not a tar archive, or cut short"),
        ("a.tgz", b"\x1f\x8b no gzip", "is cut short or damaged"),
        ("a.tar.zst", b"\x28\xb5\x2f\xfd", "is compressed with zstd: unpack it, and give the folder with its images"),
        ("a.tar", b"PK\x03\x04", "is a zip archive: unpack it"),
    ],
)
def test_files_that_are_no_tar(tmp_path, name, content, sentence):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=sentence):
        open_inputs([tmp_path / name])


def test_a_tar_without_images(tmp_path):
    with pytest.raises(InputError, match=r"No images found in .*a\.tar \(skipped files that are not images: 1\): "):
        open_inputs([write_tar(tmp_path / "a.tar", {"a.txt": b"text"})])


@pytest.fixture
def remote(tmp_path):
    """Returns the address of a folder in fsspec's own file system in memory."""
    files = fsspec.filesystem("memory")
    write_tar(tmp_path / "a.tar", TAR)
    write_records(tmp_path / "b.tfrecord", FOUR)
    contents = {f"p/{i}.png": png(i) for i in (2, 1)} | {"p/notes.txt": b"hello"}
    contents |= {name: (tmp_path / name).read_bytes() for name in ("a.tar", "b.tfrecord")}
    for name, content in contents.items():
        files.pipe(f"/data/{name}", content)
    yield "memory://data"
    files.rm("/data", recursive=True)


def test_remote_inputs(remote):
    inputs = open_inputs([f"{remote}/p", f"{remote}/a.tar", f"{remote}/b.tfrecord"])
    assert pictures(inputs) == [
        ("memory:///data/p/1.png", "", pixels(1)),
        ("memory:///data/p/2.png", "", pixels(2)),
        (f"{remote}/a.tar/a/0001.jpg", "17", pixels(1)),
        (f"{remote}/a.tar/a/0002.v1.PNG", "", pixels(2)),
        (f"{remote}/a.tar/0003.png", "dog", pixels(3)),
        *((f"f{i}.png", str(7 * i), pixels(i)) for i in range(4)),
    ]


def test_a_remote_file_that_is_not_there(remote, tmp_path):
    with pytest.raises(InputError, match=f"There is no file or folder {remote}/gone"):
        open_inputs([f"{remote}/gone"])
    (tmp_path / "list.txt").write_text(f"{remote}/gone.png\n")
    with pytest.raises(ImageError, match="there is no such file"):
        open_inputs([f"@{tmp_path}/list.txt"]).read(0)


def test_addresses_that_cannot_be(monkeypatch):
    with pytest.raises(InputError, match="nothere://x cannot be opened: Protocol not known: nothere"):
        open_inputs(["nothere://x"])
    monkeypatch.setitem(sys.modules, "s3fs", None)
    with pytest.raises(InputError, match="s3://bucket/x cannot be opened: Install s3fs"):
        open_inputs(["s3://bucket/x"])
    monkeypatch.setitem(sys.modules, "fsspec.core", None)
    with pytest.raises(InputError, match=r"s3://bucket/x requires fsspec: pip install 'slimnets\[remote\]'"):
        open_inputs(["s3://bucket/x"])


def test_digest_tells_inputs_apart(tmp_path):
    """The digest covers names and order of files, and numbers of records."""
    for name in "ab":
        (tmp_path / f"{name}.png").write_bytes(png(0))
    a, b = tmp_path / "a.png", tmp_path / "b.png"
    three = write_records(tmp_path / "c.tfrecord", FOUR[:3])
    digests = [digest(open_inputs(inputs)) for inputs in ([a, b], [b, a], [a], [a, three])]
    write_records(three, FOUR)
    digests.append(digest(open_inputs([a, three])))
    assert len(set(digests)) == 5
    assert digest(open_inputs([tmp_path / "a.png", tmp_path / "b.png"])) == digests[0]


def test_a_file_that_cannot_be_looked_into_is_a_picture(tmp_path, monkeypatch):
    """Such a file counts as a failed image, and does not end the run before it begins."""

    def refuse(*arguments):
        raise PermissionError(13, "Permission denied")

    (tmp_path / "secret").write_bytes(b"")
    monkeypatch.setattr(storage, "read_bytes", refuse)
    inputs = open_inputs([tmp_path / "secret"])
    assert (len(inputs), inputs.name(0)) == (1, os.fspath(tmp_path / "secret"))


class UnwillingError(Exception):
    """An error like aiohttp's for a server's answer."""

    def __init__(self, status):
        super().__init__(f"status {status}")
        self.status = status


@pytest.mark.parametrize(("status", "raised"), [(403, ImageError), (503, InputError), (None, InputError)])
def test_a_server_that_does_not_give_a_picture(remote, monkeypatch, tmp_path, status, raised):
    """An image that the server refuses has failed; a server in trouble ends the run, which can be continued."""
    inputs = open_inputs([f"{remote}/p"])
    files = fsspec.filesystem("memory")

    def fail(*arguments, **options):
        raise UnwillingError(status)

    monkeypatch.setattr(type(files), "cat_file", fail)
    with pytest.raises(raised, match=f"status {status}"):
        inputs.read(0)


def test_a_list_of_a_scheme_that_is_not_there(tmp_path):
    (tmp_path / "list.txt").write_text("nothere://a.png\nnothere://b.png\n")
    with pytest.raises(InputError, match=r"nothere://a\.png cannot be opened: Protocol not known: nothere"):
        open_inputs([f"@{tmp_path}/list.txt"])


def test_trouble_with_inputs_ends_the_batches(tiny_checkpoint, remote, monkeypatch):
    """The error is the message itself, not TensorFlow's wrapping of it."""
    from tools.features import FeatureExtractor

    inputs = open_inputs([f"{remote}/p"])

    def fail(*arguments, **options):
        raise UnwillingError(503)

    monkeypatch.setattr(type(fsspec.filesystem("memory")), "cat_file", fail)
    with FeatureExtractor(tiny_checkpoint, ["global_pool"]) as extractor:
        with pytest.raises(InputError, match=r"\d\.png cannot be opened: status 503"):
            list(extractor.batches(inputs))
        monkeypatch.undo()
        assert extractor(inputs)["global_pool"].shape == (2, 512)
