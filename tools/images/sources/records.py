"""Reads and writes TFRecord files, and recognizes them.

A TFRecord file is a sequence of records: the length (uint64, little endian), its checksum, the data, their checksum
(tensorflow/core/lib/io/record_writer.h). The lengths are read first, so that any record can be read on its own.
"""

import struct
import tempfile
from array import array
from pathlib import Path
from typing import Self

import google_crc32c
import numpy as np

from tools.errors import InputError
from tools.images.inputs import Stamp
from tools.images.sources import storage

__all__ = ["CorruptRecordError", "RecordFile", "RecordWriter", "is_record_file", "is_record_header"]

# Length and its checksum before the data, and the checksum of the data after it.
_HEADER, _FOOTER = struct.Struct("<QI"), struct.Struct("<I")


class CorruptRecordError(ValueError):
    """Raised for a damaged record. The message is the reason."""


def _checksum(data: bytes) -> int:
    """Returns the masked CRC-32C of TFRecord files: rotated, with a constant added."""
    crc = google_crc32c.value(data)
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def is_record_file(address: str) -> bool:
    """Returns whether a file is a TFRecord file, by its first bytes. Raises OSError if it cannot be read."""
    return is_record_header(storage.read_bytes(address, 0, _HEADER.size))


def is_record_header(start: bytes) -> bool:
    """Returns whether bytes begin with the length of a record and its checksum."""
    return len(start) >= _HEADER.size and _HEADER.unpack_from(start)[1] == _checksum(start[:8])


class RecordWriter:
    """A context manager that writes a TFRecord file."""

    def __init__(self, path: str | Path) -> None:
        self._path = Path(path)

    def __enter__(self) -> Self:
        self._stream = self._path.open("wb")
        return self

    def write(self, data: bytes) -> None:
        """Writes a record."""
        length = struct.pack("<Q", len(data))
        for part in (length, _FOOTER.pack(_checksum(length)), data, _FOOTER.pack(_checksum(data))):
            self._stream.write(part)

    def __exit__(self, *error: object) -> None:
        self._stream.close()


class RecordFile:
    """The records of a TFRecord file by their numbers.

    Args:
      address: of the file.
      plain: the file that it was unpacked to, if it is compressed.

    Raises:
      InputError: if it is not a TFRecord file, or is cut short or damaged between records.
    """

    def __init__(self, address: str, plain: tempfile._TemporaryFileWrapper | None = None) -> None:
        self.address = address
        self._plain = plain  # deleted together with this object
        self._place = plain.name if plain else address
        size = storage.size(self._place)
        starts, position = array("q"), 0
        # Checksums of the records' data, which are the versions of their stamps.
        self._checksums = array("I")
        with storage.open_file(self._place) as stream:
            while position < size:
                # Reads the checksum of the record before as well.
                before = _FOOTER.size if starts else 0
                stream.seek(position - before)
                footer, header = stream.read(before), stream.read(_HEADER.size)
                if not is_record_header(header):
                    raise InputError(self._unreadable(header, position, len(starts)))
                if before:
                    self._checksums.append(*_FOOTER.unpack(footer))
                starts.append(position + _HEADER.size)
                position += _HEADER.size + _HEADER.unpack(header)[0] + _FOOTER.size
            if position > size:
                raise InputError(f"{address} is cut short after {len(starts) - 1} records: fetch or write it again.")
            if starts:
                stream.seek(size - _FOOTER.size)
                self._checksums.append(*_FOOTER.unpack(stream.read(_FOOTER.size)))
        self._starts = np.array([*starts, size + _HEADER.size], np.int64)

    def _unreadable(self, header: bytes, position: int, number: int) -> str:
        if not position:
            return f"{self.address} is not a TFRecord file: it does not begin with a record's length and checksum."
        kind = "cut short" if len(header) < _HEADER.size else "damaged"
        return f"{self.address} is {kind} after {number} records, at byte {position}: fetch or write it again."

    def __len__(self) -> int:
        return len(self._starts) - 1

    def read(self, i: int) -> bytes:
        """Returns the data of record ``i``. Raises CorruptRecordError, or OSError if the file cannot be read."""
        start = int(self._starts[i])
        count = int(self._starts[i + 1]) - _HEADER.size - start
        data = storage.read_bytes(self._place, start, count)
        if len(data) < count or _FOOTER.unpack(data[-_FOOTER.size :])[0] != _checksum(data[: -_FOOTER.size]):
            raise CorruptRecordError("the record is damaged: its checksum is of other data")
        return data[: -_FOOTER.size]

    def stamp(self, i: int) -> Stamp:
        """Returns the length of record ``i`` and the checksum of its data."""
        return Stamp(int(self._starts[i + 1] - self._starts[i]) - _HEADER.size - _FOOTER.size, self._checksums[i] or 1)
