"""Tests the formats of stored features, which are read back here and by other readers."""

import csv
import sys

import numpy as np
import pyarrow.parquet as pq
import pytest
import tensorflow as tf

from tools.errors import InputError
from tools.features.formats import FORMATS, IndexRow, Layout, get_format
from tools.features.formats import parquet as parquet_format
from tools.features.formats.lazy_arrays import LazyArray, LazyIndex

SHAPES = {"global_pool": (5,), "block3/unit_1": (2, 3, 4)}

INDEX = [
    IndexRow(100, "a.png", "ok", "", 4, 3, "7"),
    IndexRow(101, 'b, c\n"d".png', "failed", "the file is empty", None, None, ""),
    IndexRow(102, "é/ü.png", "ok", "", 40_000, 1, "dog"),
    *(IndexRow(i, f"{i}.png", "ok", "", 1, 1) for i in range(103, 117)),
]


def features(dtype):
    """Returns features with unusual numbers: NaN, infinity, a negative zero, the least and the largest."""
    generator = np.random.default_rng(0)
    arrays = {name: generator.normal(0, 10, (len(INDEX), *shape)).astype(dtype) for name, shape in SHAPES.items()}
    limits = np.finfo(dtype)
    arrays["global_pool"][0] = [np.inf, -0.0, limits.smallest_subnormal, limits.max, -np.inf]
    for array in arrays.values():
        array[1] = np.nan
    return arrays


@pytest.fixture(params=FORMATS)
def form(request):
    return request.param


@pytest.fixture(params=["float32", "float16"])
def dtype(request):
    return request.param


def write(folder, form, dtype, step=5):
    arrays = features(dtype)
    with get_format(form).Writer(folder, Layout(SHAPES, dtype), len(INDEX)) as writer:
        for start in range(0, len(INDEX), step):
            rows = slice(start, start + step)
            writer.append(INDEX[rows], {name: array[rows] for name, array in arrays.items()})
    return arrays


def test_round_trip(tmp_path, form, dtype, monkeypatch):
    monkeypatch.setattr(parquet_format, "_GROUP_BYTES", 800)  # a few rows per group
    arrays = write(tmp_path, form, dtype)
    read = get_format(form).open_arrays(tmp_path, Layout(SHAPES, dtype), len(INDEX))
    assert list(read) == list(SHAPES)
    for name, array in arrays.items():
        for rows in (slice(None), slice(3, 11), slice(0, 0), slice(16, 40), slice(1, 16, 4)):
            assert read[name][rows].dtype == dtype
            assert read[name][rows].shape == array[rows].shape
            assert read[name][rows].tobytes() == array[rows].tobytes()
    assert list(get_format(form).read_index(tmp_path)) == INDEX


def test_npy_by_others(tmp_path, dtype):
    arrays = write(tmp_path, "npy", dtype)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["block3.unit_1.npy", "global_pool.npy", "index.csv"]
    assert np.load(tmp_path / "block3.unit_1.npy").tobytes() == arrays["block3/unit_1"].tobytes()
    with (tmp_path / "index.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert rows[2] == {
        "row": "102", "path": "é/ü.png", "status": "ok", "error": "", "width": "40000", "height": "1", "label": "dog"
    }  # fmt: skip


def test_parquet_by_others(tmp_path, dtype):
    arrays = write(tmp_path, "parquet", dtype)
    file = pq.ParquetFile(tmp_path / "features.parquet")
    assert file.metadata.row_group(0).column(0).compression == "ZSTD"
    table = file.read()
    assert table.column("path").to_pylist() == [row.path for row in INDEX]
    assert table.column("width").to_pylist() == [row.width for row in INDEX]
    number = {"float32": "float", "float16": "halffloat"}[dtype]
    assert str(table.schema.field("block3/unit_1").type) == f"fixed_size_list<element: {number}>[24]"
    assert table.schema.field("block3/unit_1").metadata == {b"shape": b"[2, 3, 4]"}
    values = np.array(table.column("global_pool").to_pylist(), dtype)
    np.testing.assert_array_equal(values, arrays["global_pool"])


