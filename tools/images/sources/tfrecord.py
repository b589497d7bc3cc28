"""Reads images from TFRecord files with one Example for each image, as in slim's data sets."""

import tempfile
from collections.abc import Mapping
from types import MappingProxyType

from google.protobuf.message import DecodeError

from tools.errors import ImageError, InputError
from tools.images.inputs import EncodedImage, Stamp
from tools.images.sources.records import CorruptRecordError, RecordFile
from tools.runtime.importing import import_tensorflow

import_tensorflow()

import tensorflow as tf  # noqa: E402

__all__ = ["TFRecordFile"]

_ENCODED, _FILENAME, _LABEL = "image/encoded", "image/filename", "image/class/label"


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
