"""Compares neighbours with brute force in NumPy, and reads what ``slimnets neighbours`` prints and writes."""

import csv
import json
import shutil
import sys

import faiss
import numpy as np
import pytest
from PIL import Image

from tests.helpers.processes import run_stopped
from tests.tools.visualization.feature_folders import write_features
from tools.cli import main
from tools.digits import CHECKPOINT, HELD_OUT, digits
from tools.errors import InputError
from tools.features import FeatureExtractor, extract
from tools.visualization import neighbours
from tools.visualization.matrix import open_matrix
from tools.visualization.search import exact, open_index, with_index

pytestmark = pytest.mark.filterwarnings("ignore:The weights go with:nets.guards.InferenceWarning")

DIGITS = sorted(HELD_OUT.glob("*.png"))[:40]


def brute_force(rows, queries, top, metric):
    """Returns the nearest rows and their distances, by all differences, one query after the other."""
    rows, queries = rows.astype(np.float64), queries.astype(np.float64)
    if metric == "cosine":
        rows, queries = (values / np.linalg.norm(values, axis=1)[:, np.newaxis] for values in (rows, queries))
    found, distances = [], []
    for query in queries:
        squares = ((rows - query) ** 2).sum(axis=1)
        values = 1 - rows @ query if metric == "cosine" else np.sqrt(squares)
        order = np.argsort(squares, kind="stable")[:top]
        found.append(order)
        distances.append(values[order])
    return np.array(found), np.array(distances)


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_neighbours_are_those_of_brute_force(tmp_path, metric, monkeypatch):
    """20,000 rows in several blocks, more queries than are compared at a time, and equal rows in their order."""
    monkeypatch.setattr("tools.visualization.matrix._BLOCK", 8 * 32 * 6000)
    monkeypatch.setattr("tools.visualization.search._QUERIES", 30)
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(20_000, 32)).astype(np.float32)
    rows[[7000, 13_000]] = rows[5]
    matrix = open_matrix(write_features(tmp_path / "features", rows))
    queries = np.concatenate([rng.normal(size=(40, 32)), rows[[5, 100]]])
    found = exact(matrix, queries, 10, metric)
    expected, distances = brute_force(rows, queries, 10, metric)
    assert np.array_equal(found.rows, expected)
    assert found.rows[-2, :3].tolist() == [5, 7000, 13_000]
    np.testing.assert_allclose(found.distances, distances, atol=1e-12)


@pytest.mark.parametrize("method", ["exact", "faiss"])
@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
@pytest.mark.parametrize(("size", "offset"), [(2.0**-4, 1e6), (2.0**123, 0), (2.0**-120, 0)])
def test_values_of_any_size(tmp_path, metric, method, size, offset):
    """Squares that lose digits, or that overflow or vanish in float32, which faiss computes in."""
    whole = np.random.default_rng(0).integers(-9, 10, [400, 16])
    rows = (whole * size + offset).astype(np.float32)
    found = neighbours(write_features(tmp_path / "features", rows), 7, top=10, metric=metric, method=method).found[0]
    by_differences = whole if metric == "euclidean" else rows.astype(np.float64) / size
    expected, _ = brute_force(by_differences, by_differences[[7]], 11, metric)
    assert [one.row for one in found] == expected[0, 1:].tolist()


def test_more_neighbours_than_rows(tmp_path):
    folder = write_features(tmp_path / "features", np.eye(30))
    for method in ("exact", "faiss"):
        found = neighbours(folder, 3, top=10**9, method=method, output=tmp_path / "out", overwrite=True)
        assert [one.row for one in found.found[0]] == [*range(3), *range(4, 30)]
    with Image.open(tmp_path / "out" / "neighbours.png") as sheet:
        assert sheet.width == 10 + 21 * 122  # the query and the 20 nearest


@pytest.mark.full
@pytest.mark.numerical
def test_an_image_is_computed_by_the_engine_of_the_features(tmp_path, monkeypatch):
    """One image does not suffice to calibrate with: the model of the features is taken."""
    monkeypatch.setenv("SLIMNETS_ENGINES", str(tmp_path / "models"))
    options = {"engine": "openvino", "precision": "int8"}
    with FeatureExtractor(CHECKPOINT, "global_pool", **options) as extractor:
        extract(HELD_OUT, tmp_path / "features", extractor)
    found = neighbours(tmp_path / "features", DIGITS[7], top=1)
    assert found.found[0][0].path == str(DIGITS[7])
    assert found.found[0][0].value == pytest.approx(1, abs=1e-6)


