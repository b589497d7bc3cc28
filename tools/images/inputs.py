"""The images that features are made of, in a fixed order: in files, TFRecord files and tar archives.

Each is found by its number, so that the work can be cut, and continued, anywhere.
"""

import hashlib
from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol, runtime_checkable

__all__ = ["EncodedImage", "Inputs", "Reordered", "Stamp", "digest", "sha256_of", "version_of"]


class Stamp(NamedTuple):
    """What tells, without reading an image, that it may have changed: equal stamps mean the same image.

    size: in bytes.
    version: stands for the time of the last change, an ETag or a checksum; 0 where only the size is known.
    """

    size: int
    version: int


class EncodedImage(NamedTuple):
    """One image, not decoded yet.

    name: path, address, or what its container calls it.
    label: its class, as the container has it; '' where there is none.
    data: the encoded bytes.
    stamp: as ``Inputs.stamp`` gave it when the bytes were read.
    """

    name: str
    label: str
    data: bytes
    stamp: Stamp


@runtime_checkable
class Inputs(Protocol):
    """Images by their numbers; every method may be called from several threads.

    skipped: from the kinds of files that were found beside the images, and left out, to their numbers.
    """

    skipped: Mapping[str, int]

    def __len__(self) -> int: ...

    def name(self, i: int) -> str:
        """Returns what image ``i`` is called, without reading it; the same in every run."""

    def read(self, i: int) -> EncodedImage:
        """Reads image ``i``; raises ImageError where it cannot be read."""

    def stamp(self, i: int) -> Stamp | None:
        """Returns the stamp that image ``i`` has now; None where it cannot be read."""


class Reordered:
    """Inputs in another order.

    inputs: the images.
    order: the number of each image of this order in ``inputs``.
    """

    def __init__(self, inputs: Inputs, order: Sequence[int]) -> None:
        self._inputs, self._order = inputs, order
        self.skipped: Mapping[str, int] = inputs.skipped

    def __len__(self) -> int:
        return len(self._order)

    def name(self, i: int) -> str:
        return self._inputs.name(self._order[i])

    def read(self, i: int) -> EncodedImage:
        return self._inputs.read(self._order[i])

    def stamp(self, i: int) -> Stamp | None:
        return self._inputs.stamp(self._order[i])


def digest(inputs: Inputs) -> str:
    """Returns the SHA-256 of the images' names, in hexadecimal: equal where the same names come in the same order."""
    hashed = hashlib.sha256()
    for i in range(len(inputs)):
        hashed.update(inputs.name(i).encode("utf-8", "surrogateescape") + b"\0")
    return hashed.hexdigest()


def sha256_of(name: str, picture: EncodedImage) -> bytes:
    """Returns the SHA-256 of all that an image's row depends on.

    That is the SHA-256 of a plain file. Where a container says more than the bytes, its words follow them.

    Args:
      name: as ``Inputs.name`` has it.
      picture: what was read.
    """
    hashed = hashlib.sha256(picture.data)
    if picture.label or picture.name != name:
        hashed.update(f"\0{picture.label}\0{picture.name}".encode("utf-8", "surrogateescape"))
    return hashed.digest()


def version_of(*parts: object) -> int:
    """Returns a version for a ``Stamp``, 63 bits of a hash, of whatever changes when an image does."""
    text = "\0".join(map(str, parts)).encode("utf-8", "surrogateescape")
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "big") >> 1 or 1
