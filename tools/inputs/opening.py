"""From what a user names to pictures in a fixed order."""

import contextlib
import itertools
import re
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from tools.images import IMAGE_SUFFIXES
from tools.inputs import InputError, Inputs, Picture, storage
from tools.inputs.files import PictureFiles

__all__ = ["open_inputs"]

_PICTURE, _TAR, _TFRECORD = "picture", "tar", "tfrecord"

# slim's data sets are called train-00000-of-01024, with no suffix.
_TFRECORD_NAME = re.compile(r"\.tfrecords?$|-\d{5}-of-\d{5}$")
_COMPRESSED_TAR = re.compile(r"\.(tar\.\w+|tgz|tbz2?|txz)$")


def open_inputs(inputs: Iterable[str | Path]) -> Inputs:
    """The pictures that inputs stand for, in the order of the inputs; those of a folder sorted by path.

    Args:
      inputs: image files; folders, searched recursively for files with an image's suffix; TFRecord files with slim's
        features; tar archives in webdataset's convention; and ``@list.txt``, a text file with one of the files a
        line. Each may also be an address of a file system that fsspec knows, such as ``s3://bucket/folder``.

    Raises:
      InputError: if an input does not exist or cannot be read, or there are no images at all.
    """
    given = [str(one) for one in inputs]
    try:
        parts = _parts(given)
    except OSError as error:
        raise InputError(f"{error.filename or 'An input'} cannot be read ({error.strerror or error}).") from None
    if not any(map(len, parts)):
        suffixes = ", ".join(sorted(IMAGE_SUFFIXES))
        raise InputError(f"No images found in {', '.join(given)}: looked for files that end in {suffixes}.")
    return parts[0] if len(parts) == 1 else _Chain(parts)


def _parts(given: Iterable[str]) -> list[Inputs]:
    found = itertools.chain.from_iterable(map(_files, given))
    parts: list[Inputs] = []
    for kind, files in itertools.groupby(found, key=lambda file: file[1]):
        addresses = [address for address, _ in files]
        if kind == _PICTURE:
            parts.append(PictureFiles(addresses))
        elif kind == _TAR:
            from tools.inputs.archives import TarArchive

            parts.extend(map(TarArchive, addresses))
        else:
            from tools.inputs.records import TFRecordFile

            parts.extend(map(TFRecordFile, addresses))
    return parts


def _files(given: str) -> Iterator[tuple[str, str]]:
    """The files that an input stands for, each with what it holds."""
    if given.startswith("@"):
        # Not looked into: a list may be of millions.
        schemes = set()
        for address in _listed(Path(given[1:])):
            if storage.is_remote(address) and (scheme := address.partition("://")[0]) not in schemes:
                schemes.add(scheme)
                storage.check_scheme(address)
            yield address, _kind_by_name(address)
    elif storage.is_folder(given):
        for address in storage.find(given, IMAGE_SUFFIXES):
            yield address, _PICTURE
    elif storage.exists(given):
        yield given, _kind(given)
    else:
        raise InputError(f"There is no file or folder {given}: give image files, folders, or @list.txt.")


def _kind(address: str) -> str:
    """What a file holds, by its first bytes where the name does not tell."""
    kind = _kind_by_name(address)
    if kind == _PICTURE and storage.suffix(address) not in IMAGE_SUFFIXES:
        from tools.inputs.records import is_record_file

        # A file that cannot be read is a picture that failed.
        with contextlib.suppress(OSError):
            if is_record_file(address):
                return _TFRECORD
    return kind


def _kind_by_name(address: str) -> str:
    if _COMPRESSED_TAR.search(address):
        raise InputError(f"{address} is compressed, and no member can be found in it: unpack it to a .tar first.")
    if _TFRECORD_NAME.search(address):
        return _TFRECORD
    return _TAR if storage.suffix(address) == ".tar" else _PICTURE


def _listed(file: Path) -> list[str]:
    try:
        lines = file.read_text(encoding="utf-8-sig").splitlines()  # Windows' editors put a byte order mark first
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"The list {file} cannot be read ({error}): give a text file with one path a line.") from None
    return [line.strip() for line in lines if line.strip()]


class _Chain:
    """Inputs one after the other."""

    def __init__(self, parts: Sequence[Inputs]) -> None:
        self._parts = parts
        self._ends = list(itertools.accumulate(map(len, parts)))

    def __len__(self) -> int:
        return self._ends[-1]

    def name(self, i: int) -> str:
        part, i = self._at(i)
        return part.name(i)

    def read(self, i: int) -> Picture:
        part, i = self._at(i)
        return part.read(i)

    def identity(self) -> Iterator[str]:
        return itertools.chain.from_iterable(part.identity() for part in self._parts)

    def _at(self, i: int) -> tuple[Inputs, int]:
        number = bisect_right(self._ends, i)
        part = self._parts[number]
        return part, i - (self._ends[number] - len(part))
