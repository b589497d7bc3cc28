"""Compares maps and probes with scikit-learn, and reads what ``slimnets map`` writes."""

import csv
import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.helpers.browser import Browser
from tests.helpers.processes import environment, run_stopped
from tests.tools.visualization.feature_folders import write_features
from tools.cli import main
from tools.digits import CHECKPOINT, HELD_OUT
from tools.errors import InputError
from tools.features import FeatureExtractor, extract
from tools.images import decode
from tools.visualization import feature_map, pages
from tools.visualization.matrix import open_matrix
from tools.visualization.pages.map_page import COLOURS, DARK
from tools.visualization.projection import probe, project

PAGES = Path(pages.__file__).parent


def groups_of(count, channels, spread=1.0, seed=0):
    """Returns vectors in five groups, and the name of each one's group."""
    rng = np.random.default_rng(seed)
    of = rng.integers(0, 5, count)
    vectors = rng.normal(size=(5, channels))[of] * 3 + rng.normal(size=(count, channels)) * spread + 100
    return vectors.astype(np.float32), [f"group {number}" for number in of]


@pytest.fixture(scope="module")
def labelled(tmp_path_factory):
    """Returns features of 120 digits in a folder for each, with the digits as labels."""
    place = tmp_path_factory.mktemp("map")
    for file in sorted(HELD_OUT.glob("*.png"))[:120]:
        (place / "digits" / file.stem[-1]).mkdir(parents=True, exist_ok=True)
        (place / "digits" / file.stem[-1] / file.name).write_bytes(file.read_bytes())
    with FeatureExtractor(CHECKPOINT, "global_pool") as extractor:
        extract([place / "digits"], place / "features", extractor)
    return place / "features"


def test_principal_components_are_those_of_scikit_learn(tmp_path, monkeypatch):
    """Rows in several blocks, far from 0, with failed images and a sample."""
    from sklearn.decomposition import PCA

    monkeypatch.setattr("tools.visualization.matrix._BLOCK", 8 * 12 * 70)
    vectors, _ = groups_of(300, 12)
    vectors[[0, 71, 299]] = np.nan
    matrix = open_matrix(write_features(tmp_path / "features", vectors))
    found = project(matrix)
    good = np.setdiff1d(np.arange(300), [0, 71, 299])
    assert np.array_equal(found.rows, good)
    expected = PCA(2, svd_solver="full")
    points = expected.fit_transform(vectors[good].astype(np.float64))
    np.testing.assert_allclose(np.abs(found.points), np.abs(points), atol=1e-9)
    np.testing.assert_allclose(found.explained, expected.explained_variance_ratio_, rtol=1e-9)
    some = project(matrix, sample=50, seed=1)
    assert len(some.rows) in range(47, 51)
    assert {*some.rows.tolist()} < {*good.tolist()}
    assert not np.array_equal(some.rows, project(matrix, sample=50, seed=2).rows)


def test_a_single_channel(tmp_path):
    matrix = open_matrix(write_features(tmp_path / "features", [[1.0], [2.0], [4.0]]))
    assert project(matrix).points.tolist() == pytest.approx(np.array([[-4 / 3, 0], [-1 / 3, 0], [5 / 3, 0]]))


def test_t_sne_of_equal_rows_and_of_few(tmp_path):
    """scikit-learn crashes on equal rows, and wants more rows than its usual perplexity, failed ones not counted."""
    equal = write_features(tmp_path / "equal", np.ones([40, 3]))
    assert project(open_matrix(equal), "tsne").points.tolist() == [[0, 0]] * 40
    rows = groups_of(40, 4)[0]
    rows[4:] = np.nan
    found = project(open_matrix(write_features(tmp_path / "few", rows)), "tsne")
    assert found.rows.tolist() == [0, 1, 2, 3]
    assert np.isfinite(found.points).all()


@pytest.mark.full
def test_umap_of_three_rows(tmp_path):
    found = project(open_matrix(write_features(tmp_path / "features", np.eye(3))), "umap")
    assert np.isfinite(found.points).all()


@pytest.mark.full
@pytest.mark.parametrize("size", [1e-30, 1e36])
@pytest.mark.parametrize("method", ["tsne", "umap"])
def test_other_methods_at_any_size_of_numbers(tmp_path, method, size):
    from sklearn.metrics import silhouette_score

    vectors, names = groups_of(60, 10)
    matrix = open_matrix(write_features(tmp_path / "features", (vectors.astype(np.float64) - 100) * size))
    assert silhouette_score(project(matrix, method).points, names) > 0.5


