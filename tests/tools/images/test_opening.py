"""Tests which inputs are images: recognized by content, followed through links, and counted if skipped."""

import bz2
import csv
import gzip
import io
import lzma
import os
import subprocess
import tarfile
import time
from pathlib import Path

import pytest
import tensorflow as tf
from PIL import Image

from tools.errors import ImageError, InputError
from tools.images import decode, open_inputs
from tools.images.sources.files import ImageFiles


def encoded(form, colour="red"):
    stream = io.BytesIO()
    Image.new("RGB", (6, 5), colour).save(stream, form)
    return stream.getvalue()


PNG = encoded("PNG")


def write(folder, *names, content=PNG):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)


def found(folder, **patterns):
    """Returns names relative to a folder, and what was skipped."""
    inputs = open_inputs([folder], **patterns)
    names = [inputs.name(i).removeprefix(f"{folder}/") for i in range(len(inputs))]
    return names, dict(inputs.skipped)


def test_links_to_folders_and_files(tmp_path):
    """Follows class folders that are links; loops through one link or two end."""
    write(tmp_path, "data/cats/1.png", "data/dogs/2.png", "other/3.png")
    (root := tmp_path / "classes").mkdir()
    (root / "cat").symlink_to(tmp_path / "data" / "cats")
    (root / "dog").symlink_to("../data/dogs")
    (root / "4.png").symlink_to(tmp_path / "other" / "3.png")
    assert found(root) == (["4.png", "cat/1.png", "dog/2.png"], {})
    (root / "again").symlink_to(root)
    (root / "self").symlink_to("self")
    (root / "gone.png").symlink_to("nowhere.png")
    (tmp_path / "data" / "cats" / "up").symlink_to(tmp_path)
    names, skipped = found(root)
    # By hand: up/ is not above classes/cat, but up/classes and up/data/cats are.
    assert names == ["4.png", "cat/1.png", "cat/up/data/dogs/2.png", "cat/up/other/3.png", "dog/2.png"]
    assert skipped == {"links that lead back to a folder above": 3, "links that lead nowhere": 2}


def test_a_link_to_a_folder_as_the_input(tmp_path):
    write(tmp_path, "data/1.png")
    (tmp_path / "link").symlink_to("data")
    assert found(tmp_path / "link") == (["1.png"], {})


def test_what_is_a_system_s(tmp_path):
    """Skips macOS's notes on files, thumbnails of NAS and Windows, and hidden files; takes an input that is hidden."""
    write(tmp_path, "a.png", "sub/b.png")
    system = ["._a.png", "__MACOSX/a.png", "@eaDir/a.png/SYNOPHOTO_THUMB_S.jpg", ".thumbnails/x.png", ".hidden.png"]
    write(tmp_path, *system, "Thumbs.db", ".DS_Store", "sub/desktop.ini")
    assert found(tmp_path) == (["a.png", "sub/b.png"], {"hidden or system files": 8})
    assert found(tmp_path / ".thumbnails") == (["x.png"], {})


def test_images_are_told_by_content(tmp_path):
    """Names do not matter; a file that is called an image but is not one fails."""
    kinds = {"BMP": "a.dat", "GIF": "b", "JPEG": "c.JPG_large", "PNG": "d.txt", "TIFF": "e.img", "WEBP": "f.bin"}
    for form, name in kinds.items():
        write(tmp_path, name, content=encoded(form))
    write(tmp_path, "notes.txt", "LICENSE", "x.json", content=b"{}")
    write(tmp_path, "g.jpg", content=b"no image")
    names, skipped = found(tmp_path)
    assert (names, skipped) == ([*kinds.values(), "g.jpg"], {"files that are not images": 3})
    inputs = open_inputs([tmp_path])
    assert all(decode(inputs.read(i).data).shape == (5, 6, 3) for i in range(6))


def test_postscript_is_never_an_image(tmp_path):
    """PostScript is a program, which Pillow would run by Ghostscript."""
    drawing = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\nshowpage\n"
    write(tmp_path, "a.eps", "b.ps", "c", content=drawing)
    write(tmp_path, "d.png", content=drawing)
    names, skipped = found(tmp_path)
    assert (names, skipped) == (["d.png"], {"files that are not images": 3})
    with pytest.raises(ImageError, match="not an image of a known format"):
        decode(open_inputs([tmp_path]).read(0).data)


def test_containers_in_a_folder_are_counted(tmp_path):
    write(tmp_path, "a.png")
    write(tmp_path, "x.tar", "y.tar.gz", "train-00000-of-00002", "z.tfrecord", content=b"x")
    assert found(tmp_path)[1] == {"tar archives and TFRecord files in a folder, to be named themselves": 4}


