"""The pictures that features are made of, in a fixed order: in files, TFRecord files and tar archives.

Each is found by its number: what is worked on can be cut, and gone on with, anywhere.
"""

import hashlib
from collections.abc import Iterator
from typing import NamedTuple, Protocol, runtime_checkable

__all__ = ["InputError", "Inputs", "Picture", "digest"]


class InputError(ValueError):
    """Inputs that cannot be worked on, or among which there is nothing to work on."""


class Picture(NamedTuple):
    """One picture, not decoded yet.

    name: path, address, or what its container calls it.
    label: its class, as the container has it; '' where there is none.
    data: path of a local file, or the file's bytes.
    """

    name: str
    label: str
    data: str | bytes


@runtime_checkable
class Inputs(Protocol):
    """Pictures by their numbers; every method may be called from several threads."""

    def __len__(self) -> int: ...

    def name(self, i: int) -> str:
        """What picture ``i`` is called where it cannot be read."""

    def read(self, i: int) -> Picture:
        """Picture ``i``; raises ImageError where it cannot be read."""

    def identity(self) -> Iterator[str]:
        """What tells these pictures from others: their names, or the containers with their sizes."""


def digest(inputs: Inputs) -> str:
    """SHA-256 of the identity, in hexadecimal: equal where the same pictures come in the same order."""
    hashed = hashlib.sha256()
    for part in inputs.identity():
        hashed.update(part.encode("utf-8", "surrogateescape") + b"\0")
    return hashed.hexdigest()
