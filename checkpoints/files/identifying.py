"""Tells from its content, not from its name, what a file is that is no checkpoint, and what to do about it."""

import io
import json
import re
import shlex
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from google.protobuf.message import DecodeError
from tensorflow.core.framework import node_def_pb2

__all__ = ["FROZEN_GRAPH", "SAVED_MODEL", "SLIM_LAYER", "FileFormat", "identify", "identify_folder", "read_varint"]

# The formats of graphs that may have weights, for ``FileFormat.opens``.
FROZEN_GRAPH, SAVED_MODEL = "frozen graph", "SavedModel"

# Number of bytes read from the beginning of a file; a tar header has 512.
_HEAD = 4096


class FileFormat(NamedTuple):
    """The format of a file that is no checkpoint.

    name: name of the format, with its article.
    kind: 'archive', 'other format', 'error page', 'text', 'empty' or 'truncated'.
    advice: what to do, a clause in the imperative.
    weights: kind of weights, one of ``frameworks.read.KINDS``; None if it cannot be converted.
    opens: format of the ``CheckpointReader`` that opens it if it has weights, a graph's; None for anything else.
    """

    name: str
    kind: str
    advice: str
    weights: str | None = None
    opens: str | None = None


def _other(name: str, advice: str) -> FileFormat:
    return FileFormat(name, "other format", advice)


def _weights(name: str, weights: str) -> FileFormat:
    return FileFormat(name, "other format", _CONVERT, weights)


def _graph(name: str, advice: str, opens: str) -> FileFormat:
    return FileFormat(name, "other format", advice, opens=opens)


def _archive(name: str, command: str) -> FileFormat:
    return FileFormat(name, "archive", f"unpack it ({command}) and give the checkpoint inside")


_SAVE_WEIGHTS = "no weights of slim's names are inside: take the checkpoint it was made from"
_FETCH_AGAIN = "fetch or copy it again"

_IN_BINARY_FORM = (
    "take the checkpoint it was made from, or, if the graph is frozen, parse it by google.protobuf.text_format, write "
    "its SerializeToString() to a file, and give that"
)

_CONVERT = "make a checkpoint of it by `slimnets convert`"

# The beginning of a layer's name in a Keras model that slimnets exported, which ``slimnets convert`` does not read, and
# the largest number of bytes of a configuration to look for one.
SLIM_LAYER = r"(block\d+_unit_\d+_|unit_\d+_\d+_sub\d_|conv\d_conv\d_\d|(\w+_)?mixed_\d[a-z]_branch_\d_)"
_EXPORTED = re.compile(rf'"name": "{SLIM_LAYER}'.encode())
_LARGEST_CONFIG = 20_000_000

_GZIP = b"\x1f\x8b"

