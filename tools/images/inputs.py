"""Images in a fixed order, from files, TFRecord files and tar archives.

Each image has a number, so the work can be split and resumed anywhere.
"""

import hashlib
from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol, runtime_checkable

__all__ = ["EncodedImage", "Inputs", "Reordered", "Stamp", "digest", "sha256_of", "spread_rows", "version_of"]


class Stamp(NamedTuple):
    """Size and version of an image, known without reading it. Equal stamps mean the same image.

    size: in bytes.
    version: a hash of the time of the last change, an ETag or a checksum; 0 if only the size is known.
    """

    size: int
    version: int


class EncodedImage(NamedTuple):
    """One image, not decoded yet.

    name: path, address, or name in its container.
    label: its class in the container, or its folder's name; '' if there is none.
    data: the encoded bytes.
    stamp: the stamp when the bytes were read.
    label_in_name: whether the label is part of the name.
    """

    name: str
    label: str
    data: bytes
    stamp: Stamp
    label_in_name: bool = False


@runtime_checkable
class Inputs(Protocol):
    """Images by their numbers. All methods are safe to call from several threads.

    skipped: number of files that were skipped, by kind.
    """

    skipped: Mapping[str, int]

    def __len__(self) -> int: ...

    def name(self, i: int) -> str:
        """Returns the name of image ``i`` without reading it. It is the same in every run."""

    def label(self, i: int) -> str:
        """Returns the label of image ``i``; '' if it has none. A TFRecord file's record is read for it.

        Raises ImageError if it cannot be read.
        """

    def read(self, i: int) -> EncodedImage:
        """Reads image ``i``. Raises ImageError if it cannot be read."""

    def stamp(self, i: int) -> Stamp | None:
        """Returns the current stamp of image ``i``; None if it cannot be read."""


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

    def label(self, i: int) -> str:
        return self._inputs.label(self._order[i])

    def read(self, i: int) -> EncodedImage:
        return self._inputs.read(self._order[i])

    def stamp(self, i: int) -> Stamp | None:
        return self._inputs.stamp(self._order[i])


def digest(inputs: Inputs) -> str:
    """Returns the SHA-256 of the images' names in their order, in hexadecimal."""
    hashed = hashlib.sha256()
    for i in range(len(inputs)):
        hashed.update(inputs.name(i).encode("utf-8", "surrogateescape") + b"\0")
    return hashed.hexdigest()


def spread_rows(num_images: int, most: int) -> list[int]:
    """Returns the numbers of at most ``most`` images, spread evenly over all and in their order."""
    count = min(num_images, most)
    return [place * num_images // count for place in range(count)]


def sha256_of(name: str, image: EncodedImage) -> bytes:
    """Returns the SHA-256 of all that an image's row depends on.

    For a plain file it is the SHA-256 of the file. For a container, label and name follow the bytes.

    Args:
      name: as ``Inputs.name`` returns it.
      image: the image as it was read.
    """
    hashed = hashlib.sha256(image.data)
    if image.name != name or (image.label and not image.label_in_name):
        hashed.update(f"\0{image.label}\0{image.name}".encode("utf-8", "surrogateescape"))
    return hashed.digest()


def version_of(*parts: object) -> int:
    """Returns the version of a ``Stamp``: 63 bits of a hash of values that change when the image does."""
    text = "\0".join(map(str, parts)).encode("utf-8", "surrogateescape")
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "big") >> 1 or 1
