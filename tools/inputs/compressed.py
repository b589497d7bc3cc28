"""Containers that were compressed as a whole, in which no image could be found: unpacked to a temporary file."""

import bz2
import gzip
import lzma
import tempfile
import zlib
from collections.abc import Callable
from typing import IO, BinaryIO

from tools.inputs import InputError, storage

__all__ = ["is_compressed", "unpacked"]

# By the first bytes: what opens such a file.
_OPENERS: dict[bytes, Callable[[BinaryIO], IO[bytes]]] = {
    b"\x1f\x8b": lambda stream: gzip.GzipFile(fileobj=stream),
    b"BZh": bz2.BZ2File,
    b"\xfd7zXZ\x00": lzma.LZMAFile,
}
# What is read and written at a time.
_CHUNK = 1 << 20


def is_compressed(head: bytes) -> bool:
    """Returns whether a file that begins so is compressed with gzip, bzip2 or xz."""
    return head.startswith(tuple(_OPENERS))


def unpacked(address: str) -> tempfile._TemporaryFileWrapper | None:
    """Unpacks a compressed file to a temporary one, which vanishes with what is returned; None where it is not one.

    Raises:
      InputError: if it is cut short or damaged, or there is no room for what is in it.
    """
    opener = next((found for magic, found in _OPENERS.items() if _begins(address, magic)), None)
    if opener is None:
        return None
    with storage.open_file(address) as stream, opener(stream) as content:
        try:
            plain = tempfile.NamedTemporaryFile(prefix="slimnets-")  # noqa: SIM115
            while chunk := _read(address, content):
                plain.write(chunk)
            plain.flush()
        except OSError as error:
            raise InputError(
                f"{address} is compressed, and cannot be unpacked into {tempfile.gettempdir()} ({error.strerror}): "
                "unpack it yourself, or make room there."
            ) from None
    return plain


def _begins(address: str, magic: bytes) -> bool:
    return storage.read_bytes(address, 0, len(magic)) == magic


def _read(address: str, content: IO[bytes]) -> bytes:
    try:
        return content.read(_CHUNK)
    except (EOFError, OSError, lzma.LZMAError, zlib.error) as error:
        raise InputError(f"{address} is cut short or damaged ({error}): fetch or write it again.") from None