def test_failed_images_are_nobodys_neighbours(tmp_path):
    rows = np.random.default_rng(0).normal(size=(30, 4)).astype(np.float32)
    rows[[0, 3, 29]] = np.nan
    folder = write_features(tmp_path / "features", rows)
    for method in ("exact", "faiss"):
        found = neighbours(folder, 1, top=30, method=method).found[0]
        assert {one.row for one in found} == {*range(30)} - {0, 1, 3, 29}
    with pytest.raises(InputError, match=r"Row 3 of .*, 3\.png, has no features \(damaged\): name another"):
        neighbours(folder, 3)


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_an_index_is_saved_and_made_again_when_it_must_be(tmp_path, metric):
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(1500, 8)).astype(np.float32)
    folder = write_features(tmp_path / "features", rows)
    first = neighbours(folder, 7, method="faiss", metric=metric)
    assert first.index == folder / f"search-global_pool-{metric}.faiss"
    expected, _ = brute_force(rows, rows[[7]], 11, metric)
    assert [one.row for one in first.found[0]] == expected[0, 1:].tolist()
    # The saved index is read: a row that is changed behind its back is still where it was.
    stamp = first.index.stat().st_mtime_ns
    assert neighbours(folder, 7, method="faiss", metric=metric).found == first.found
    assert first.index.stat().st_mtime_ns == stamp
    # Other features make it again.
    write_features(folder, rows[::-1], run={"seconds": 2.0})
    again = neighbours(folder, 1492, method="faiss", metric=metric)
    assert [1499 - one.row for one in again.found[0]] == expected[0, 1:].tolist()
    # So does a damaged file.
    first.index.write_bytes(b"damaged")
    assert neighbours(folder, 1492, method="faiss", metric=metric).found == again.found
    # So does an index of something else.
    faiss.write_index(faiss.index_factory(5, "Flat"), str(first.index))
    assert neighbours(folder, 1492, method="faiss", metric=metric).found == again.found


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Returns features of 40 digits, made from a copy of the checkpoint."""
    place = tmp_path_factory.mktemp("neighbours")
    for file in CHECKPOINT.parent.glob(f"{CHECKPOINT.name}*"):
        shutil.copy(file, place)
    with FeatureExtractor(place / CHECKPOINT.name, ["block2", "global_pool"]) as extractor:
        extract(DIGITS, place / "features", extractor)
    return place / "features"


def test_an_image_is_its_own_nearest_neighbour(folder):
    result = neighbours(folder, DIGITS[3], top=3)
    assert result.queries == [str(DIGITS[3])]
    assert result.found[0][0].path == str(DIGITS[3])
    assert result.found[0][0].value == pytest.approx(1, abs=1e-6)
    # As a row, it is left out.
    assert [one.row for one in neighbours(folder, 3, top=2).found[0]] == [one.row for one in result.found[0][1:]]
    # Several images.
    several = neighbours(folder, DIGITS[:3], top=1)
    assert [found[0].path for found in several.found] == several.queries == [str(path) for path in DIGITS[:3]]


def test_another_folder(folder, tmp_path):
    with FeatureExtractor(CHECKPOINT, "global_pool") as extractor:
        extract(DIGITS[::-1], tmp_path / "other", extractor)
    result = neighbours(folder, tmp_path / "other", top=1)
    assert [found[0].path for found in result.found] == result.queries == [str(path) for path in DIGITS[::-1]]
    # Of the same folder, each row has neighbours but not itself.
    itself = neighbours(folder, folder, top=39)
    assert all({one.row for one in found} == {*range(40)} - {row} for row, found in enumerate(itself.found))


def test_features_of_another_checkpoint(folder, tmp_path, tiny_checkpoint):
    for name, change in {
        "the checkpoint is SHA-256 .* and SHA-256": {"checkpoint": {"sha256": {"index": "0" * 64}}},
        "the checkpoint's ema is True and False": {"checkpoint": {"ema": True}},
        "preprocessing is vgg and inception": {"preprocessing": "vgg"},
        "image_size is 64 and 32": {"image_size": 64},
        "pool is mean and none": {"pool": "mean"},
    }.items():
        shutil.copytree(folder, tmp_path / "other", dirs_exist_ok=True)
        run = json.loads((folder / "run.json").read_text())
        checkpoint = {**run["checkpoint"], **change.get("checkpoint", {})}
        (tmp_path / "other" / "run.json").write_text(json.dumps({**run, **change, "checkpoint": checkpoint}))
        with pytest.raises(InputError, match=f"cannot be compared: {name}"):
            neighbours(folder, tmp_path / "other")
    with pytest.raises(InputError, match=r"holds features of another checkpoint .* give that one"):
        neighbours(folder, DIGITS[0], checkpoint=tiny_checkpoint)
    assert neighbours(folder, DIGITS[0], checkpoint=CHECKPOINT, top=1).found[0][0].row == 0


def test_a_checkpoint_or_a_network_that_is_not_there(folder, tmp_path):
    """Rows and other features need neither."""
    shutil.copytree(folder, tmp_path / "features")
    run = json.loads((folder / "run.json").read_text())
    moved = {"checkpoint": {**run["checkpoint"], "path": str(tmp_path / "away.ckpt")}}
    for change, words in (
        (moved, r"features is not at .*away\.ckpt any more: say where it is by checkpoint='PATH'"),
        ({"net": "my_net"}, "was built by a function, my_net, .*: query by a row or by other features"),
    ):
        (tmp_path / "features" / "run.json").write_text(json.dumps({**run, **change}))
        with pytest.raises(InputError, match=words):
            neighbours(tmp_path / "features", DIGITS[0])
        assert len(neighbours(tmp_path / "features", 0, top=3).found[0]) == 3
    (tmp_path / "features" / "run.json").write_text(json.dumps({**run, **moved}))
    assert neighbours(tmp_path / "features", DIGITS[0], checkpoint=CHECKPOINT, top=1).found[0][0].row == 0


def test_the_command(folder, tmp_path, capfd):
    output = tmp_path / "out"
    arguments = ["neighbours", str(folder), str(DIGITS[5]), "--top", "4"]
    assert main([*arguments, "--output", str(output)]) == 0
    table = capfd.readouterr().out
    assert "similarity" in table
    assert str(DIGITS[5]) in table
    assert main([*arguments, "--json"]) == 0
    record = json.loads(capfd.readouterr().out)
    assert (record["end_point"], record["metric"]) == ("global_pool", "cosine")
    (query,) = record["queries"]
    with (output / "neighbours.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [row["rank"] for row in rows] == ["1", "2", "3", "4"]
    for row, one in zip(rows, query["neighbours"], strict=True):
        assert (int(row["row"]), row["path"]) == (one["row"], one["path"])
        assert float(row["similarity"]) == pytest.approx(one["similarity"], rel=1e-8)
    with Image.open(output / "neighbours.png") as sheet:
        pixels = np.asarray(sheet)
    # The first two tiles are the query and its nearest neighbour, the same image: whole multiples of its pixels.
    with Image.open(DIGITS[5]) as image:
        expected = np.asarray(image.convert("RGB")).repeat(14, axis=0).repeat(14, axis=1)
    for left in (10, 10 + 122):
        assert np.array_equal(pixels[10:122, left : left + 112], expected)
    assert main([*arguments, "--output", str(output)]) == 1
    assert capfd.readouterr().err == (
        f"slimnets: error: The output folder {output} holds earlier results: name another, or replace them with "
        "--overwrite.\n"
    )
    assert main([*arguments, "--output", str(output), "--overwrite"]) == 0


def test_a_stopped_command_leaves_nothing(folder, tmp_path):
    arguments = ["neighbours", folder, "3", "--output", tmp_path / "out"]
    done = run_stopped("tools.visualization.neighbours", "_sheet", *arguments)
    assert done.returncode == 1
    assert done.stderr.endswith("slimnets: interrupted; unfinished work is not kept\n")
    assert list(tmp_path.iterdir()) == []


def test_images_in_an_archive_are_drawn(tmp_path, capfd):
    shutil.make_archive(str(tmp_path / "digits"), "tar", HELD_OUT, ".")
    with FeatureExtractor(CHECKPOINT, "global_pool") as extractor:
        extract([tmp_path / "digits.tar"], tmp_path / "features", extractor)
    for more in ([], ["--images", str(tmp_path / "digits.tar")]):
        arguments = ["neighbours", str(tmp_path / "features"), "0", "--top", "1", "--output", str(tmp_path / "out")]
        assert main([*arguments, "--overwrite", *more]) == 0
        with Image.open(tmp_path / "out" / "neighbours.png") as sheet:
            drawn = np.asarray(sheet)[20:112, 20:112]
        assert (drawn.min() < 64) == bool(more)  # without the archive only a frame and a grey word


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"end_point": "block2"}, r"has block2 \[40, 2, 2, 128\], and a vector an image is required: .*pool='mean'"),
        ({"end_point": "block7"}, "has no end point 'block7': there is block2, global_pool"),
        ({"query": 40}, "has no row 40: it has 40, numbered from 0"),
        ({"query": "-1"}, "has no row -1: it has 40, numbered from 0"),
        ({"query": True}, "query must be an image, a list of images, the number of a row, .* and is True"),
        ({"query": [3]}, r"query must be an image, a list of images, the number of a row, .* and is \[3\]"),
        ({"metric": "manhattan"}, "metric must be one of cosine, euclidean, and is 'manhattan'"),
        ({"method": "guess"}, "method must be 'exact' or 'faiss', and is 'guess'"),
        ({"top": 0}, "top must be at least 1, and is 0"),
        ({"query": "missing.png"}, r"missing\.png"),
    ],
)
def test_bad_input(folder, change, words):
    with pytest.raises(InputError, match=words):
        neighbours(**{"features": folder, "query": 0, **change})


def test_folders_that_are_not_complete(folder, tmp_path):
    with pytest.raises(InputError, match=r"holds no features: it has no run\.json"):
        neighbours(tmp_path, 0)
    with FeatureExtractor(CHECKPOINT, "global_pool", batch_size=8) as extractor:
        extract(DIGITS, tmp_path / "parts", extractor, shards=2, shard_index=0)
    with pytest.raises(InputError, match="is not complete, 1 of 2 shards are done"):
        neighbours(tmp_path / "parts", 0)
    with pytest.raises(InputError, match="is not complete, 1 of 2 shards are done"):
        neighbours(folder, tmp_path / "parts")


def test_without_faiss(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(InputError, match=r"requires faiss: pip install 'slimnets\[search\]', or search exactly"):
        neighbours(folder, 0, method="faiss")


@pytest.mark.full
def test_an_index_of_a_million_rows(tmp_path):
    """Features of digits with noise added: nearly all of the 10 nearest are found, in a fraction of the memory."""
    assert recall_of_an_index(tmp_path / "features", 1_000_000) >= 0.95


def recall_of_an_index(folder, count, queries=100):
    """Returns which share of the 10 nearest rows an index finds, of ``count`` noisy features with 128 channels."""
    with FeatureExtractor(CHECKPOINT, "block2", pool="mean") as extractor:
        real = extractor(digits().images)["block2"]
    rng = np.random.default_rng(0)
    rows = np.empty([count, 128], np.float32)
    for start in range(0, count, 50_000):
        part = real[rng.integers(0, len(real), min(50_000, count - start))]
        rows[start : start + 50_000] = part + rng.normal(0, 0.5, part.shape) * real.std(axis=0)
    matrix = open_matrix(write_features(folder, rows))
    chosen = rng.choice(count, queries, replace=False).tolist()
    expected = exact(matrix, rows[chosen], 10, leave_out=chosen).rows
    index = open_index(matrix, "cosine")
    assert index.path.stat().st_size < 0.3 * rows.nbytes
    found = with_index(index, matrix, rows[chosen], 10, leave_out=chosen).rows
    return np.mean([len({*one} & {*other}) / 10 for one, other in zip(expected.tolist(), found.tolist(), strict=True)])
