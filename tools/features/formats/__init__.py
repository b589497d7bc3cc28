"""The file formats of features. The files in a folder hold the rows of some images.

A format is a module with a class ``Writer`` and the functions ``open_arrays`` and ``read_index``; see ``Format``.
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
    """The entry of one image.

    row: its row in every array.
    path: its name.
    status: 'ok' or 'failed'.
    error: why it failed; '' if it did not.
    width, height: of the decoded image; None if it was not decoded.
    label: its class; '' if it has none.
    """

    row: int
    path: str
    status: str
    error: str
    width: int | None
    height: int | None
    label: str = ""


class Layout(NamedTuple):
    """The features of one row.

    shapes: shapes of one image's features, by the alias of the end point.
    dtype: 'float32' or 'float16', in the files.
    """

    shapes: dict[str, tuple[int, ...]]
    dtype: str


class Rows(Protocol):
    """An array that reads rows when it is sliced along its first axis."""

    def __getitem__(self, rows: slice) -> np.ndarray: ...


class Writer(Protocol):
    """A context manager that writes the rows of a folder, in order."""

    def __init__(self, folder: Path, layout: Layout, count: int) -> None: ...

    def append(self, index: Sequence[IndexRow], features: Mapping[str, np.ndarray]) -> None: ...

    def __enter__(self) -> Self: ...

    def __exit__(self, *error: object) -> None: ...


class Format(Protocol):
    """The interface of a format's module."""

    Writer: type[Writer]

    def open_arrays(self, folder: Path, layout: Layout, count: int) -> dict[str, Rows]:
        """Returns the arrays of a folder with ``count`` rows, by alias."""

    def read_index(self, folder: Path) -> Iterable[IndexRow]:
        """Yields the rows of a folder's index."""


def utf8(value: object) -> object:
    """Returns a text with bytes that are not UTF-8 written as ``\\xff``, and other values unchanged."""
    if not isinstance(value, str) or value.isascii():
        return value
    return value.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def get_format(name: str) -> Format | ModuleType:
    """Returns the module of a format.

    Raises:
      InputError: for an unknown format, or if its package is not installed.
    """
    if name not in FORMATS:
        raise InputError(f"There is no format {name!r}: choose one of {', '.join(FORMATS)}.")
    try:
        return importlib.import_module(f"tools.features.formats.{name}")
    except ModuleNotFoundError as error:
        raise InputError(f"The format {name} requires {error.name}: pip install 'slimnets[{name}]'.") from None
