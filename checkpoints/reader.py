"""One view of a checkpoint, whatever its format: names, shapes, dtypes and values of what is stored.

V1 is the single file of the published slim weights; V2 is a bundle, ``.index`` and ``.data-?????-of-?????``.
"""

import hashlib
import re
from pathlib import Path
from typing import NoReturn

import numpy as np
import tensorflow as tf

__all__ = ["CheckpointError", "CheckpointReader", "open_checkpoint"]

# Both formats are sorted string tables (LevelDB's), which end in this magic number.
_TABLE_MAGIC = bytes.fromhex("57fb808b247547db")

# What TensorFlow's reader raises for a broken file; IndexError where the data end too soon.
_READ_ERRORS = (tf.errors.OpError, IndexError, RuntimeError, ValueError)

_PART_OF_BUNDLE = re.compile(r"\.(index|meta|data-\d{5}-of-\d{5})$")

_PATTERN = set("*?[]\\")

_OTHER_FORMATS = (
    (b"\x1f\x8b", "a gzip archive: unpack it (tar -xzf) and give the .ckpt file inside"),
    (b"PK\x03\x04", "a zip archive: unpack it and give the checkpoint inside"),
    (b"BZh", "a bzip2 archive: unpack it and give the checkpoint inside"),
    (b"\x89HDF\r\n\x1a\n", "an HDF5 file (Keras weights), which is no TensorFlow checkpoint"),
)


class CheckpointError(ValueError):
    """A file that is no checkpoint, or a damaged one; the message says which, and what to do."""


class CheckpointReader:
    """A checkpoint that is open for reading.

    path: as it was given.
    prefix: what TensorFlow calls it: the V1 file, or the V2 files' common name.
    format: 'V1' or 'V2'.
    shapes: from the stored names to their shapes, in the order of the names.
    dtypes: from the stored names to their dtypes.
    """

    def __init__(self, path: str | Path, prefix: Path, format: str) -> None:
        self.path = Path(path)
        self.prefix = prefix
        self.format = format
        try:
            # Not tf.train.load_checkpoint, which would take a folder of that name for the checkpoint.
            self._reader = tf.compat.v1.train.NewCheckpointReader(str(prefix))
            shapes = self._reader.get_variable_to_shape_map()
            dtypes = self._reader.get_variable_to_dtype_map()
        except _READ_ERRORS as error:
            self._fail(error)
        self.shapes: dict[str, tuple[int, ...]] = {name: tuple(shapes[name]) for name in sorted(shapes)}
        self.dtypes: dict[str, tf.DType] = {name: dtypes[name] for name in self.shapes}

    def read(self, name: str) -> np.ndarray:
        """The stored value of that name.

        Raises:
          KeyError: if nothing has that name.
          CheckpointError: if the file is damaged there.
        """
        if name not in self.shapes:
            raise KeyError(name)
        try:
            return self._reader.get_tensor(name)
        except _READ_ERRORS as error:
            self._fail(error)

    def files(self) -> list[Path]:
        """The files that hold the values."""
        if self.format == "V1":
            return [self.prefix]
        return [Path(f"{self.prefix}.index"), *_data_files(self.prefix)]

    def sha256(self) -> dict[str, str]:
        """From the names of the files to their sha256, in hexadecimal."""
        digests = {}
        for file in self.files():
            with file.open("rb") as stream:
                digests[file.name] = hashlib.file_digest(stream, "sha256").hexdigest()
        return digests

    def _fail(self, error: Exception) -> NoReturn:
        reason = str(getattr(error, "message", None) or error).splitlines()[0]
        raise CheckpointError(f"{self.path} is damaged or cut short ({reason}): fetch or copy it again.") from error


def _data_files(prefix: Path) -> list[Path]:
    pattern = re.compile(re.escape(prefix.name) + r"\.data-\d{5}-of-\d{5}")
    return sorted(file for file in prefix.parent.iterdir() if pattern.fullmatch(file.name))