@pytest.mark.full
@pytest.mark.parametrize("method", ["tsne", "umap"])
def test_other_methods_keep_groups_together(tmp_path, method):
    from sklearn.metrics import silhouette_score

    vectors, names = groups_of(120, 60)
    found = project(open_matrix(write_features(tmp_path / "features", vectors)), method)
    assert silhouette_score(found.points, names) > 0.5
    assert found.explained is None


def test_a_probe_is_scikit_learns(tmp_path):
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import silhouette_score
    from sklearn.model_selection import LeaveOneOut, StratifiedKFold, cross_val_score
    from sklearn.neighbors import KNeighborsClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    vectors, names = groups_of(90, 4, spread=3.5)
    names[7] = ""  # an image without a label
    matrix = open_matrix(write_features(tmp_path / "features", vectors, names))
    projection = project(matrix)
    found = probe(matrix, names, projection)
    used = np.array([name != "" for name in names])
    x, y = vectors[used].astype(np.float64), np.array(names)[used]
    assert found.images == 89
    nearest = KNeighborsClassifier(5, algorithm="brute")
    assert found.k_nearest == pytest.approx(cross_val_score(nearest, x, y, cv=LeaveOneOut()).mean(), abs=1e-12)
    linear = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000))
    parts = StratifiedKFold(5, shuffle=True, random_state=0)
    assert found.linear == pytest.approx(cross_val_score(linear, x, y, cv=parts).mean(), abs=1e-12)
    assert 0.3 < found.k_nearest < 1
    assert 0.3 < found.linear < 1
    assert found.silhouette == pytest.approx(silhouette_score(projection.points[used], y))


def test_features_separate_the_digits_better_than_pixels(labelled, tmp_path):
    from sklearn.metrics import silhouette_score

    index = open_matrix(labelled).index
    pixels = [decode(row.path)[..., 0].ravel() for row in index]
    write_features(tmp_path / "pixels", pixels, [row.label for row in index])
    labels = [row.label for row in index]
    by_features, by_pixels = (
        silhouette_score(feature_map(folder).projection.points, labels) for folder in (labelled, tmp_path / "pixels")
    )
    assert by_features > by_pixels + 0.3