# Binary formats that begin with bytes of their own.
_MAGIC = (
    (b"\x89HDF\r\n\x1a\n", _weights("an HDF5 file (Keras weights or model)", "keras")),
    (b"\x93NUMPY", _other("a NumPy array (.npy)", "save the variables by tf.compat.v1.train.Saver instead")),
    (b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19", _weights("a PyTorch file", "torch")),
    (b"\x89PNG\r\n\x1a\n", _other("a PNG image", "give a checkpoint here, and images as inputs")),
    (b"\xff\xd8\xff", _other("a JPEG image", "give a checkpoint here, and images as inputs")),
    (b"\x00\x05\x16\x07", _other("macOS's notes on a file (AppleDouble)", "give the file of that name without ._")),
    (b"MATLAB 5.0 MAT-file", _other("a MATLAB file", "take slim's own checkpoint")),
    (b"GGUF", _other("a GGUF file", "take slim's own checkpoint")),
    (b"BZh", _archive("a bzip2 archive", "tar -xjf, or bunzip2")),
    (b"\xfd7zXZ\x00", _archive("an xz archive", "tar -xJf, or unxz")),
    (b"\x28\xb5\x2f\xfd", _archive("a zstd archive", "tar --zstd -xf, or unzstd")),
    (b"7z\xbc\xaf\x27\x1c", _archive("a 7z archive", "7z x")),
    (b"Rar!\x1a\x07", _archive("a rar archive", "unrar x")),
)


def identify(file: Path) -> FileFormat:
    """Tells what a file that is no checkpoint is instead.

    Raises:
      OSError: if it cannot be read.
    """
    size = file.stat().st_size
    if size == 0:
        return FileFormat("empty (0 bytes)", "empty", _FETCH_AGAIN)
    with file.open("rb") as stream:
        head = stream.read(_HEAD)
    for recognize in _RECOGNIZERS:
        if found := recognize(file, head, size):
            return found
    return FileFormat(f"no checkpoint, or one cut short ({size:,} bytes)", "truncated", _FETCH_AGAIN)


def identify_folder(folder: Path) -> FileFormat | None:
    """Tells what a folder without a checkpoint holds instead; returns None if that is unknown."""
    names = {entry.name for entry in folder.iterdir()}
    if any(".tempstate" in name or "_temp" in name for name in names):
        return FileFormat("a folder with an unfinished save", "truncated", "take an earlier checkpoint, or save again")
    if archives := sorted(name for name in names if name.endswith((".tar.gz", ".tgz", ".tar", ".zip"))):
        return FileFormat(
            f"a folder that holds no checkpoint, but the archive {archives[0]}", "archive", "unpack that first"
        )
    for suffixes, name in (
        ((".h5", ".keras"), "Keras"),
        ((".pth", ".pt", ".bin"), "PyTorch"),
        ((".safetensors",), "safetensors"),
    ):
        if found := sorted(file for file in names if file.endswith(suffixes)):
            return _other(f"a folder that holds no checkpoint, but the {name} file {found[0]}", _CONVERT)
    if graphs := sorted(file for file in names if file.endswith(".pb")):
        return _other(f"a folder that holds no checkpoint, but the graph {graphs[0]}", "give that file")
    for inner in sorted(entry for entry in folder.iterdir() if entry.is_dir()):
        if any(file.suffix in (".index", ".ckpt") or file.name.startswith("saved_model.") for file in inner.iterdir()):
            return _other("a folder that holds no checkpoint itself", f"give {inner}, which is in it")
    return None


def _by_magic(file: Path, head: bytes, size: int) -> FileFormat | None:
    return next((found for magic, found in _MAGIC if head.startswith(magic)), None)


def _gzip(file: Path, head: bytes, size: int) -> FileFormat | None:
    if not head.startswith(_GZIP):
        return None
    try:
        with tarfile.open(file, "r|gz") as archive:
            first = archive.next()
    except (tarfile.TarError, OSError, EOFError):
        return _archive("a gzip file", f"gunzip -c {shlex.quote(file.name)} > {shlex.quote(file.stem)}.unpacked")
    inside = f", which begins with {first.name}" if first else ""
    return _archive(f"a tar.gz archive that was not unpacked{inside}", f"tar -xzf {shlex.quote(file.name)}")


def _tar(file: Path, head: bytes, size: int) -> FileFormat | None:
    return _archive("a tar archive", f"tar -xf {shlex.quote(file.name)}") if head[257:262] == b"ustar" else None


def _zip(file: Path, head: bytes, size: int) -> FileFormat | None:
    if not head.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        return None
    try:
        with zipfile.ZipFile(file) as archive:
            names = archive.namelist()
            is_keras = "config.json" in names and any(name.endswith(".weights.h5") for name in names)
            with archive.open("config.json") if is_keras else io.BytesIO() as config:
                is_exported = bool(_EXPORTED.search(config.read(_LARGEST_CONFIG)))
    except (zipfile.BadZipFile, OSError, EOFError, NotImplementedError, RuntimeError, zlib.error):
        return FileFormat("a zip archive cut short or damaged", "truncated", _FETCH_AGAIN)
    if is_exported:
        return _other("a Keras model that slimnets exported", "give the checkpoint that it was made from")
    if is_keras:
        return _weights("a Keras model (.keras)", "keras")
    if any(name.endswith("/data.pkl") for name in names):
        return _weights("a PyTorch file", "torch")
    if names and all(name.endswith(".npy") for name in names):
        return _weights("a NumPy archive (.npz)", "npz")
    return _archive("a zip archive", f"unzip {shlex.quote(file.name)}")


def _safetensors(file: Path, head: bytes, size: int) -> FileFormat | None:
    # The file begins with the length of a JSON header, followed by the header.
    if len(head) < 10 or not 2 <= struct.unpack("<Q", head[:8])[0] <= 100_000_000 or not head[8:].startswith(b'{"'):
        return None
    return _weights("a safetensors file", "safetensors")


def _pickle(file: Path, head: bytes, size: int) -> FileFormat | None:
    # Protocols 2 to 5; the last byte is the opcode STOP.
    if head[0] != 0x80 or head[1:2] not in (b"\x02", b"\x03", b"\x04", b"\x05"):
        return None
    with file.open("rb") as stream:
        stream.seek(size - 1)
        if stream.read() != b".":
            return None
    return _other("a Python pickle, which is not opened, since it could run anything", "take slim's own checkpoint")


def _zeros(file: Path, head: bytes, size: int) -> FileFormat | None:
    if head.strip(b"\x00"):
        return None
    return FileFormat(f"nothing but zero bytes at its beginning ({size:,} bytes)", "truncated", _FETCH_AGAIN)


def _records(file: Path, head: bytes, size: int) -> FileFormat | None:
    """Recognizes TFRecord: the length of the first record and its checksum, then a protocol buffer."""
    if b"brain.Event:" in head[:64]:
        return _other("a TensorBoard log", "give the checkpoint that was saved beside it")
    if size < 17 or head[12] != 0x0A:
        return None
    length = struct.unpack("<Q", head[:8])[0]
    if size == length + 16 or size > length + 32:
        return _other("a file of records (TFRecord), such as training data", "give the checkpoint itself")
    return None


def _flatbuffer(file: Path, head: bytes, size: int) -> FileFormat | None:
    return _other("a TensorFlow Lite model", _SAVE_WEIGHTS) if head[4:8] == b"TFL3" else None


def _protocol_buffer(file: Path, head: bytes, size: int) -> FileFormat | None:
    if head.startswith((b"\x08\x01\x12", b"\x08\x01\x0a")):
        return _graph("a SavedModel's saved_model.pb", "give the folder it is in", SAVED_MODEL)
    # ONNX begins with the version of its format, followed by the producer's name or the graph.
    if head[0] == 0x08 and head[1:2] and 3 <= head[1] <= 20 and head[2:3] in (b"\x12", b"\x3a"):
        return _other("an ONNX model", "take the checkpoint it was made from")
    if head[0] != 0x0A:
        return None
    length, start = read_varint(head, 1)
    message = head[start : start + length]
    if head[start : start + 1] == b"\x0a" and _is_node(message):
        name = "a graph (GraphDef), frozen or without weights"
        return _graph(name, "take the checkpoint it was made from", FROZEN_GRAPH)
    # A MetaGraphDef begins with the list of operations that the graph uses.
    if head[start : start + 1] == b"\x12":
        return _other("a graph (MetaGraphDef), which has no weights", "copy the .index and .data files along")
    return None


def read_varint(data: bytes, start: int) -> tuple[int, int]:
    """Returns (value, position after it) of an integer of variable length; (0, start) if there is none."""
    value = 0
    for place in range(start, min(start + 10, len(data))):
        value |= (data[place] & 0x7F) << 7 * (place - start)
        if data[place] < 0x80:
            return value, place + 1
    return 0, start


def _is_node(message: bytes) -> bool:
    # Only two fields are parsed: the first node may be a constant that is longer than what was read.
    name_length, start = read_varint(message, 1)
    name = message[start : start + name_length]
    op_length, op_start = read_varint(message, start + name_length + 1)
    try:
        node = node_def_pb2.NodeDef.FromString(message[: op_start + op_length])
    except DecodeError:
        return False
    return bool(node.name and node.op) and (node.name + node.op).isprintable() and node.name == name.decode()


def _beginning_of_table(file: Path, head: bytes, size: int) -> FileFormat | None:
    """Recognizes the beginning of a checkpoint that is cut short: an empty key and a protocol buffer."""
    if not head.startswith(b"\x00\x00"):
        return None
    _, start = read_varint(head, 2)
    what = {b"\x08": "the .index file of a V2 checkpoint", b"\x0a": "a V1 checkpoint"}.get(head[start : start + 1])
    if what is None:
        return None
    return FileFormat(
        f"{what} that does not end as one, cut short or changed ({size:,} bytes)", "truncated", _FETCH_AGAIN
    )


_PAGES = (b"<!doctype html", b"<html", b"<head", b"<body")


def _text(file: Path, head: bytes, size: int) -> FileFormat | None:
    text = _decoded(head)
    if text is None:
        return None
    start = text.lstrip("\ufeff \t\r\n").lower()
    again = "if a server sent it in place of the file, fetch the file from where it is still hosted"
    if start.encode().startswith(_PAGES) or "<html" in start[:1000]:
        return FileFormat("an HTML page", "error page", again)
    if start.startswith("<?xml") or start.startswith("<error"):
        return FileFormat("an XML document, such as an error message", "error page", again)
    if start.startswith("version https://git-lfs.github.com/spec/"):
        return FileFormat("a Git LFS pointer and not the file itself", "error page", "run `git lfs pull`")
    if "model_checkpoint_path:" in start:
        return FileFormat("the text file that names checkpoints", "text", f"give its folder, {file.parent}")
    if start.startswith(("node {", "node{", "meta_info_def {", "saved_model_schema_version:")):
        return _other("a graph in text form (.pbtxt)", _IN_BINARY_FORM)
    if start.startswith(("{", "[")) and _is_json(file, head, size):
        return FileFormat("a JSON document, such as an error message", "error page", again)
    return FileFormat("a text file", "text", "give what was saved by a tf.train.Saver, its .ckpt or .index file")


def _decoded(head: bytes) -> str | None:
    """Returns the beginning of a file as text; None if it is not text."""
    encoding = "utf-16" if head.startswith((b"\xff\xfe", b"\xfe\xff")) else "utf-8"
    try:
        # The bytes that were read may end inside a character.
        text = head.decode(encoding, errors="strict" if len(head) < _HEAD else "ignore")
    except UnicodeDecodeError:
        return None
    if len(head) == _HEAD and len(text.encode(encoding)) < _HEAD - 4:
        return None
    return text if all(character.isprintable() or character.isspace() for character in text.lstrip("\ufeff")) else None


def _is_json(file: Path, head: bytes, size: int) -> bool:
    if size > _HEAD:
        return re.match(r"\{\s*\"", head.decode("utf-8", errors="ignore").lstrip("\ufeff \t\r\n")) is not None
    try:
        json.loads(head)
    except ValueError:
        return False
    return True


_RECOGNIZERS: tuple[Callable[[Path, bytes, int], FileFormat | None], ...] = (
    _by_magic,
    _beginning_of_table,
    _gzip,
    _zip,
    _tar,
    _safetensors,
    _records,
    _zeros,
    _pickle,
    _flatbuffer,
    _text,
    _protocol_buffer,
)
