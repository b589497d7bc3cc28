"""Writes and reads the index as a CSV file."""

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Self

from tools.features.formats import IndexRow, utf8

__all__ = ["CsvIndexWriter", "read_csv_index"]

_FILE = "index.csv"

# File names are bytes. Bytes that are not UTF-8 are written as ``\xff``, because other programs refuse a file with one.
# Older versions wrote the bytes themselves, which can still be read.
_WRITE = {"encoding": "utf-8", "newline": ""}
_READ = {**_WRITE, "errors": "surrogateescape"}


class CsvIndexWriter:
    """A context manager that writes ``index.csv`` to a folder, in UTF-8."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / _FILE

    def __enter__(self) -> Self:
        self._stream = self._path.open("w", **_WRITE)
        self._writer = csv.writer(self._stream)
        self._writer.writerow(IndexRow._fields)
        return self

    def append(self, index: Sequence[IndexRow]) -> None:
        """Writes the next rows."""
        self._writer.writerows([utf8(value) for value in row] for row in index)

    def __exit__(self, *error: object) -> None:
        self._stream.close()


def read_csv_index(folder: Path) -> Iterator[IndexRow]:
    """Yields the rows of a folder's ``index.csv``."""
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
