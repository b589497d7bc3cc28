"""Finds the images in a folder and the folders below it."""

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from tools.errors import InputError
from tools.images.formats import HEAD_BYTES
from tools.images.inputs import Stamp
from tools.images.sources import storage
from tools.images.sources.selection import Selection

__all__ = ["find_local", "find_remote", "folder_prefix", "folders_in"]

_BROKEN, _BACK = "links that lead nowhere", "links that lead back to a folder above"


def find_local(folder: str, selection: Selection) -> list[str]:
    """Returns the paths of the images under a local folder, sorted.

    Links to files and folders are followed, except links to a folder above, which would never end.

    Raises:
      InputError: if a folder cannot be searched.
    """
    root = folder_prefix(folder)
    return sorted(root + inside for inside in _walk(root, selection))


def folder_prefix(folder: str) -> str:
    """Returns what the paths that ``find_local`` returns begin with: the folder's name and '/', without './'."""
    return "" if Path(folder) == Path() else str(Path(folder)).rstrip(os.sep) + os.sep


def folders_in(paths: Iterable[str]) -> list[str]:
    """Returns the names of the folders in local folders, sorted; also those without images, but no hidden ones."""
    selection = Selection()
    found = (folder for path in paths if Path(path).is_dir() for folder in Path(path).iterdir())
    return sorted({folder.name for folder in found if folder.is_dir() and not selection.is_system(folder.name)})


def _walk(root: str, selection: Selection) -> Iterator[str]:
    """Yields the names of the images inside ``root``, in any order."""
    # Folders to search, each with the identities of the folders above it.
    waiting: list[tuple[str, frozenset[tuple[int, int]]]] = [("", frozenset())]
    while waiting:
        folder, above = waiting.pop()
        entries, identity = _listed(root + folder or ".")
        above |= {identity}
        for entry in entries:
            if selection.is_system(entry.name):
                continue
            name = folder + entry.name
            kind = _kind(entry, above)
            if kind == "folder":
                waiting.append((name + "/", above))
            elif kind != "file":
                selection.skip(kind)
            elif _is_taken(root + name, name, selection):
                yield name


def _listed(folder: str) -> tuple[list[os.DirEntry[str]], tuple[int, int]]:
    """Returns the entries of a folder, and its identity (device and inode)."""
    try:
        status = os.stat(folder)  # noqa: PTH116
        with os.scandir(folder) as entries:
            return list(entries), (status.st_dev, status.st_ino)
    except OSError as error:
        raise InputError(f"The folder {folder} cannot be searched ({error.strerror}): name others.") from None


def _kind(entry: os.DirEntry[str], above: frozenset[tuple[int, int]]) -> str:
    """Returns 'folder', 'file', or the kind under which the entry is skipped."""
    try:
        if entry.is_dir():
            # Not only for links: a folder below a link may also be above it.
            status = entry.stat()
            return _BACK if (status.st_dev, status.st_ino) in above else "folder"
        if entry.is_file():
            return "file"
        # ``is_file`` does not raise for a broken link.
        entry.stat()
    except OSError:
        return _BROKEN
    return "pipes, sockets and devices"


def _is_taken(path: str, inside: str, selection: Selection) -> bool:
    try:
        return selection.takes(path, inside, lambda: storage.read_bytes(path, 0, HEAD_BYTES))
    except OSError:
        selection.skip("files that cannot be read")
        return False


def find_remote(folder: str, selection: Selection) -> Iterator[tuple[str, int, Stamp]]:
    """Yields the images under a remote folder, sorted: address, length of the folder's name in it with '/', and stamp.

    Only names decide which files are images, because reading the first bytes of each would take a request.
    """
    for address, inside, info in storage.list_remote(folder):
        if not any(map(selection.is_system, inside.split("/"))) and selection.takes(address, inside):
            size = info.get("size")
            # The address may spell the folder's name in another way than the user.
            root = len(address) - len(inside)
            yield address, root, Stamp(-1 if size is None else size, storage.version_in(info))
