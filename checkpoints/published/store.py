"""Where published checkpoints lie on this machine.

``<store>/<key>/`` holds what the archive of a catalog entry held. The folder appears once the archive's sha256 is
right and everything is unpacked, so whatever has that name is whole.
"""

import os
import shlex
from pathlib import Path

from checkpoints.errors import CheckpointError
from checkpoints.published.catalog import CATALOG, get_entry

__all__ = ["find", "locate", "resolve", "store_folder"]

_VARIABLE = "SLIMNETS_CHECKPOINTS"


def store_folder(given: str | Path | None = None) -> Path:
    """The folder given, else that of the variable SLIMNETS_CHECKPOINTS, else one in the user's cache."""
    return Path(given or os.environ.get(_VARIABLE) or _cache()).expanduser()


def _cache() -> Path:
    import pooch  # here, as whoever gives a path has no use for it, and it takes a tenth of a second

    return pooch.os_cache("slimnets")


def find(key: str, folder: str | Path | None = None) -> Path | None:
    """The checkpoint of a catalog key, or None if it is not in the store.

    Args:
      key: of the catalog.
      folder: the store; by default ``store_folder()``.

    Raises:
      ValueError: for an unknown key.
    """
    entry = get_entry(key)
    if entry.url is None:
        return Path(__file__).parents[1] / entry.checkpoint
    path = store_folder(folder) / key / entry.checkpoint
    return path if path.is_file() else None


def locate(key: str, folder: str | Path | None = None) -> Path:
    """The checkpoint of a catalog key, as ``open_checkpoint`` takes it.

    Args:
      key: of the catalog.
      folder: the store; by default ``store_folder()``.

    Raises:
      ValueError: for an unknown key.
      CheckpointError: if it is not in the store, with the command that fetches it.
    """
    path = find(key, folder)
    if path is None:
        command = f"`slimnets download {key}`"
        if folder is not None:
            command = f"`slimnets download {key} --to {shlex.quote(str(folder))}`"
        raise CheckpointError(
            f"The weights {key} are not in {store_folder(folder)}: fetch them with {command}.",
            "missing",
        )
    return path


def resolve(checkpoint: str | os.PathLike[str], folder: str | Path | None = None) -> Path:
    """From a path or a catalog key to a path: what exists under that name goes before a key of the same name.

    Args:
      checkpoint: a path as ``open_checkpoint`` takes it, or a key of the catalog.
      folder: the store; by default ``store_folder()``.

    Returns:
      The path; what is neither a key nor exists comes back as it is.

    Raises:
      CheckpointError: if it is a key, and not in the store.
    """
    if not str(checkpoint):
        raise CheckpointError(
            "The checkpoint's path is empty: give a file, a folder, or a key of the catalog.", "missing"
        )
    path = Path(checkpoint)
    if path.exists() or Path(f"{path}.index").exists() or str(checkpoint) not in CATALOG:
        return path
    return locate(str(checkpoint), folder)
