"""The files that features lie in: a folder with the rows of some inputs, in one of several formats.

A format is a module with a ``Writer`` and a function ``open_arrays`` and ``read_index``; see ``get_format``.
"""

import importlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import NamedTuple, Protocol, Self

import numpy as np

from tools.errors import InputError

__all__ = ["FORMATS", "Format", "IndexRow", "Layout", "Rows", "get_format", "utf8"]

FORMATS = ("npy", "parquet", "tfrecord")


class IndexRow(NamedTuple):
    """One input: row ``row`` of every array; ``status`` is 'ok', or 'failed' for the reason ``error``.

    width, height: of the picture as decoded; None where it was not.
    label: its class as the input has it; '' where that has none.
    """

    row: int
    path: str
    status: str
    error: str
    width: int | None
    height: int | None
    label: str = ""


class Layout(NamedTuple):
    """What there is of each row.

    shapes: from the end points' aliases to the shapes of one image's features.
    dtype: 'float32' or 'float16', as they are stored.
    """

    shapes: dict[str, tuple[int, ...]]
    dtype: str


class Rows(Protocol):
    """An array that is read where it is sliced along its first axis."""

    def __getitem__(self, rows: slice) -> np.ndarray: ...


class Writer(Protocol):
    """Writes a folder's rows, in their order; within ``with``."""

    def __init__(self, folder: Path, layout: Layout, count: int) -> None: ...

    def append(self, index: Sequence[IndexRow], features: Mapping[str, np.ndarray]) -> None: ...

    def __enter__(self) -> Self: ...

    def __exit__(self, *error: object) -> None: ...


class Format(Protocol):
    """What a format's module has."""

    Writer: type[Writer]

    def open_arrays(self, folder: Path, layout: Layout, count: int) -> dict[str, Rows]:
        """The arrays of a folder of ``count`` rows, by alias."""

    def read_index(self, folder: Path) -> Iterable[IndexRow]:
        """The index of a folder, row by row."""


def utf8(value: object) -> object:
    """Returns a text with those bytes that are not UTF-8 as ``\\xff``; anything else as it is."""
    if not isinstance(value, str) or value.isascii():
        return value
    return value.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def get_format(name: str) -> Format | ModuleType:
    """The module of a format.

    Raises:
      InputError: for an unknown format, or one whose package is not installed.
    """
    if name not in FORMATS:
        raise InputError(f"There is no format {name!r}: choose one of {', '.join(FORMATS)}.")
    try:
        return importlib.import_module(f"tools.features.formats.{name}")
    except ModuleNotFoundError as error:
        raise InputError(f"The format {name} needs {error.name}: pip install 'slimnets[{name}]'.") from None
