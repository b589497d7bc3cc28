"""Unpacks containers that are compressed as a whole to a temporary file, in which images can be found by position."""

import tempfile
from typing import IO, BinaryIO

from tools.errors import InputError
from tools.images.sources import storage

__all__ = ["is_compressed", "unpacked"]

# First bytes of a file → kind of compression.
_KINDS = {b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ\x00": "xz"}
# Bytes that are read and written at a time.
_CHUNK = 1 << 20


def is_compressed(head: bytes) -> bool:
    """Returns whether a file with these first bytes is compressed with gzip, bzip2 or xz."""
    return head.startswith(tuple(_KINDS))


def unpacked(address: str) -> tempfile._TemporaryFileWrapper | None:
    """Unpacks a compressed file to a temporary one, which is deleted with the returned object.

    Returns:
      The temporary file; None if the file is not compressed.

    Raises:
      InputError: if it is cut short or damaged, or there is no room to unpack it.
    """
    kind = next((found for magic, found in _KINDS.items() if _begins(address, magic)), None)
    if kind is None:
        return None
    with storage.open_file(address) as stream, _opened(kind, stream) as content:
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


def _opened(kind: str, stream: BinaryIO) -> IO[bytes]:
    # Imported here because they are rarely required.
    if kind == "gzip":
        import gzip

        return gzip.GzipFile(fileobj=stream)
    if kind == "bzip2":
        import bz2

        return bz2.BZ2File(stream)
    import lzma

    return lzma.LZMAFile(stream)


def _begins(address: str, magic: bytes) -> bool:
    return storage.read_bytes(address, 0, len(magic)) == magic


def _read(address: str, content: IO[bytes]) -> bytes:
    try:
        return content.read(_CHUNK)
    # EOFError, OSError, and the errors of lzma and zlib, which derive directly from Exception.
    except Exception as error:
        raise InputError(f"{address} is cut short or damaged ({error}): fetch or write it again.") from None
