"""Reads files by address: a path, or ``scheme://...`` of any file system that fsspec knows."""

import os
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
    "remote_stamp",
    "size",
    "suffix",
    "version_in",
]

Result = TypeVar("Result")


def is_remote(address: str) -> bool:
    """Returns whether an address is that of a remote file."""
    return "://" in address


def exists(address: str) -> bool:
    """Returns whether there is a file or folder at an address."""
    return _remotely(address, lambda files, path: files.exists(path)) if is_remote(address) else Path(address).exists()


def is_folder(address: str) -> bool:
    """Returns whether there is a folder at an address."""
    return _remotely(address, lambda files, path: files.isdir(path)) if is_remote(address) else Path(address).is_dir()


def list_remote(folder: str) -> list[tuple[str, str, dict[str, Any]]]:
    """Returns the files under a remote folder, sorted: address, name inside the folder, and details from fsspec."""

    def listed(files: Any, path: str) -> list[tuple[str, str, dict[str, Any]]]:
        inside = path.rstrip("/") + "/"
        found = sorted(files.find(path, detail=True).items())
        return [(files.unstrip_protocol(name), name.removeprefix(inside), info) for name, info in found]

    return _remotely(folder, listed)


def version_in(info: Mapping[str, Any]) -> int:
    """Returns the version of a ``Stamp`` from fsspec's details of a file; 0 if they have none."""
    for name in ("ETag", "etag", "md5Hash", "mtime", "LastModified", "last_modified", "updated", "created"):
        if info.get(name):
            return version_of(info[name])
    return 0


def remote_stamp(address: str) -> Stamp:
    """Returns the stamp of a remote file. Raises OSError if there is no such file."""
    info = _remotely(address, lambda files, path: files.info(path))
    return Stamp(-1 if info.get("size") is None else info["size"], version_in(info))


def suffix(address: str) -> str:
    """Returns the suffix of an address in lower case: '.jpg', or '' if it has none."""
    return os.path.splitext(address)[1].lower()  # noqa: PTH122


def size(address: str) -> int:
    """Returns the size of a file in bytes."""
    if not is_remote(address):
        return Path(address).stat().st_size
    found = _remotely(address, lambda files, path: files.size(path))
    if found is None:
        raise InputError(f"{address} is on a server that does not tell its size: download it first.")
    return found


def open_file(address: str) -> BinaryIO:
    """Opens a file for reading at any position."""
    if is_remote(address):
        return _remotely(address, lambda files, path: files.open(path, "rb"))
    return Path(address).open("rb")


def read_bytes(address: str, start: int = 0, count: int | None = None) -> bytes:
    """Returns ``count`` bytes of a file from ``start``, or all that follow.

    Raises:
      InputError: if the connection or the server fails rather than a single file.
      OSError: if the file does not exist or may not be read.
    """
    if is_remote(address):
        end = None if count is None else start + count
        return _remotely(address, lambda files, path: files.cat_file(path, start or None, end))
    with Path(address).open("rb", buffering=0) as stream:
        stream.seek(start)
        return stream.read(-1 if count is None else count)


def check_scheme(address: str) -> None:
    """Raises InputError if no installed package can open addresses with this scheme."""
    _remotely(address, lambda files, path: None)


def _remotely(address: str, work: Callable[[Any, str], Result]) -> Result:
    """Returns the result of ``work``, called with fsspec's file system and the path in it."""
    try:
        from fsspec.core import url_to_fs
    except ImportError:
        raise InputError(f"{address} requires fsspec: pip install 'slimnets[remote]'.") from None
    try:
        return work(*url_to_fs(address))
    except (FileNotFoundError, PermissionError):
        raise
    # fsspec raises ValueError for an unknown scheme, ImportError for a missing package, and errors of the HTTP client
    # for the answers of a server.
    except Exception as error:
        said = " ".join(str(error).split()) or type(error).__name__
        if 400 <= (getattr(error, "status", None) or 0) < 500:
            raise PermissionError(said) from None
        raise InputError(f"{address} cannot be opened: {said}.") from None
