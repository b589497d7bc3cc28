"""Reads images from tar archives in webdataset's convention.

Members whose names are equal up to the first dot belong together, such as ``0001.jpg`` and its class ``0001.cls``.
"""

import posixpath
import tarfile
import tempfile
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

import numpy as np

from tools.errors import ImageError, InputError
from tools.images.formats import HEAD_BYTES
from tools.images.inputs import EncodedImage, Stamp, version_of
from tools.images.sources import storage
from tools.images.sources.selection import Selection

__all__ = ["TarArchive"]

_LABEL = "cls"


class _Place(NamedTuple):
    """The position and size of a member's bytes, and the time of its last change in seconds."""

    start: int
    size: int
    changed: float


class TarArchive:
    """The images of a tar archive, in its order. A link to another member is that image under a second name.

    Args:
      address: of the archive.
      selection: decides on its members.
      plain: the file that it was unpacked to, if it is compressed.

    Raises:
      InputError: if it is not a tar archive, is cut short, or has no images.
    """

    def __init__(self, address: str, selection: Selection, plain: tempfile._TemporaryFileWrapper | None = None) -> None:
        self._address = address
        self._plain = plain  # deleted together with this object
        self._file = plain.name if plain else address
        self._selection = selection
        self._labels: dict[str, str] = {}
        self.skipped = selection.skipped
        try:
            with storage.open_file(self._file) as stream:
                found = self._images(stream)
        except tarfile.TarError as error:
            raise InputError(
                f"{address} is not a tar archive, or cut short ({error}): fetch or write it again."
            ) from None
        if not found:
            raise InputError(
                f"No images found in {address}{selection.besides}: no member has the name or the first bytes of one."
            )
        self._names = [name for name, _ in found]
        self._places = np.array([place[:2] for _, place in found], np.int64)
        self._changed = np.array([place.changed for _, place in found])

    def _images(self, stream: BinaryIO) -> list[tuple[str, _Place]]:
        """Returns names and places of the images, in the archive's order, and records the labels."""
        found: list[tuple[str, _Place | None]] = []
        links: dict[str, str] = {}
        for name, place, target in self._members(stream, self._selection):
            if target is not None:
                links[posixpath.normpath(name)] = target
                found.append((name, None))
            elif self._is_image(stream, name, place):
                found.append((name, place))
        if not links:
            return found
        # A second pass finds the targets of links. Keeping all members of the first pass would take too much memory.
        ends = {name: _end(name, links) for name in links}
        wanted = {*ends.values()}
        members = ((posixpath.normpath(name), place) for name, place, _ in self._members(stream, Selection()))
        places = {name: place for name, place in members if name in wanted and place is not None}
        for i, (name, place) in enumerate(found):
            if place is None and (target := places.get(ends[posixpath.normpath(name)])):
                found[i] = (name, target if self._is_image(stream, name, target) else None)
            elif place is None:
                self._selection.skip("links that lead nowhere")
        return [(name, place) for name, place in found if place is not None]

    def _members(self, stream: BinaryIO, selection: Selection) -> Iterator[tuple[str, _Place | None, str | None]]:
        """Yields members that may be images or labels: name, place, and the target's name for a link."""
        count = 0
        stream.seek(0)
        with tarfile.open(fileobj=stream, mode="r:") as archive:
            for member in archive:
                archive.members.clear()  # otherwise tarfile keeps all of them in memory
                if member.isdir() or any(map(selection.is_system, member.name.removeprefix("./").split("/"))):
                    continue
                if member.islnk() or member.issym():
                    # The target of a hard link starts at the archive's root, that of a symbolic link at its folder.
                    folder = posixpath.dirname(member.name) if member.issym() else ""
                    yield member.name, None, posixpath.normpath(posixpath.join(folder, member.linkname))
                elif not member.isfile() or member.issparse():
                    selection.skip("pipes, devices and sparse files")
                else:
                    count += 1
                    yield member.name, _Place(member.offset_data, member.size, member.mtime), None
            # tarfile also stops silently at a damaged header. A complete archive ends with blocks of zeros.
            stream.seek(archive.offset)
            end = stream.read(tarfile.BLOCKSIZE)
        if any(end) or len(end) < tarfile.BLOCKSIZE:
            raise InputError(f"{self._address} is cut short or damaged after {count} files: fetch or write it again.")

    def _is_image(self, stream: BinaryIO, name: str, place: _Place) -> bool:
        """Returns whether a member is an image that is selected; records it if it is a label."""
        if _key(name)[1] == _LABEL:
            self._labels[_key(name)[0]] = _read(stream, place).decode("utf-8", "replace").strip()
            return False
        return self._selection.takes(f"{self._address}/{name}", name, lambda: _read(stream, place, HEAD_BYTES))

    def __len__(self) -> int:
        return len(self._names)

    def name(self, i: int) -> str:
        return f"{self._address}/{self._names[i]}"

    def read(self, i: int) -> EncodedImage:
        start, count = map(int, self._places[i])
        try:
            data = storage.read_bytes(self._file, start, count)
        except OSError as error:
            raise ImageError(f"the archive cannot be read ({error.strerror or error})") from None
        return EncodedImage(self.name(i), self.label(i), data, self.stamp(i))

    def stamp(self, i: int) -> Stamp:
        return Stamp(int(self._places[i][1]), version_of(self._changed[i], self.label(i)))

    def label(self, i: int) -> str:
        return self._labels.get(_key(self._names[i])[0], "")


def _read(stream: BinaryIO, place: _Place, count: int | None = None) -> bytes:
    stream.seek(place.start)
    return stream.read(place.size if count is None else min(count, place.size))


def _end(name: str, links: dict[str, str]) -> str:
    """Returns the final target of a link, through other links; the last link of a circle."""
    passed = set()
    while name in links and name not in passed:
        passed.add(name)
        name = links[name]
    return name


def _key(name: str) -> tuple[str, str]:
    """Returns the name that members of a sample share, and the kind of this member in lower case."""
    folder, slash, file = name.rpartition("/")
    stem, _, kind = file.partition(".")
    return folder + slash + stem, kind.lower()
