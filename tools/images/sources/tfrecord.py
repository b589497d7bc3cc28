"""Reads images from TFRecord files with one Example for each image, as in slim's data sets.

A TFRecord file is a sequence of records: the length (uint64, little endian), its checksum, the data, their checksum
(tensorflow/core/lib/io/record_writer.h). The lengths are read first, so that any record can be read on its own.
"""

import struct
import tempfile
from array import array
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Self

import google_crc32c
import numpy as np
import tensorflow as tf
from google.protobuf.message import DecodeError

from tools.errors import ImageError, InputError
from tools.images.inputs import EncodedImage, Stamp
from tools.images.sources import storage

__all__ = ["RecordFile", "RecordWriter", "TFRecordFile", "is_record_file", "is_record_header"]

# Length and its checksum before the data, and the checksum of the data after it.
_HEADER, _FOOTER = struct.Struct("<QI"), struct.Struct("<I")

_ENCODED, _FILENAME, _LABEL = "image/encoded", "image/filename", "image/class/label"


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


class TFRecordFile:
    """The images of a TFRecord file.

    Its features are ``image/encoded`` and optionally ``image/filename`` and ``image/class/label``.

    Raises:
      InputError: as ``RecordFile``, and if the first record has no ``image/encoded``.
    """

    skipped: Mapping[str, int] = MappingProxyType({})

    def __init__(self, address: str, plain: tempfile._TemporaryFileWrapper | None = None) -> None:
        self._records = RecordFile(address, plain)
        if len(self._records):
            try:
                features = _features(self._records.read(0))
            except CorruptRecordError:  # reported as an image that failed
                return
            if _ENCODED not in features:
                there = ", ".join(sorted(features)) or "none"
                raise InputError(f"The records of {address} have no feature {_ENCODED}, but {there}: give other files.")

    def __len__(self) -> int:
        return len(self._records)

    def name(self, i: int) -> str:
        return f"{self._records.address}[{i}]"

    def label(self, i: int) -> str:
        return _label(self._example(i))

    def read(self, i: int) -> EncodedImage:
        features = self._example(i)
        encoded = _first(features, _ENCODED, "bytes_list")
        if encoded is None:
            raise ImageError(f"the record has no feature {_ENCODED}")
        filename = _first(features, _FILENAME, "bytes_list")
        name = filename.decode("utf-8", "surrogateescape") if filename else self.name(i)
        return EncodedImage(name, _label(features), encoded, self.stamp(i))

    def _example(self, i: int) -> dict[str, tf.train.Feature]:
        try:
            return _features(self._records.read(i))
        except CorruptRecordError as error:
            raise ImageError(str(error)) from None
        except OSError as error:
            raise ImageError(f"the record cannot be read ({error.strerror or error})") from None

    def stamp(self, i: int) -> Stamp:
        return self._records.stamp(i)


def _features(data: bytes) -> dict[str, tf.train.Feature]:
    try:
        return dict(tf.train.Example.FromString(data).features.feature)
    except DecodeError:
        raise CorruptRecordError("the record is no Example") from None


def _label(features: dict[str, tf.train.Feature]) -> str:
    label = _first(features, _LABEL, "int64_list")
    return "" if label is None else str(label)


def _first(features: dict[str, tf.train.Feature], name: str, kind: str) -> bytes | int | None:
    values = getattr(features[name], kind).value if name in features else ()
    return values[0] if values else None
