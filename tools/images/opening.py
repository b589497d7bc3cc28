"""Opens the inputs that a user names as images in a fixed order."""

import itertools
import re
from array import array
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from tools.errors import InputError
from tools.images.formats import HEAD_BYTES, IMAGE_SUFFIXES
from tools.images.inputs import EncodedImage, Inputs, Stamp
from tools.images.sources import storage
from tools.images.sources.compressed import is_compressed, unpacked
from tools.images.sources.files import ImageFiles
from tools.images.sources.folders import find_local, find_remote, folder_prefix
from tools.images.sources.records import is_record_file, is_record_header
from tools.images.sources.selection import Selection, is_image

__all__ = ["open_inputs"]

_IMAGE, _TAR, _TFRECORD, _COMPRESSED = "image", "tar", "tfrecord", "compressed"

# slim names the files of its data sets train-00000-of-01024, without a suffix.
_TFRECORD_NAME = re.compile(r"\.tfrecords?$|-\d{5}-of-\d{5}$")
_COMPRESSED_NAME = re.compile(r"\.(tar|tfrecords?)\.(gz|bz2|xz)$|\.(tgz|tbz2?|txz)$")

# First bytes of other containers, which are refused.
_OTHERS = (
    (b"PK\x03\x04", "a zip archive"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive"),
    (b"Rar!\x1a\x07", "a rar archive"),
    (b"\x28\xb5\x2f\xfd", "compressed with zstd"),
    (b"%PDF-", "a PDF document"),
)


def open_inputs(inputs: Iterable[str | Path], *, include: Sequence[str] = (), exclude: Sequence[str] = ()) -> Inputs:
    """Opens the images of all inputs, in the order of the inputs. Images of a folder are sorted by path.

    Args:
      inputs: image files; folders, which are searched recursively, following links; TFRecord files with slim's
        features; tar archives in webdataset's convention; and ``@list.txt``, a text file with one file a line.
        TFRecord files and archives may be compressed as a whole. Inputs may be addresses that fsspec knows, such as
        ``s3://bucket/folder``.
      include, exclude: patterns of the images' names, as for ``Selection``.

    Raises:
      InputError: if an input does not exist or cannot be read, a pattern matches nothing, or there are no images.
    """
    given = [str(one) for one in inputs]
    selection = Selection(include, exclude)
    try:
        parts = _parts(given, selection)
    except OSError as error:
        raise InputError(f"{error.filename or 'An input'} cannot be read ({error.strerror or error}).") from None
    selection.check_patterns()
    if not any(map(len, parts)):
        raise InputError(
            f"No images found in {', '.join(given)}{selection.besides}: give images, folders with some, TFRecord "
            "files, tar archives, or @list.txt."
        )
    return parts[0] if len(parts) == 1 else _Chain(parts, selection.skipped)


def _parts(given: Iterable[str], selection: Selection) -> list[Inputs]:
    parts: list[Inputs] = []
    listed: dict[str, Stamp] = {}
    found = itertools.chain.from_iterable(_files(one, selection, listed) for one in given)
    for kind, files in itertools.groupby(found, key=lambda file: file[1]):
        addresses, roots = [], array("i")
        for address, _, root in files:
            addresses.append(address)
            roots.append(root)
        if kind == _IMAGE:
            parts.append(ImageFiles(addresses, listed, selection.skipped, roots))
        else:
            parts.extend(_container(address, kind, selection) for address in addresses)
    return parts


def _container(address: str, kind: str, selection: Selection) -> Inputs:
    from tools.images.sources.tar import TarArchive

    plain = None
    if kind == _COMPRESSED:
        plain = unpacked(address)
        kind = _TFRECORD if plain is not None and is_record_file(plain.name) else _TAR
    if kind == _TAR:
        return TarArchive(address, selection, plain)
    if selection.has_patterns:
        raise InputError(
            f"{address} is a TFRecord file, whose images have no names for patterns to match: omit the patterns."
        )
    from tools.images.sources.tfrecord import TFRecordFile  # imports TensorFlow

    return TFRecordFile(address, plain)


def _files(given: str, selection: Selection, listed: dict[str, Stamp]) -> Iterator[tuple[str, str, int]]:
    """Yields the files of an input, with the kind of each, and the length of the searched folder's name in its address.

    The length is -1 if no folder was searched. Adds the stamps of remote listings to ``listed``.
    """
    if given.startswith("@"):
        found = _of_list(Path(given[1:]))
    elif storage.is_folder(given):
        if storage.is_remote(given):
            for address, root, stamp in find_remote(given, selection):
                listed[address] = stamp
                yield address, _IMAGE, root
        else:
            root = len(folder_prefix(given))
            yield from ((path, _IMAGE, root) for path in find_local(given, selection))
        return
    elif storage.exists(given):
        found = iter([(given, _kind(given))])
    else:
        raise InputError(f"There is no file or folder {given}: give image files, folders, or @list.txt.")
    for address, kind in found:
        if kind != _IMAGE or selection.matches(address, address):
            yield address, kind, -1


def _of_list(file: Path) -> Iterator[tuple[str, str]]:
    # Only local files without the suffix of an image are opened, because a list may have millions.
    schemes = set()
    for address in _listed(file):
        remote = storage.is_remote(address)
        if remote and (scheme := address.partition("://")[0]) not in schemes:
            schemes.add(scheme)
            storage.check_scheme(address)
        known = remote or storage.suffix(address) in IMAGE_SUFFIXES
        yield address, _kind_by_name(address) if known else _kind(address)


def _kind(address: str) -> str:
    """Returns the kind of a file, by its first bytes, or by its name if these do not tell.

    Raises:
      InputError: if it is a container that cannot be opened.
    """
    try:
        head = storage.read_bytes(address, 0, HEAD_BYTES)
    except OSError:  # an unreadable file counts as an image that failed
        return _kind_by_name(address)
    if is_image(head):
        return _IMAGE
    if is_compressed(head):
        return _COMPRESSED
    if head[257:262] == b"ustar":
        return _TAR
    if is_record_header(head):
        return _TFRECORD
    if storage.suffix(address) not in IMAGE_SUFFIXES:
        for magic, what in _OTHERS:
            if head.startswith(magic):
                raise InputError(f"{address} is {what}: unpack it, and give the folder with its images.")
    return _kind_by_name(address)


def _kind_by_name(address: str) -> str:
    if _COMPRESSED_NAME.search(address):
        return _COMPRESSED
    if _TFRECORD_NAME.search(address):
        return _TFRECORD
    return _TAR if storage.suffix(address) == ".tar" else _IMAGE


def _listed(file: Path) -> list[str]:
    try:
        lines = file.read_text(encoding="utf-8-sig").splitlines()  # editors on Windows write a byte order mark
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"The list {file} cannot be read ({error}): give a text file with one path a line.") from None
    return [line.strip() for line in lines if line.strip()]


class _Chain:
    """Several inputs as one, in order."""

    def __init__(self, parts: Sequence[Inputs], skipped: Mapping[str, int]) -> None:
        self._parts = parts
        self.skipped = skipped
        self._ends = list(itertools.accumulate(map(len, parts)))

    def __len__(self) -> int:
        return self._ends[-1]

    def name(self, i: int) -> str:
        part, i = self._at(i)
        return part.name(i)

    def label(self, i: int) -> str:
        part, i = self._at(i)
        return part.label(i)

    def read(self, i: int) -> EncodedImage:
        part, i = self._at(i)
        return part.read(i)

    def stamp(self, i: int) -> Stamp | None:
        part, i = self._at(i)
        return part.stamp(i)

    def _at(self, i: int) -> tuple[Inputs, int]:
        number = bisect_right(self._ends, i)
        part = self._parts[number]
        return part, i - (self._ends[number] - len(part))
