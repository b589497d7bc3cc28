"""Writes and reads ``features.parquet``: columns of the index, and a fixed-size list for each end point."""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Self

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tools.features.formats import IndexRow, Layout, utf8

__all__ = ["Writer", "open_arrays", "read_index"]

_FILE = "features.parquet"

# Limits of a row group, which is written and read as a whole.
_GROUP_ROWS, _GROUP_BYTES = 8192, 32 << 20

_INDEX = {
    "row": pa.int64(),
    "path": pa.string(),
    "status": pa.string(),
    "error": pa.string(),
    "width": pa.int32(),
    "height": pa.int32(),
    "label": pa.string(),
}


class Writer:
    """Writes the rows of a folder; see ``tools.features.formats.Writer``.

    Parquet's strings are UTF-8. In a file name, bytes that are not UTF-8 are written as ``\\xff``.
    """

    def __init__(self, folder: Path, layout: Layout, count: int) -> None:
        del count
        self._path, self._layout = folder / _FILE, layout
        row_bytes = sum(map(math.prod, layout.shapes.values())) * np.dtype(layout.dtype).itemsize
        self._group = min(_GROUP_ROWS, max(1, _GROUP_BYTES // max(1, row_bytes)))
        self._index: list[IndexRow] = []
        self._features: dict[str, list[np.ndarray]] = {alias: [] for alias in layout.shapes}

    def __enter__(self) -> Self:
        number = pa.from_numpy_dtype(self._layout.dtype)
        fields = [pa.field(name, kind) for name, kind in _INDEX.items()]
        for alias, shape in self._layout.shapes.items():
            metadata = {"shape": json.dumps(shape)}
            fields.append(pa.field(alias, pa.list_(pa.field("element", number), math.prod(shape)), metadata=metadata))
        self._schema = pa.schema(fields)
        self._writer = pq.ParquetWriter(self._path, self._schema, compression="zstd")
        return self

    def append(self, index: Sequence[IndexRow], features: Mapping[str, np.ndarray]) -> None:
        self._index.extend(index)
        for alias, arrays in self._features.items():
            arrays.append(np.asarray(features[alias], self._layout.dtype))
        if len(self._index) >= self._group:
            self._write_group()

    def _write_group(self) -> None:
        columns = [
            pa.array([utf8(value) for value in column], kind)
            for column, kind in zip(zip(*self._index, strict=True), _INDEX.values(), strict=True)
        ]
        for alias, arrays in self._features.items():
            values = pa.array(np.concatenate(arrays).reshape(-1))
            columns.append(pa.FixedSizeListArray.from_arrays(values, type=self._schema.field(alias).type))
            arrays.clear()
        self._index.clear()
        table = pa.Table.from_arrays(columns, schema=self._schema)
        self._writer.write_table(table, row_group_size=table.num_rows)

    def __exit__(self, *error: object) -> None:
        with self._writer:
            if self._index and error[0] is None:
                self._write_group()


def open_arrays(folder: Path, layout: Layout, count: int) -> dict[str, "_Column"]:
    """Returns the arrays of a folder."""
    del count
    return {alias: _Column(folder / _FILE, alias, shape, layout.dtype) for alias, shape in layout.shapes.items()}


def read_index(folder: Path) -> Iterator[IndexRow]:
    """Yields the rows of a folder's index."""
    with pq.ParquetFile(folder / _FILE) as file:
        for batch in file.iter_batches(columns=list(_INDEX)):
            for row in batch.to_pylist():
                yield IndexRow(**row)


class _Column:
    """The features of one end point. A slice reads only its row groups."""

    def __init__(self, path: Path, alias: str, shape: Sequence[int], dtype: str) -> None:
        self._file = pq.ParquetFile(path)
        self._alias, self._shape, self._dtype = alias, tuple(shape), dtype
        groups = range(self._file.num_row_groups)
        counts = [self._file.metadata.row_group(group).num_rows for group in groups]
        self._ends = np.cumsum(counts, dtype=np.int64)
        self._last: tuple[int, np.ndarray] = (-1, np.empty(0))

    def __getitem__(self, rows: slice) -> np.ndarray:
        start, stop, step = rows.indices(int(self._ends[-1]) if len(self._ends) else 0)
        first = int(np.searchsorted(self._ends, start, "right"))
        last = int(np.searchsorted(self._ends, stop, "left"))
        groups = [self._group(group) for group in range(first, last + 1)] if start < stop else []
        if not groups:
            return np.empty((0, *self._shape), self._dtype)
        offset = int(self._ends[first]) - len(groups[0])
        values = groups[0] if len(groups) == 1 else np.concatenate(groups)
        return values[start - offset : stop - offset : step]

    def _group(self, group: int) -> np.ndarray:
        if self._last[0] != group:
            column = self._file.read_row_group(group, columns=[self._alias]).column(0).combine_chunks()
            values = column.flatten().to_numpy().reshape(-1, *self._shape)
            self._last = (group, values)
        return self._last[1]
