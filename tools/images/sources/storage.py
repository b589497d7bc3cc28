"""Files by their addresses: a path, or ``scheme://...`` of any file system that fsspec knows."""

import errno
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

from tools.errors import InputError
from tools.images.inputs import Stamp, version_of

__all__ = [
    "check_scheme",
    "exists",
    "is_folder",
    "is_remote",
    "list_remote",
    "open_file",
    "read_bytes",
    "read_file",
    "size",
    "stamp",
    "suffix",
    "version_in",
]

Result = TypeVar("Result")

# Bytes of a file that is read at once: more than the pixels of the largest image that is decoded.
_LARGEST = 2 << 30

# Nanoseconds in which a file may be changed again without another time: that of a file system's clock, and of FAT's.
_JUST_NOW = 2_000_000_000


def is_remote(address: str) -> bool:
    return "://" in address


def exists(address: str) -> bool:
    return _remotely(address, lambda files, path: files.exists(path)) if is_remote(address) else Path(address).exists()


def is_folder(address: str) -> bool:
    return _remotely(address, lambda files, path: files.isdir(path)) if is_remote(address) else Path(address).is_dir()


def list_remote(folder: str) -> list[tuple[str, str, dict[str, Any]]]:
    """Returns the files under a remote folder, sorted: address, name inside of the folder, what its system tells."""

    def listed(files: Any, path: str) -> list[tuple[str, str, dict[str, Any]]]:
        inside = path.rstrip("/") + "/"
        found = sorted(files.find(path, detail=True).items())
        return [(files.unstrip_protocol(name), name.removeprefix(inside), info) for name, info in found]

    return _remotely(folder, listed)


def version_in(info: Mapping[str, Any]) -> int:
    """Returns the version for a ``Stamp`` that a remote file system tells of a file; 0 where it tells none."""
    for name in ("ETag", "etag", "md5Hash", "mtime", "LastModified", "last_modified", "updated", "created"):
        if info.get(name):
            return version_of(info[name])
    return 0


def stamp(address: str) -> Stamp:
    """Returns the stamp of a file; raises OSError where there is none."""
    if not is_remote(address):
        return _stamp(os.stat(address))  # noqa: PTH116
    info = _remotely(address, lambda files, path: files.info(path))
    return Stamp(-1 if info.get("size") is None else info["size"], version_in(info))


def _stamp(status: os.stat_result) -> Stamp:
    # Of a file that has just been changed the time does not tell whether it is being changed again: never equal.
    if abs(time.time_ns() - status.st_ctime_ns) < _JUST_NOW:
        return Stamp(status.st_size, time.time_ns())
    # The time of the last change of anything about the file, which no program can set back as `cp -p` does another one.
    return Stamp(status.st_size, status.st_ctime_ns or 1)


def read_file(address: str) -> tuple[bytes, Stamp]:
    """Reads a whole file, and its stamp of before. Raises as ``read_bytes`` does.

    A remote file's version would take another request, so it is 0.
    """
    if is_remote(address):
        data = read_bytes(address)
        return data, Stamp(len(data), 0)
    with open(address, "rb", buffering=0) as stream:  # noqa: PTH123
        before = _stamp(os.fstat(stream.fileno()))
        if before.size > _LARGEST:
            raise OSError(errno.EFBIG, f"its {before.size:,} bytes are more than any image has")
        return stream.readall(), before


def suffix(address: str) -> str:
    """Of its last part, in small letters: '.jpg', or ''."""
    return os.path.splitext(address)[1].lower()  # noqa: PTH122


def size(address: str) -> int:
    """Bytes of a file."""
    if not is_remote(address):
        return Path(address).stat().st_size
    found = _remotely(address, lambda files, path: files.size(path))
    if found is None:
        raise InputError(f"{address} is on a server that does not say how long it is: fetch it first.")
    return found


def open_file(address: str) -> BinaryIO:
    """A file to read from anywhere in it."""
    if is_remote(address):
        return _remotely(address, lambda files, path: files.open(path, "rb"))
    return Path(address).open("rb")


def read_bytes(address: str, start: int = 0, count: int | None = None) -> bytes:
    """``count`` bytes of a file, or as many as there are from ``start`` on.

    Raises:
      InputError: if not this file, but where it lies is the trouble: a connection, a server.
      OSError: if the file is not there, or not for us.
    """
    if is_remote(address):
        end = None if count is None else start + count
        return _remotely(address, lambda files, path: files.cat_file(path, start or None, end))
    with Path(address).open("rb", buffering=0) as stream:
        stream.seek(start)
        return stream.read(-1 if count is None else count)


def check_scheme(address: str) -> None:
    """Raises InputError if there is no package for an address of that scheme."""
    _remotely(address, lambda files, path: None)


def _remotely(address: str, work: Callable[[Any, str], Result]) -> Result:
    """What ``work`` gives of fsspec's file system and the path in it."""
    try:
        from fsspec.core import url_to_fs
    except ImportError:
        raise InputError(f"{address} needs fsspec: pip install 'slimnets[remote]'.") from None
    try:
        return work(*url_to_fs(address))
    except (FileNotFoundError, PermissionError):
        raise
    # A scheme that fsspec does not know is a ValueError, one whose package is not there an ImportError, and what an
    # HTTP server says no client of ours knows.
    except Exception as error:
        said = " ".join(str(error).split()) or type(error).__name__
        if 400 <= (getattr(error, "status", None) or 0) < 500:
            raise PermissionError(said) from None
        raise InputError(f"{address} cannot be opened: {said}.") from None