def test_pipes_are_not_waited_for(tmp_path):
    write(tmp_path, "a.png")
    os.mkfifo(tmp_path / "b.png")
    assert found(tmp_path) == (["a.png"], {"pipes, sockets and devices": 1})


def test_patterns(tmp_path):
    write(tmp_path, "train/a.png", "train/b.jpg", "val/a.png", "val/c_mask.png")
    left = {"images that a pattern leaves out": 2}
    assert found(tmp_path, include=["*.png"], exclude=["*_mask.*"]) == (["train/a.png", "val/a.png"], left)
    assert found(tmp_path, include=["train/*"]) == (["train/a.png", "train/b.jpg"], left)
    assert found(tmp_path, exclude=["a.png"]) == (["train/b.jpg", "val/c_mask.png"], left)
    for patterns in ({"include": ["*.gif"]}, {"exclude": ["nothing*"]}):
        with pytest.raises(InputError, match=r"The pattern '(\*\.gif|nothing\*)' matches no image"):
            open_inputs([tmp_path], **patterns)


def test_patterns_apply_to_lists_and_single_files(tmp_path):
    write(tmp_path, "a.png", "b.png")
    (tmp_path / "list.txt").write_text(f"{tmp_path}/a.png\n{tmp_path}/b.png\n")
    for given in ([f"@{tmp_path}/list.txt"], [tmp_path / "a.png", tmp_path / "b.png"]):
        inputs = open_inputs(given, exclude=["b.png"])
        assert [inputs.name(i) for i in range(len(inputs))] == [f"{tmp_path}/a.png"]


def add(archive, name, content=None, kind=tarfile.REGTYPE, target="", mtime=0):
    member = tarfile.TarInfo(name)
    member.type, member.linkname, member.size, member.mtime = kind, target, len(content or b""), mtime
    archive.addfile(member, io.BytesIO(content) if content is not None else None)


def test_links_in_a_tar(tmp_path):
    """Tests second names of hard links, links to links, links to later members, and labels that are links."""
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        add(archive, "x/1.png", encoded("PNG", "red"))
        add(archive, "x/1.cls", b"3")
        add(archive, "y/2.png", kind=tarfile.LNKTYPE, target="x/1.png")
        add(archive, "y/2.cls", kind=tarfile.LNKTYPE, target="x/1.cls")
        add(archive, "x/3.png", kind=tarfile.SYMTYPE, target="../y/2.png")
        add(archive, "x/4.png", kind=tarfile.SYMTYPE, target="blob")
        add(archive, "x/blob", encoded("PNG", "blue"))
        add(archive, "x/5.png", kind=tarfile.SYMTYPE, target="gone.png")
        add(archive, "x/6.png", kind=tarfile.SYMTYPE, target="7.png")
        add(archive, "x/7.png", kind=tarfile.SYMTYPE, target="6.png")
        add(archive, "x/._1.png", b"notes")
        add(archive, "__MACOSX/x/1.png", b"notes")
    inputs = open_inputs([tmp_path / "a.tar"])
    images = [inputs.read(i) for i in range(len(inputs))]
    assert [(image.name.partition("a.tar/")[2], image.label) for image in images] == [
        ("x/1.png", "3"),
        ("y/2.png", "3"),
        ("x/3.png", ""),
        ("x/4.png", ""),
        ("x/blob", ""),
    ]
    assert [tuple(decode(image.data)[0, 0]) for image in images] == [(255, 0, 0)] * 3 + [(0, 0, 255)] * 2
    assert dict(inputs.skipped) == {"hidden or system files": 2, "links that lead nowhere": 3}


def test_a_tar_of_hard_links_as_tar_writes_it(tmp_path):
    """Tests GNU tar's archive of a folder in which two names are one file."""
    write(tmp_path, "in/1.png")
    (tmp_path / "in" / "2.png").hardlink_to(tmp_path / "in" / "1.png")
    subprocess.run(["tar", "-cf", tmp_path / "a.tar", "-C", tmp_path / "in", "."], check=True)
    inputs = open_inputs([tmp_path / "a.tar"])
    assert [inputs.read(i).data for i in range(len(inputs))] == [PNG, PNG]


@pytest.mark.parametrize("name", ["a.tar", "a.tar.gz", "a.tgz", "a"])
@pytest.mark.parametrize("compress", [gzip.compress, bz2.compress, lzma.compress])
def test_compressed_tars(tmp_path, name, compress):
    """Compression is recognized by content, not by name."""
    with tarfile.open(tmp_path / "plain", "w") as archive:
        add(archive, "1.png", PNG)
        add(archive, "1.cls", b"5")
    content = compress((tmp_path / "plain").read_bytes())
    (tmp_path / name).write_bytes(content)
    image = open_inputs([tmp_path / name]).read(0)
    assert (image.name, image.label, image.data) == (f"{tmp_path / name}/1.png", "5", PNG)
    (tmp_path / name).write_bytes(content[:-12])
    with pytest.raises(InputError, match="is cut short or damaged"):
        open_inputs([tmp_path / name])