def open_checkpoint(path: str | Path) -> CheckpointReader:
    """Opens a checkpoint.

    Args:
      path: a V1 file; a V2 bundle's common name, or one of its files; or a folder with a ``checkpoint`` file or
        with one checkpoint in it.

    Raises:
      CheckpointError: if there is no checkpoint, or it is damaged.
    """
    given = Path(path)
    if given.is_dir():
        return _open_file(path, _in_directory(given))
    return _open_file(path, given)


def _in_directory(folder: Path) -> Path:
    try:
        latest = tf.train.latest_checkpoint(str(folder))
    except (tf.errors.OpError, ValueError) as error:
        raise CheckpointError(
            f"The file 'checkpoint' in {folder} cannot be read: give the checkpoint itself."
        ) from error
    if latest is not None:
        return Path(latest)
    bundles = sorted(folder.glob("*.index"))
    files = bundles or sorted(folder.glob("*.ckpt"))
    if len(files) == 1:
        return files[0]
    if not files:
        raise CheckpointError(f"The folder {folder} holds no checkpoint: no 'checkpoint', *.index or *.ckpt file.")
    names = ", ".join(file.name.removesuffix(".index") for file in files)
    raise CheckpointError(f"The folder {folder} holds several checkpoints: give one of {names}.")


def _open_file(path: str | Path, given: Path) -> CheckpointReader:
    if _PATTERN & set(str(given)):
        raise CheckpointError(
            f"{path} has one of *?[]\\ in it, which TensorFlow takes for a pattern: rename or move it."
        )
    prefix = given.with_name(_PART_OF_BUNDLE.sub("", given.name))
    index = Path(f"{prefix}.index")
    if index.is_file():
        _check_bundle(path, prefix, index)
        return CheckpointReader(path, prefix, "V2")
    if prefix != given or (given.parent.is_dir() and _data_files(given)):
        raise CheckpointError(f"{path} is part of a checkpoint whose file {index.name} is missing: copy it along.")
    if not given.exists():
        raise CheckpointError(f"There is no checkpoint at {path}: neither that file nor {index.name} exists.")
    _check_table(path, given)
    return CheckpointReader(path, given, "V1")


def _check_bundle(path: str | Path, prefix: Path, index: Path) -> None:
    _check_table(path, index)
    present = _data_files(prefix)
    count = int(present[0].name[-5:]) if present else 1
    expected = [Path(f"{prefix}.data-{i:05d}-of-{count:05d}") for i in range(count)]
    if missing := [file.name for file in expected if file not in present]:
        raise CheckpointError(f"The checkpoint {path} lacks its file {missing[0]}: copy it along.")


def _check_table(path: str | Path, file: Path) -> None:
    """Raises CheckpointError, saying what the file is instead, if it does not end as a checkpoint does."""
    with file.open("rb") as stream:
        head = stream.read(512)
        size = stream.seek(0, 2)
        stream.seek(max(size - len(_TABLE_MAGIC), 0))
        if stream.read() == _TABLE_MAGIC:
            return
    if size == 0:
        raise CheckpointError(f"{path} is empty ({file.name} has 0 bytes): fetch or copy it again.")
    for magic, description in _OTHER_FORMATS:
        if head.startswith(magic):
            raise CheckpointError(f"{path} is {description}.")
    if _is_text(head):
        raise CheckpointError(f"{path} is a text file, and no checkpoint: give the .ckpt file or the .index file.")
    raise CheckpointError(f"{path} is no checkpoint, or one cut short ({size:,} bytes): fetch or copy it again.")


def _is_text(head: bytes) -> bool:
    try:
        text = head.decode("utf-8", errors="strict") if len(head) < 512 else head.decode("utf-8", errors="ignore")
    except UnicodeDecodeError:
        return False
    return all(character.isprintable() or character.isspace() for character in text)
