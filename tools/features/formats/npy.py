"""Writes and reads a ``.npy`` file for each end point, and ``index.csv``."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Self

import numpy as np

from tools.features.formats import IndexRow, Layout
from tools.features.formats.csv_index import CsvIndexWriter, read_csv_index

__all__ = ["Writer", "open_arrays", "read_index"]


class Writer:
    """Writes the rows of a folder; see ``tools.features.formats.Writer``."""

    def __init__(self, folder: Path, layout: Layout, count: int) -> None:
        self._folder, self._layout, self._count = folder, layout, count
        self._dtype = np.dtype(layout.dtype).newbyteorder("<")

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self._streams = {}
            for alias, shape in self._layout.shapes.items():
                self._streams[alias] = stack.enter_context(_file(self._folder, alias).open("wb"))
                header = {"descr": self._dtype.str, "fortran_order": False, "shape": (self._count, *shape)}
                np.lib.format.write_array_header_1_0(self._streams[alias], header)
            self._index = stack.enter_context(CsvIndexWriter(self._folder))
            self._stack = stack.pop_all()
        return self

    def append(self, index: Sequence[IndexRow], features: Mapping[str, np.ndarray]) -> None:
        for alias, stream in self._streams.items():
            stream.write(np.ascontiguousarray(features[alias], self._dtype).data)
        self._index.append(index)

    def __exit__(self, *error: object) -> None:
        self._stack.close()


def open_arrays(folder: Path, layout: Layout, count: int) -> dict[str, np.ndarray]:
    """Returns the arrays of a folder, memory-mapped and not read yet."""
    del count
    return {alias: np.load(_file(folder, alias), mmap_mode="r") for alias in layout.shapes}


def read_index(folder: Path) -> Iterator[IndexRow]:
    """Yields the rows of a folder's index."""
    return read_csv_index(folder)


def _file(folder: Path, alias: str) -> Path:
    return folder / (alias.replace("/", ".") + ".npy")
