"""Archives of checkpoints, unpacked as if a stranger had made them."""

import gzip
import os
import tarfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import BinaryIO, NamedTuple, NoReturn

from checkpoints.errors import CheckpointError
from checkpoints.files.atomic import new_folder

__all__ = ["extract", "unpack"]

_CHUNK = 1 << 20

# Trained float32 weights hardly compress: the published archives unpack to about 1.1 times their size. Ten times
# leaves room for a checkpoint that is mostly zeros, such as the slots of an optimizer that has not run; what is made
# to fill a disk unpacks to a hundred or a thousand times its size.
_LARGEST_RATIO = 10
# A tar file is filled up to a multiple of 20 blocks, which in a small one outweighs the rest.
_FILLING = 2 * tarfile.RECORDSIZE
# The published archives have one or three members, which need no records; a record is a path or a time of change.
_MOST_HEADERS = 100
_LARGEST_RECORD = 16 * 1024

_FILE_TYPES = (tarfile.REGTYPE, tarfile.AREGTYPE)
_RECORD_TYPES = (tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.GNUTYPE_LONGNAME)
_REFUSED_TYPES = {
    tarfile.SYMTYPE: "a symbolic link",
    tarfile.LNKTYPE: "a hard link",
    tarfile.CHRTYPE: "a device",
    tarfile.BLKTYPE: "a device",
    tarfile.FIFOTYPE: "a fifo",
    tarfile.GNUTYPE_SPARSE: "a sparse file",
}

_DAMAGE = (EOFError, gzip.BadGzipFile, tarfile.HeaderError, zlib.error)


def unpack(archive: str | Path, folder: str | Path) -> None:
    """Unpacks a .tar.gz file of plain files and folders into a new folder, which appears once it is complete.

    It is read as a stream, a header at a time, and a member is looked at before anything of it is written: the
    archive of a stranger can neither write outside of the folder nor fill the disk.

    Args:
      archive: the file.
      folder: a folder that does not exist yet, or is empty.

    Raises:
      CheckpointError: if the archive is damaged, holds anything but files and folders under plain names of their
        own, or unpacks to far more than weights do.
      OSError: if the folder cannot be written.
    """
    with new_folder(folder) as unfinished:
        extract(Path(archive), unfinished)


def extract(archive: Path, folder: Path) -> None:
    """Unpacks as ``unpack`` does, into a folder that is there; after an error it holds what came before it."""
    try:
        with gzip.open(archive) as stream:
            tar = _TarReader(stream, archive)
            for member in tar.members():
                _write(tar, member, folder / member.path)
            tar.drain()
    except _DAMAGE as error:
        raise CheckpointError(f"{archive} is damaged or cut short ({error}): fetch it again.") from error


def _write(tar: "_TarReader", member: "_Member", path: Path) -> None:
    try:
        (path if member.is_folder else path.parent).mkdir(parents=True, exist_ok=True)
        if member.is_folder:
            return
        stream = path.open("xb")
    except (FileExistsError, NotADirectoryError):
        # Left to the file system, which knows whether it tells A from a.
        tar.refuse(f"holds {str(member.path)!r} twice")
    with stream:
        for chunk in tar.chunks(member.size):
            stream.write(chunk)
        # A folder that is complete must still be so after a power failure.
        stream.flush()
        os.fsync(stream.fileno())
    path.chmod(0o644)


class _Member(NamedTuple):
    path: PurePosixPath
    size: int
    is_folder: bool


