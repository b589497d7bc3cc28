"""The index as a CSV file."""

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Self

from tools.features.formats import IndexRow, utf8

__all__ = ["CsvIndexWriter", "read_csv_index"]

_FILE = "index.csv"

# Names of files are bytes. Those that are not UTF-8 are written with their odd bytes as ``\xff``: other programs refuse
# a file with one such byte in it. Older versions wrote the bytes themselves, which are still read.
_WRITE = {"encoding": "utf-8", "newline": ""}
_READ = {**_WRITE, "errors": "surrogateescape"}


class CsvIndexWriter:
    """Writes ``index.csv`` to a folder, a few rows at a time, always in UTF-8."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / _FILE

    def __enter__(self) -> Self:
        self._stream = self._path.open("w", **_WRITE)
        self._writer = csv.writer(self._stream)
        self._writer.writerow(IndexRow._fields)
        return self

    def append(self, index: Sequence[IndexRow]) -> None:
        self._writer.writerows([utf8(value) for value in row] for row in index)

    def __exit__(self, *error: object) -> None:
        self._stream.close()


def read_csv_index(folder: Path) -> Iterator[IndexRow]:
    """The rows of a folder's ``index.csv``."""
    with (folder / _FILE).open(**_READ) as stream:
        for row in csv.DictReader(stream):
            yield IndexRow(
                int(row["row"]),
                row["path"],
                row["status"],
                row["error"],
                int(row["width"]) if row["width"] else None,
                int(row["height"]) if row["height"] else None,
                row["label"],
            )
