"""Writes and reads ``features.tfrecord``: an Example for each image, with its index row and its features.

float32 is a ``float_list``. Examples have no float16, so that is little-endian bytes (``tf.io.decode_raw``).
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from tools.features.formats import IndexRow, Layout
from tools.images.sources.records import RecordFile, RecordWriter
from tools.runtime.importing import import_tensorflow

import_tensorflow()

import tensorflow as tf  # noqa: E402

__all__ = ["Writer", "open_arrays", "read_index"]

_FILE = "features.tfrecord"


class Writer(RecordWriter):
    """Writes the rows of a folder; see ``tools.features.formats.Writer``."""

    def __init__(self, folder: Path, layout: Layout, count: int) -> None:
        del count
        super().__init__(folder / _FILE)
        self._layout = layout

    def append(self, index: Sequence[IndexRow], features: Mapping[str, np.ndarray]) -> None:
        for number, row in enumerate(index):
            example = tf.train.Example()
            feature = example.features.feature
            for name, value in row._asdict().items():
                if isinstance(value, int):
                    feature[name].int64_list.value.append(value)
                elif value is not None:
                    feature[name].bytes_list.value.append(value.encode("utf-8", "surrogateescape"))
            for alias in self._layout.shapes:
                values = features[alias][number].reshape(-1)
                if self._layout.dtype == "float32":
                    feature[alias].float_list.value.extend(values)
                else:
                    feature[alias].bytes_list.value.append(values.astype("<f2").tobytes())
            self.write(example.SerializeToString(deterministic=True))


def open_arrays(folder: Path, layout: Layout, count: int) -> dict[str, "_Feature"]:
    """Returns the arrays of a folder."""
    del count
    records = RecordFile(str(folder / _FILE))
    return {alias: _Feature(records, alias, shape, layout.dtype) for alias, shape in layout.shapes.items()}


def read_index(folder: Path) -> Iterator[IndexRow]:
    """Yields the rows of a folder's index."""
    records = RecordFile(str(folder / _FILE))
    for number in range(len(records)):
        feature = tf.train.Example.FromString(records.read(number)).features.feature
        yield IndexRow(
            feature["row"].int64_list.value[0],
            *(_text(feature, name) for name in ("path", "status", "error")),
            *(feature[name].int64_list.value[0] if name in feature else None for name in ("width", "height")),
            _text(feature, "label"),
        )


class _Feature:
    """The features of one end point. A slice reads only its records."""

    def __init__(self, records: RecordFile, alias: str, shape: Sequence[int], dtype: str) -> None:
        self._records, self._alias, self._shape, self._dtype = records, alias, tuple(shape), dtype

    def __getitem__(self, rows: slice) -> np.ndarray:
        numbers = range(*rows.indices(len(self._records)))
        values = np.empty((len(numbers), *self._shape), self._dtype)
        for row, number in zip(values, numbers, strict=True):
            feature = tf.train.Example.FromString(self._records.read(number)).features.feature[self._alias]
            if self._dtype == "float32":
                row[...] = np.array(feature.float_list.value, np.float32).reshape(self._shape)
            else:
                row[...] = np.frombuffer(feature.bytes_list.value[0], "<f2").reshape(self._shape)
        return values


def _text(feature: Mapping[str, tf.train.Feature], name: str) -> str:
    return feature[name].bytes_list.value[0].decode("utf-8", "surrogateescape")