class _TarReader:
    """A tar file as a stream, of which never more is read than was looked at.

    Not tarfile.TarFile, which reads a record of any size into memory, and takes a damaged header for the end.
    """

    def __init__(self, stream: BinaryIO, archive: Path) -> None:
        self._stream = stream
        self._archive = archive
        self._limit = _LARGEST_RATIO * archive.stat().st_size + _FILLING
        self._left = self._limit

    def refuse(self, reason: str) -> NoReturn:
        raise CheckpointError(f"{self._archive} {reason}: it is no archive of a checkpoint, and was not unpacked.")

    def members(self) -> Iterator[_Member]:
        """The members; after each file its ``chunks`` are to be read."""
        name = None
        for _ in range(_MOST_HEADERS):
            block = self._read(tarfile.BLOCKSIZE)
            if not any(block):
                return
            header = tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
            if header.type in _RECORD_TYPES:
                name = self._record_name(header) or name
                continue
            yield self._member(header, name or header.name)
            name = None
        self.refuse(f"has more than {_MOST_HEADERS} members")

    def _member(self, header: tarfile.TarInfo, name: str) -> _Member:
        """The member behind a header, if it may be unpacked."""
        is_folder = header.type == tarfile.DIRTYPE
        if not is_folder and header.type not in _FILE_TYPES:
            self.refuse(f"holds {name!r}, which is {_REFUSED_TYPES.get(header.type, 'of an unknown type')}")
        path = PurePosixPath(name)
        if path.is_absolute() or ".." in path.parts:
            self.refuse(f"holds {name!r}, which would lie outside of the folder")
        # A backslash or colon is a separator elsewhere; 255 bytes are what a file system takes.
        if not name.isprintable() or {"\\", ":"} & set(name) or len(name.encode()) > 255:
            self.refuse(f"holds {name!r}, which is no plain name")
        if not (is_folder or path.parts):
            self.refuse("holds a file without a name")
        size = 0 if is_folder else header.size
        self._check_size(size)
        return _Member(path, size, is_folder)

    def _record_name(self, header: tarfile.TarInfo) -> str | None:
        """What a record, which goes before a member's header, says that the member is called."""
        if not 0 <= header.size <= _LARGEST_RECORD:
            self.refuse(f"has a record of {header.size:,} bytes in the place of a name")
        data = b"".join(self.chunks(header.size))
        if header.type == tarfile.GNUTYPE_LONGNAME:
            return data.rstrip(b"\0").decode("utf-8", "surrogateescape")
        records = _pax_records(data)
        if any(key == b"size" or key.startswith(b"GNU.sparse") for key in records):
            self.refuse("holds a sparse file, or one that has another size than its header says")
        path = records.get(b"path") if header.type == tarfile.XHDTYPE else None
        return None if path is None else path.decode("utf-8", "surrogateescape")

    def chunks(self, size: int) -> Iterator[bytes]:
        """The next bytes, and past what fills up their last block."""
        self._check_size(size)
        for start in range(0, size, _CHUNK):
            yield self._read(min(_CHUNK, size - start))
        self._read(-size % tarfile.BLOCKSIZE)

    def drain(self) -> None:
        """Reads to the end of the file, where the checksum is that tells whether it is damaged."""
        while data := self._stream.read(tarfile.RECORDSIZE):
            self._left -= len(data)
            self._check_size(0)

    def _check_size(self, size: int) -> None:
        if size < 0:
            raise tarfile.HeaderError("negative size")
        if size > self._left:
            self.refuse(f"is cut short, or unpacks to more than {self._limit:,} bytes, {_LARGEST_RATIO} times its size")

    def _read(self, size: int) -> bytes:
        self._check_size(size)
        data = self._stream.read(size)
        if len(data) < size:
            raise EOFError("the tar file inside ends too soon")
        self._left -= size
        return data


def _pax_records(data: bytes) -> dict[bytes, bytes]:
    """The records ``LENGTH KEY=VALUE\\n`` of a PAX header, as POSIX has them."""
    records = {}
    while data:
        digits, _, _ = data.partition(b" ")
        # More digits than a record has bytes: Python refuses to make a number of very many.
        if not digits.isdigit() or len(digits) > 9 or not len(digits) < int(digits) <= len(data):
            raise tarfile.HeaderError("broken PAX record")
        record, data = data[len(digits) + 1 : int(digits)], data[int(digits) :]
        key, _, value = record.removesuffix(b"\n").partition(b"=")
        records[key] = value
    return records
