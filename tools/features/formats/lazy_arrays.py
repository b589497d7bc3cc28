"""Arrays and indexes in several folders, which read only the rows that are accessed."""

import functools
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, overload

import numpy as np

from tools.features.formats import IndexRow, Rows

__all__ = ["LazyArray", "LazyIndex"]

# Number of parts whose index stays in memory.
_INDEXES = 2


class LazyArray:
    """An array whose rows are in several parts. ``array[rows]`` reads rows; ``np.asarray(array)`` reads all.

    Rows are a number, a slice, a sequence of numbers or a mask, as for a NumPy array. Further indexes in a tuple are
    applied to the rows that were read.

    Args:
      ends: number of rows up to the end of each part.
      shape: shape of a row.
      dtype: dtype of the numbers.
      open_part: returns a part by its number.
    """

    def __init__(self, ends: Sequence[int], shape: Sequence[int], dtype: str, open_part: Callable[[int], Rows]) -> None:
        self._ends = list(ends)
        self.shape = (self._ends[-1], *shape)
        self.dtype = np.dtype(dtype)
        self._part = open_part

    @property
    def ndim(self) -> int:
        return len(self.shape)

    def __len__(self) -> int:
        return self.shape[0]

    def __repr__(self) -> str:
        return f"<LazyArray {list(self.shape)} {self.dtype} in {len(self._ends)} parts>"

    def __iter__(self) -> Iterator[np.ndarray]:
        for start in range(0, len(self), 256):
            yield from self[start : start + 256]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        if copy is False:
            raise ValueError("The array is in files and cannot be read without a copy.")
        return np.asarray(self[:], dtype)

    def __getitem__(self, key: Any) -> np.ndarray:
        rows, rest = (key[0], key[1:]) if isinstance(key, tuple) and key else (key, ())
        if rows is Ellipsis or rows is None or (isinstance(rows, tuple) and not rows):
            return self[:][key]
        if isinstance(rows, slice):
            values = self._slice(*rows.indices(len(self)))
            return values[(slice(None), *rest)] if rest else values
        rows = np.asarray(rows)
        if rows.dtype == bool:
            if rows.shape != (len(self),):
                raise IndexError(f"The mask is {list(rows.shape)}, and the array has {len(self)} rows.")
            rows = np.flatnonzero(rows)
        if rows.size and not np.issubdtype(rows.dtype, np.integer):
            raise IndexError(f"Rows are whole numbers, a slice or a mask, and not {rows.dtype}.")
        values = self._take(rows.reshape(-1).astype(np.int64))
        # The rows' places in what was read, so that NumPy can combine them with further indexes.
        places = np.arange(rows.size).reshape(rows.shape)
        return values[(places if places.ndim else 0, *rest)]

    def _slice(self, start: int, stop: int, step: int) -> np.ndarray:
        if step < 0:
            numbers = range(start, stop, step)
            return self._slice(numbers[-1], numbers[0] + 1, -step)[::-1] if numbers else self._slice(0, 0, 1)
        pieces, position = [], start
        while position < stop:
            number, offset = _part_of(position, self._ends)
            begin = position - offset
            end = min(stop, self._ends[number]) - offset
            pieces.append(self._part(number)[begin:end:step])
            position += -(-(end - begin) // step) * step
        return np.concatenate(pieces) if pieces else np.empty((0, *self.shape[1:]), self.dtype)

    def _take(self, rows: np.ndarray) -> np.ndarray:
        if rows.size and not -len(self) <= rows.min() <= rows.max() < len(self):
            raise IndexError(f"Rows are from 0 to {len(self) - 1}, and {rows.min()} to {rows.max()} were asked for.")
        rows = rows % max(len(self), 1)
        values = np.empty((len(rows), *self.shape[1:]), self.dtype)
        # Part by part, whatever the order of the rows.
        for place in np.argsort(rows, kind="stable"):
            number, offset = _part_of(int(rows[place]), self._ends)
            begin = int(rows[place]) - offset
            values[place] = self._part(number)[begin : begin + 1][0]
        return values


class LazyIndex(Sequence[IndexRow]):
    """An index whose rows are in several parts.

    Args:
      ends: number of rows up to the end of each part.
      read_part: returns the rows of a part by its number.
    """

    def __init__(self, ends: Sequence[int], read_part: Callable[[int], Iterable[IndexRow]]) -> None:
        self._ends = list(ends)
        self._read = read_part
        self._rows = functools.lru_cache(_INDEXES)(lambda number: list(read_part(number)))

    def __len__(self) -> int:
        return self._ends[-1]

    def __iter__(self) -> Iterator[IndexRow]:
        for number in range(len(self._ends)):
            yield from self._read(number)

    @overload
    def __getitem__(self, row: int) -> IndexRow: ...

    @overload
    def __getitem__(self, row: slice) -> list[IndexRow]: ...

    def __getitem__(self, row: int | slice) -> IndexRow | list[IndexRow]:
        if isinstance(row, slice):
            return [self[number] for number in range(*row.indices(len(self)))]
        if not -len(self) <= row < len(self):
            raise IndexError(f"Rows are from 0 to {len(self) - 1}, and {row} was asked for.")
        row %= len(self)
        number, offset = _part_of(row, self._ends)
        return self._rows(number)[row - offset]


def _part_of(row: int, ends: Sequence[int]) -> tuple[int, int]:
    """Returns the number of the part that holds a row, and the first row of the part."""
    number = bisect_right(ends, row)
    return number, ends[number - 1] if number else 0
