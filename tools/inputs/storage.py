"""Files by their addresses: a path, or ``scheme://...`` of any file system that fsspec knows."""

import os
from collections.abc import Callable, Container
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

from tools.inputs import InputError

__all__ = [
    "check_scheme",
    "exists",
    "find",
    "is_folder",
    "is_remote",
    "open_file",
    "read_bytes",
    "size",
    "suffix",
]

Result = TypeVar("Result")


def is_remote(address: str) -> bool:
    return "://" in address


def exists(address: str) -> bool:
    return _remotely(address, lambda files, path: files.exists(path)) if is_remote(address) else Path(address).exists()


def is_folder(address: str) -> bool:
    return _remotely(address, lambda files, path: files.isdir(path)) if is_remote(address) else Path(address).is_dir()


def find(folder: str, suffixes: Container[str]) -> list[str]:
    """The addresses of the files under a folder that end in one of some suffixes in small letters, sorted."""
    if is_remote(folder):
        found = _remotely(folder, lambda files, path: map(files.unstrip_protocol, files.find(path)))
        return sorted(address for address in found if suffix(address) in suffixes)
    # A Path each would take half a minute, of a million files.
    walk = os.walk(Path(folder), onerror=_refuse)
    named = (
        os.path.join(parent, name)  # noqa: PTH118
        for parent, _, names in walk
        for name in names
        if suffix(name) in suffixes
    )
    return sorted(path.removeprefix("./") for path in named if os.path.isfile(path))  # noqa: PTH113


def _refuse(error: OSError) -> None:
    raise InputError(f"The folder {error.filename} cannot be searched ({error.strerror}): name others.")


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