def test_a_tar_that_is_called_otherwise(tmp_path):
    for name in ("a.tfrecord", "a.jpg", "b-00000-of-00001"):
        with tarfile.open(tmp_path / name, "w") as archive:
            add(archive, "1.png", PNG)
        assert open_inputs([tmp_path / name]).read(0).data == PNG


@pytest.mark.parametrize("name", ["a.tfrecord.gz", "a.tfrecord", "train-00000-of-00001"])
def test_compressed_records(tmp_path, name):
    """Reads records that TensorFlow itself compressed."""
    example = tf.train.Example()
    example.features.feature["image/encoded"].bytes_list.value.append(PNG)
    with tf.io.TFRecordWriter(str(tmp_path / name), "GZIP") as writer:
        writer.write(example.SerializeToString())
    assert open_inputs([tmp_path / name]).read(0).data == PNG


def test_what_was_unpacked_vanishes(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with tarfile.open(tmp_path / "a.tar", "w:gz") as archive:
        add(archive, "1.png", PNG)
    inputs = open_inputs([tmp_path / "a.tar"])
    assert len(list(tmp_path.glob("slimnets-*"))) == 1
    del inputs
    assert not list(tmp_path.glob("slimnets-*"))


def test_no_room_to_unpack(tmp_path, monkeypatch):
    with tarfile.open(tmp_path / "a.tar", "w:gz") as archive:
        add(archive, "1.png", PNG)
    monkeypatch.setattr("tempfile.tempdir", "/dev/full/none")
    with pytest.raises(InputError, match="is compressed, and cannot be unpacked into /dev/full/none"):
        open_inputs([tmp_path / "a.tar"])


def test_a_file_larger_than_any_image(tmp_path):
    """The file is not read: a disk image called .png would take all memory."""
    with (tmp_path / "a.png").open("wb") as stream:
        stream.truncate(3 << 30)
    with pytest.raises(ImageError, match="its 3,221,225,472 bytes are more than any image has"):
        open_inputs([tmp_path]).read(0)


def test_a_stamp_is_trusted_once_it_is_old(tmp_path):
    """A new file may be written again within the same tick of its clock."""
    write(tmp_path, "a.png")
    files = ImageFiles([str(tmp_path / "a.png")])
    assert files.stamp(0) != files.stamp(0)
    time.sleep(2.1)
    assert files.stamp(0) == files.stamp(0)


def test_what_was_skipped_is_said_once(tmp_path, tiny_checkpoint, capfd):
    from tools.cli import main

    write(tmp_path / "in", "a.png", "._a.png", ".b")
    write(tmp_path / "in", "notes.txt", content=b"text")
    command = ["features", str(tmp_path / "in"), "--checkpoint", str(tiny_checkpoint), "--end-points", "global_pool"]
    assert main([*command, "--output", str(tmp_path / "out")]) == 0
    assert capfd.readouterr().err.count("skipped: 2 hidden or system files, 1 files that are not images\n") == 1
    assert main(["classify", str(tmp_path / "in"), "--checkpoint", str(tiny_checkpoint)]) == 0
    assert "skipped: 2 hidden or system files" in capfd.readouterr().err


@pytest.mark.parametrize("name", [b"\xff\xfe.png", b"caf\xe9.png", b"a\xf0\x9f\x98.png"])
def test_the_index_is_utf8_whatever_the_names(tmp_path, tiny_checkpoint, name):
    """The index is strict UTF-8, as pandas and DuckDB read it; in Python the name is that of the file."""
    from tools.cli import main
    from tools.features import load

    (folder := tmp_path / "in").mkdir()
    Path(os.fsdecode(os.fsencode(folder) + b"/" + name)).write_bytes(PNG)
    (folder / r"literal\xff.png").write_bytes(PNG)
    command = ["features", str(folder), "--checkpoint", str(tiny_checkpoint), "--end-points", "global_pool"]
    assert main([*command, "--output", str(tmp_path / "out")]) == 0
    text = (tmp_path / "out" / "index.csv").read_bytes().decode("utf-8", errors="strict")
    assert len(list(csv.DictReader(io.StringIO(text)))) == 2
    names = {os.fsencode(row.path).rpartition(b"/")[2] for row in load(tmp_path / "out").index}
    assert names == {name, rb"literal\xff.png"}