def test_the_command(labelled, tmp_path, capfd):
    output = tmp_path / "map"
    assert main(["map", str(labelled), "--output", str(output)]) == 0
    assert capfd.readouterr().out == f"120 images by global_pool: {output}/index.html\n"
    assert {file.name for file in output.iterdir()} == {"index.html", "map.png", "points.csv", "projector"}
    found = project(open_matrix(labelled))
    with (output / "points.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [row["path"] for row in rows] == [row.path for row in open_matrix(labelled).index]
    assert all(row["group"] == row["path"].split("/")[-2] for row in rows)
    np.testing.assert_allclose([[float(row["x"]), float(row["y"])] for row in rows], found.points, rtol=1e-5, atol=1e-6)
    with Image.open(output / "map.png") as picture:
        assert picture.size == (1200, 840)
    # TensorBoard's projector.
    vectors = np.loadtxt(output / "projector" / "vectors.tsv", delimiter="\t")
    np.testing.assert_allclose(vectors, open_matrix(labelled).take(range(120)), rtol=1e-5, atol=1e-7)
    lines = (output / "projector" / "metadata.tsv").read_text().splitlines()
    assert lines[0] == "image\tgroup"
    assert lines[1:] == [f"{row['path']}\t{row['group']}" for row in rows]
    with Image.open(output / "projector" / "sprite.png") as sprite:
        assert sprite.size == (11 * 48, 11 * 48)
        tile = np.asarray(sprite)[48:96, 96:144, 0]  # number 13: row 1, column 2
    expected = decode(rows[13]["path"])[..., 0].repeat(6, axis=0).repeat(6, axis=1)
    assert np.abs(tile.astype(int) - expected).mean() < 40
    assert np.corrcoef(tile.ravel(), expected.ravel())[0, 1] > 0.9
    # A page that holds all.
    page = (output / "index.html").read_text()
    assert page.count("<circle ") == 120 + 10
    assert page.count("data:image/") == 120
    assert (output / "index.html").stat().st_size < 1_000_000
    assert main(["map", str(labelled), "--output", str(output)]) == 1
    assert "holds earlier results: name another, or replace them with --overwrite" in capfd.readouterr().err
    assert main(["map", str(labelled), "--output", str(output), "--overwrite", "--json"]) == 0
    assert json.loads(capfd.readouterr().out)["probe"] is None


def test_a_stopped_command_leaves_nothing(labelled, tmp_path):
    done = run_stopped("tools.visualization.mapping", "_draw", "map", labelled, "--output", tmp_path / "map")
    assert done.returncode == 1
    assert done.stderr.endswith("slimnets: interrupted; unfinished work is not kept\n")
    assert list(tmp_path.iterdir()) == []


def test_the_command_probes(tmp_path, capfd):
    vectors, names = groups_of(60, 4)
    folder = write_features(tmp_path / "features", vectors, names)
    assert main(["map", str(folder), "--output", str(tmp_path / "map"), "--probe"]) == 0
    out = capfd.readouterr().out
    found = feature_map(folder, probe_labels=True).probe
    for name, value in {"nearest 5 neighbours": found.k_nearest, "linear classifier": found.linear}.items():
        assert re.search(rf"^{name} +{value:.4f} +60 *$", out, re.MULTILINE)
    page = (tmp_path / "map" / "index.html").read_text()
    assert f"right for {100 * found.linear:.1f} %" in page
    assert "60 of them have no thumbnail: the images were not found at their names." in page


def test_clusters(tmp_path):
    vectors, names = groups_of(150, 8, spread=0.3)
    folder = write_features(tmp_path / "features", vectors)
    found = feature_map(folder, color="cluster", num_clusters=5).groups
    pairs = {*zip(found, names, strict=True)}
    assert len(pairs) == 5  # a cluster for each group
    sizes = [found.count(f"cluster {number}") for number in range(1, 6)]
    assert sizes == sorted(sizes, reverse=True)
    assert {*feature_map(folder, color="cluster", num_clusters=1).groups} == {"cluster 1"}
    equal = write_features(tmp_path / "equal", np.ones([5, 3]))
    assert {*feature_map(equal, color="cluster").groups} == {"cluster 1"}


def test_names_of_groups(tmp_path, monkeypatch):
    """They are sorted by the numbers at their ends. The picture's legend has all of them, as they are."""
    figures = []
    monkeypatch.setattr("matplotlib.figure.Figure.savefig", lambda figure, *_, **__: figures.append(figure))
    names = ["b10", "b2", "_hidden", "a$x$b$", "c" * 50, "\x1b[31mred\n", "日本語", ""]
    folder = write_features(tmp_path / "features", np.random.default_rng(0).normal(size=(16, 3)), names * 2)
    feature_map(folder, tmp_path / "map")
    (figure,) = figures
    long = "c" * 15 + "…" + "c" * 14
    texts = [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
    assert texts == [r"\x1b[31mred", "_hidden", "a$x$b$", "b2", "b10", long, "日本語", "no label"]
    page = (tmp_path / "map" / "index.html").read_text()
    assert re.findall(r"<bdi>(.*?)</bdi> \(2\)", page, re.DOTALL) == [
        *("\\x1b[31mred\n", "_hidden", "a$x$b$", "b2", "b10", "c" * 50, "日本語", "no label")
    ]
    assert page.count('class="group-7"') == 3  # two images without a label, and the legend
    assert "\x1b" not in page


def contrast(*colours):
    """Returns the contrast of two colours by the Web Content Accessibility Guidelines 2.2."""
    lights = []
    for colour in colours:
        shares = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
        linear = [share / 12.92 if share <= 0.04045 else ((share + 0.055) / 1.055) ** 2.4 for share in shares]
        lights.append(np.dot(linear, [0.2126, 0.7152, 0.0722]) + 0.05)
    return max(lights) / min(lights)


def test_colours_can_be_seen():
    """Text has a contrast of 4.5 at least, points have 3, as the guidelines ask for, in the light and in the dark."""
    assert contrast("#ffffff", "#000000") == pytest.approx(21)
    styles = re.findall(r":root \{(.*?)\}", (PAGES / "page.css").read_text())
    for style, colours in zip(styles, (COLOURS, DARK), strict=True):
        of = dict(re.findall(r"--(\w+): (#\w+);", style))
        of = {name: colour if len(colour) == 7 else f"#{colour[1:] * 2}" for name, colour in of.items()}
        for paper in ("paper", "panel"):
            assert min(contrast(of[paper], of[name]) for name in ("ink", "soft", "mark")) >= 4.5
        assert min(contrast(of["panel"], colour) for colour in colours) >= 3
        assert len({*colours}) == len(COLOURS)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"color": "label"}, "have no labels: make features of a folder with a folder for each class"),
        ({"probe_labels": True}, "have no labels"),
        ({"method": "isomap"}, "method must be one of pca, tsne, umap, and is 'isomap'"),
        ({"color": "size"}, "color must be label, cluster or none, and is 'size'"),
        ({"num_clusters": 0}, "num_clusters must be at least 1, and is 0"),
        ({"sample": 2}, "sample must be at least 3, and is 2"),
        ({"seed": -1}, "seed must be a number from 0 to 4294967295, and is -1"),
        ({"end_point": "logits"}, "has no end point 'logits': there is global_pool"),
    ],
)
def test_bad_input(tmp_path, options, words):
    folder = write_features(tmp_path / "features", groups_of(20, 4)[0])
    with pytest.raises(InputError, match=words):
        feature_map(folder, tmp_path / "map", **options)
    assert not (tmp_path / "map").exists()


