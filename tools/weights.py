"""``slimnets weights`` and ``slimnets download``: the published weights there are, and how to get them."""

import json
import math
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

from checkpoints.catalog import CATALOG, CatalogEntry, get_entry
from checkpoints.store import find
from tools.progress import progress
from tools.tables import print_table

__all__ = ["DownloadProgress", "print_weights", "run_download", "weights_row"]

_MEGABYTE = 1_000_000


def weights_row(key: str, folder: str | Path | None = None) -> dict[str, Any]:
    """What ``slimnets weights`` says of one entry of the catalog; ``folder`` is the store."""
    entry = get_entry(key)
    return {
        "key": entry.key,
        "network": entry.network,
        "classes": entry.num_classes,
        "preprocessing": entry.preprocessing,
        "image_size": entry.image_size,
        "top_1": entry.top_1,
        "top_5": entry.top_5,
        "installed": find(key, folder) is not None,
    }


def print_weights(key: str | None, as_json: bool, folder: str | Path | None = None) -> None:
    """Prints the catalog, or all that is known of the weights of one key, or the same as JSON.

    Raises:
      ValueError: for an unknown key.
    """
    if key is not None:
        _print_details(_details(get_entry(key), folder), as_json)
        return
    rows = [weights_row(key, folder) for key in CATALOG]
    if as_json:
        print(json.dumps(rows, indent=2))
        return
    header = ("key", "network", "classes", "preprocessing", "image size", "top-1", "top-5", "installed")
    print_table(header, [[_text(cell) for cell in row.values()] for row in rows])


def _details(entry: CatalogEntry, folder: str | Path | None) -> dict[str, Any]:
    path = find(entry.key, folder)
    details = {"url": entry.url, "sha256": entry.sha256, "checkpoint": entry.checkpoint}
    return {**weights_row(entry.key, folder), **details, "path": None if path is None else str(path)}


def _print_details(details: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print(json.dumps(details, indent=2))
        return
    print_table(("property", "value"), [(name.replace("_", " "), _text(value)) for name, value in details.items()])


def _text(cell: object) -> object:
    return {True: "yes", False: "no"}[cell] if isinstance(cell, bool) else cell


def run_download(key: str, to: str | None, from_file: str | None) -> int:
    """The command: fetches the weights of a key, or installs them from a file, and prints where they lie.

    Raises:
      ValueError: for an unknown key, or a file that is not the archive.
      OSError: if they cannot be fetched or written.
    """
    # Here, as the list of weights needs neither a network nor what goes with it.
    from checkpoints.download import download, install

    if from_file is not None:
        path = install(key, from_file, to)
    else:
        with closing(DownloadProgress(f"download {key}")) as bar:
            path = download(key, to, progress=bar)
    print(path)
    return 0


class DownloadProgress:
    """``tools.progress`` in whole megabytes, for a download that counts bytes: a ``checkpoints.download.Progress``."""

    def __init__(self, description: str) -> None:
        self._description = description
        self._stack = ExitStack()
        self._total = 0

    @property
    def total(self) -> int:
        return self._total

    @total.setter
    def total(self, total: int) -> None:
        """Begins; and begins anew with another attempt."""
        self.close()
        self._total, self._received, self._shown = total, 0, 0
        megabytes = math.ceil(total / _MEGABYTE)
        self._advance = self._stack.enter_context(progress(self._description, megabytes, "MB"))

    def update(self, count: int) -> None:
        # No further than to the end: pooch counts the last chunk as a whole one, and then the total once more.
        self._received = min(self._received + count, self._total)
        complete = self._received == self._total
        megabytes = (math.ceil if complete else math.floor)(self._received / _MEGABYTE)
        if megabytes > self._shown:
            self._advance(megabytes - self._shown)
            self._shown = megabytes

    def reset(self) -> None:
        """Nothing: what pooch adds after it is the total, where the bar is already."""

    def close(self) -> None:
        self._stack.close()