def test_tfrecord_by_others(tmp_path, dtype):
    arrays = write(tmp_path, "tfrecord", dtype)
    described = {"path": tf.io.FixedLenFeature([], tf.string), "row": tf.io.FixedLenFeature([], tf.int64)}
    if dtype == "float32":
        described["block3/unit_1"] = tf.io.FixedLenFeature([2, 3, 4], tf.float32)
    else:
        described["block3/unit_1"] = tf.io.FixedLenFeature([], tf.string)
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        dataset = tf.data.TFRecordDataset(str(tmp_path / "features.tfrecord")).batch(len(INDEX))
        parsed = tf.io.parse_example(tf.compat.v1.data.make_one_shot_iterator(dataset).get_next(), described)
        if dtype == "float16":
            parsed["block3/unit_1"] = tf.io.decode_raw(parsed["block3/unit_1"], tf.float16)
        parsed = session.run(parsed)
    assert [path.decode() for path in parsed["path"]] == [row.path for row in INDEX]
    assert parsed["row"].tolist() == [row.row for row in INDEX]
    assert parsed["block3/unit_1"].tobytes() == arrays["block3/unit_1"].tobytes()


def test_names_that_are_no_utf8(tmp_path, form):
    """Examples keep such names; CSV files and Parquet's strings are UTF-8, and show the bytes."""
    name = b"\xff.png".decode("utf-8", "surrogateescape")
    row = IndexRow(0, name, "ok", "", 1, 1)
    with get_format(form).Writer(tmp_path, Layout({"a": (1,)}, "float32"), 1) as writer:
        writer.append([row], {"a": np.zeros([1, 1], np.float32)})
    (read,) = get_format(form).read_index(tmp_path)
    assert read.path == (name if form == "tfrecord" else r"\xff.png")


def test_unknown_format():
    with pytest.raises(InputError, match="There is no format 'hdf5': choose one of npy, parquet, tfrecord"):
        get_format("hdf5")


def test_format_without_its_package(monkeypatch):
    monkeypatch.delitem(sys.modules, "tools.features.formats.parquet")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(InputError, match=r"The format parquet requires pyarrow: pip install 'slimnets\[parquet\]'"):
        get_format("parquet")


WHOLE = np.random.default_rng(0).normal(size=(20, 3, 2)).astype(np.float32)
ENDS = [4, 4, 11, 20]
PARTS = [WHOLE[:4], WHOLE[4:4], WHOLE[4:11], WHOLE[11:]]


@pytest.fixture
def lazy():
    return LazyArray(ENDS, (3, 2), "float32", PARTS.__getitem__)


@pytest.mark.parametrize(
    "key",
    [
        0, 19, -1, -20, np.int64(4), slice(None), slice(2, 13), slice(11, 11), slice(15, 3), slice(-3, None),
        slice(1, 20, 3), slice(None, None, -1), slice(17, 2, -4), slice(3, 2, -1), [3, 0, 19, 3], [],
        np.array([[1, -1], [5, 4]]),
        WHOLE[:, 0, 0] > 0, (slice(2, 9), 1), (5, slice(None), 0), ([1, 12], 2, 1), ([1, 12], [0, 1]),
        (5, slice(None), [0, 1]),
        (WHOLE[:, 0, 0] > 0, 1, [0]), ([[3], [4]], [0, 2]), np.array([3, 19], np.uint64), Ellipsis, (Ellipsis, 0),
        None, (),
    ],
    ids=repr,
)  # fmt: skip
def test_lazy_rows_are_numpy_s(lazy, key):
    assert np.array_equal(lazy[key], WHOLE[key])
    assert lazy[key].shape == WHOLE[key].shape
    assert lazy[key].dtype == np.float32


def test_lazy_arrays(lazy):
    assert (lazy.shape, lazy.dtype, lazy.ndim, len(lazy)) == ((20, 3, 2), np.float32, 3, 20)
    assert np.array_equal(np.asarray(lazy), WHOLE)
    assert np.asarray(lazy, np.float64).dtype == np.float64
    assert np.array_equal(np.stack(list(lazy)), WHOLE)
    assert repr(lazy) == "<LazyArray [20, 3, 2] float32 in 4 parts>"


@pytest.mark.parametrize("key", [20, -21, [0, 20], np.zeros(3, bool), 1.5, "a"])
def test_rows_that_there_are_not(lazy, key):
    with pytest.raises((IndexError, TypeError, ValueError)):
        lazy[key]


def test_lazy_index():
    parts = [INDEX[:4], [], INDEX[4:11], INDEX[11:]]
    index = LazyIndex([4, 4, 11, 17], parts.__getitem__)
    assert list(index) == INDEX
    assert len(index) == 17
    assert [index[0], index[4], index[-1]] == [INDEX[0], INDEX[4], INDEX[-1]]
    assert index[2:6] == INDEX[2:6]
    assert INDEX[5] in index
    with pytest.raises(IndexError, match="Rows are from 0 to 16, and 17 was asked for"):
        index[17]