def test_features_that_cannot_be_mapped(tmp_path, monkeypatch):
    rows = groups_of(20, 4)[0]
    rows[2:] = np.nan
    failed = write_features(tmp_path / "failed", rows)
    with pytest.raises(InputError, match=r"^A map needs at least 3 images .* has 2: make features of more images\.$"):
        feature_map(failed, method="tsne")
    with pytest.raises(InputError, match=r"and the sample of .*failed has [012]: take a larger sample"):
        feature_map(failed, sample=5)
    with pytest.raises(InputError, match=r"has block2 \[5, 2, 2, 3\], and a vector an image is required"):
        feature_map(write_features(tmp_path / "maps", np.ones([5, 2, 2, 3]), alias="block2"))
    few = write_features(tmp_path / "few", groups_of(20, 4)[0], ["a"] * 16 + ["b"] * 4)
    with pytest.raises(InputError, match="at least 2 labels with 5 images each: a has 16, b has 4"):
        feature_map(few, probe_labels=True)
    monkeypatch.setattr("tools.visualization.projection.available_memory", lambda: 200_000)
    with pytest.raises(InputError, match=r"tsne of 20 rows takes some 0\.0 GB, .*sample=8, or method='pca'"):
        feature_map(few, method="tsne")
    assert len(feature_map(few, sample=8).names) == 8


def test_without_the_extras(tmp_path, monkeypatch):
    """PCA needs nothing beyond NumPy; the picture, the other methods and the probe say what they require."""
    folder = write_features(tmp_path / "features", *groups_of(20, 4))
    for module in ("matplotlib.figure", "sklearn.manifold", "sklearn.metrics", "umap"):
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.warns(UserWarning, match=r"map\.png requires matplotlib: pip install 'slimnets\[plot\]'"):
        feature_map(folder, tmp_path / "map")
    assert {file.name for file in (tmp_path / "map").iterdir()} == {"index.html", "points.csv", "projector"}
    for method, package in {"tsne": "scikit-learn", "umap": "umap-learn"}.items():
        words = rf"^{method} requires {package}: pip install 'slimnets\[map\]', or use method='pca'\.$"
        with pytest.raises(InputError, match=words):
            feature_map(folder, method=method)
    with pytest.raises(InputError, match=r"^A probe requires scikit-learn: pip install 'slimnets\[map\]'\.$"):
        feature_map(folder, probe_labels=True)


@pytest.mark.full
def test_the_command_without_the_extras(tmp_path):
    folder = write_features(tmp_path / "features", *groups_of(20, 4))
    code = (
        "import sys\nfor name in ('matplotlib', 'sklearn', 'scipy', 'umap'): sys.modules[name] = None\n"
        "from tools.cli import main\nsys.exit(main(sys.argv[1:]))"
    )
    arguments = [sys.executable, "-c", code, "map", str(folder), "--output", str(tmp_path / "map")]
    done = subprocess.run(arguments, capture_output=True, text=True, env=environment(), check=False)
    assert done.returncode == 0, done.stderr
    assert "warning: map.png requires matplotlib: pip install 'slimnets[plot]'" in done.stderr
    done = subprocess.run(
        [*arguments, "--overwrite", "--method", "tsne"], capture_output=True, text=True, env=environment(), check=False
    )
    assert done.returncode == 1
    assert done.stderr.endswith("tsne requires scikit-learn: pip install 'slimnets[map]', or use --method pca.\n")


