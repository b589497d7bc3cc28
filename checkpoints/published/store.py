"""The store of published checkpoints on this machine.

``<store>/<key>/`` holds the files from the archive of a catalog entry. The folder appears only once the archive's
sha256 was verified and everything is unpacked, so it is always complete.
"""

import os
import shlex
from pathlib import Path

from checkpoints.errors import CheckpointError
from checkpoints.published.catalog import CATALOG, CatalogEntry, get_entry

__all__ = ["entry_at", "find", "locate", "resolve", "store_folder"]

_VARIABLE = "SLIMNETS_CHECKPOINTS"


def store_folder(given: str | Path | None = None) -> Path:
    """Returns the given folder, else that of the variable SLIMNETS_CHECKPOINTS, else one in the user's cache."""
    return Path(given or os.environ.get(_VARIABLE) or _cache()).expanduser()


def _cache() -> Path:
    import pooch  # here, because it takes a tenth of a second, and who gives a path does not need it

    return pooch.os_cache("slimnets")


def find(key: str, folder: str | Path | None = None) -> Path | None:
    """Returns the path of a key's checkpoint, or None if it is not in the store.

    Args:
      key: key of the catalog.
      folder: the store; by default ``store_folder()``.

    Raises:
      ValueError: for an unknown key.
    """
    entry = get_entry(key)
    if entry.url is None:
        return Path(__file__).parents[1] / entry.checkpoint
    path = store_folder(folder) / key / entry.checkpoint
    return path if path.is_file() else None


def entry_at(path: Path, folder: str | Path | None = None) -> CatalogEntry | None:
    """Returns the entry whose checkpoint in the store has this path, as ``find`` returns it; None for other paths."""
    entry = CATALOG.get(path.parent.name)
    return entry if entry is not None and find(entry.key, folder) == path else None


def locate(key: str, folder: str | Path | None = None) -> Path:
    """Returns the path of a key's checkpoint.

    Args:
      key: key of the catalog.
      folder: the store; by default ``store_folder()``.

    Raises:
      ValueError: for an unknown key.
      CheckpointError: if it is not in the store; the message gives the command that downloads it.
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
    """Returns the path for a path or a key of the catalog; an existing path takes precedence over a key.

    Args:
      checkpoint: a path, as for ``checkpoints.open_checkpoint``, or a key of the catalog.
      folder: the store; by default ``store_folder()``.

    Returns:
      The path; if it neither exists nor is a key, ``checkpoint`` unchanged.

    Raises:
      CheckpointError: if it is a key whose checkpoint is not in the store.
    """
    if not str(checkpoint):
        raise CheckpointError(
            "The checkpoint's path is empty: give a file, a folder, or a key of the catalog.", "missing"
        )
    path = Path(checkpoint)
    if path.exists() or Path(f"{path}.index").exists() or str(checkpoint) not in CATALOG:
        return path
    return locate(str(checkpoint), folder)