MARKUP = "<img src=x onerror=alert(1)><script>document.title='run'</script>\"'&.png"


def hostile_folder(place):
    """Returns features of four images, whose names and labels have markup in them."""
    (place / "a").mkdir(parents=True)
    colours = [(255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 0)]
    names = [MARKUP.replace("/", ":"), "</script><script>alert(2)</script>.png".replace("/", ":"), "b.png", "c.png"]
    paths = [place / "a" / name for name in names]
    for path, colour in zip(paths, colours, strict=True):
        Image.new("RGB", (20, 20), colour).save(path)
    labels = ["<b>bold</b>", "</script><script>document.title='run'</script>", "<b>bold</b>", "&amp;"]
    rows = [[0, 0], [10, 0], [0, 6], [10, 6.5]]
    return write_features(place / "features", rows, labels, paths), paths, labels, colours


def test_names_are_text(tmp_path):
    folder, _, _, _ = hostile_folder(tmp_path)
    feature_map(folder, tmp_path / "map")
    page = (tmp_path / "map" / "index.html").read_text()
    assert page.count("<script") == 2  # its data and its own code
    assert "<img src=x" not in page
    assert "<b>" not in page
    assert "<bdi>&lt;b&gt;bold&lt;/b&gt;</bdi> (2)" in page
    assert "default-src &#x27;none&#x27;" in page


@pytest.mark.full
def test_the_page_in_a_browser(tmp_path):
    """Nothing is loaded, nothing is said, hovering and keys show the right thumbnail, and names run nothing."""
    folder, paths, labels, colours = hostile_folder(tmp_path)
    feature_map(folder, tmp_path / "map")
    with Browser() as browser:
        for dark in (False, True):
            page = browser.open(tmp_path / "map" / "index.html", dark=dark)
            assert page.run("getComputedStyle(document.body).backgroundColor") == (
                "rgb(22, 24, 27)" if dark else "rgb(255, 255, 255)"
            )
            for number, (path, label, colour) in enumerate(zip(paths, labels, colours, strict=True)):
                page.hover("#plot circle", number)
                assert page.run("document.getElementById('card').hidden") is False
                assert page.run("document.getElementById('card').textContent") == f"{path}, {label}"
                assert page.run(PIXEL) == [*colour, 255]
            page.run("document.getElementById('plot').focus()")
            page.press("Escape")
            assert page.run("document.getElementById('card').hidden") is True
            for key, number in [("Home", 0), ("ArrowRight", 1), ("ArrowUp", 3), ("ArrowLeft", 2), ("ArrowDown", 0)]:
                page.press(key)
                assert page.run("document.getElementById('said').textContent") == f"{paths[number]}, {labels[number]}"
            page.tap("#plot circle", 1)
            assert page.run("document.getElementById('card').textContent") == f"{paths[1]}, {labels[1]}"
            assert page.run("document.getElementById('card').hidden") is False
            # Without its label, an image cannot be seen or reached.
            page.run("document.querySelector('.legend input').click()")
            assert page.run("document.querySelectorAll('#plot circle.off').length") == labels.count(sorted(labels)[0])
            assert page.run("document.title") == "4 images by global_pool"
            assert page.run("document.querySelectorAll('script').length") == 2
            assert page.names("checkbox") == ["&amp; (1)", f"{labels[1]} (1)", "<b>bold</b> (2)"]
            assert page.requests() == []
            assert page.complaints() == []


# The colour in the middle of the thumbnail.
PIXEL = """
(async () => {
  const image = document.querySelector("#card img");
  await image.decode();
  const canvas = document.createElement("canvas");
  canvas.width = image.naturalWidth; canvas.height = image.naturalHeight;
  const context = canvas.getContext("2d");
  context.drawImage(image, 0, 0);
  return [...context.getImageData(canvas.width / 2, canvas.height / 2, 1, 1).data];
})()
"""


@pytest.mark.full
def test_the_browser_sees_what_it_must(tmp_path):
    """Shows that the checks above can fail: a page that loads, complains and runs what a name says."""
    bad = tmp_path / "bad.html"
    script = "<script>document.title = 'run'; nothing()</script>"
    bad.write_text(f"<title>a</title><img src='https://example.org/a.png'>{script}")
    with Browser() as browser:
        page = browser.open(bad)
        assert page.run("document.title") == "run"
        assert "https://example.org/a.png" in page.requests()
        assert page.complaints()
