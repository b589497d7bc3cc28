"""Tests what ships: the trained checkpoint, the digits, and the demo on them."""

import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import checkpoints
from tools import digits as example
from tools import features
from tools.cli import main

SHIPPED = Path(checkpoints.__file__).parent

# Errors of a nearest-neighbour classifier of the 360 digits by the raw pixels of the 1,437 others, in the published
# split of the data set. This also checks the images themselves.
ERRORS_ON_PIXELS = 16


@pytest.fixture(scope="module")
def output(tmp_path_factory):
    return tmp_path_factory.mktemp("demo") / "output"


@pytest.mark.numerical
def test_demo_reports_half_the_errors_of_raw_pixels_or_fewer(output, capfd):
    assert main(["demo", "--output", str(output)]) == 0
    printed = capfd.readouterr().out
    counts = dict(
        re.findall(r"^  (nearest neighbour on raw pixels|nearest .* global_pool|the .* logits) +(\d+)$", printed, re.M)
    )
    pixels, global_pool, logits = (int(count) for count in counts.values())
    assert pixels == ERRORS_ON_PIXELS
    assert global_pool <= ERRORS_ON_PIXELS // 2
    assert logits <= ERRORS_ON_PIXELS // 2
    assert "resnet_v2_tiny/block4/unit_1/bottleneck_v2/conv3" in printed


def test_demo_leaves_features_and_a_picture_and_can_be_run_again(output, capfd):
    loaded = features.load(output / "features")
    assert len(loaded.index) == 360
    assert {row.status for row in loaded.index} == {"ok"}
    assert loaded.arrays["global_pool"].shape == (360, 512)
    with Image.open(output / "neighbours.png") as picture:
        # Three rows of equal square tiles, with one column for each digit that raw pixels get wrong.
        assert picture.width * 3 == picture.height * ERRORS_ON_PIXELS
    assert main(["demo", "--output", str(output)]) == 0
    again = features.load(output / "features").arrays["global_pool"]
    assert np.array_equal(again, loaded.arrays["global_pool"])


def test_demo_does_not_touch_a_folder_of_somebody_elses(tmp_path, capfd):
    (tmp_path / "mine.txt").write_text("keep")
    assert main(["demo", "--output", str(tmp_path)]) == 1
    assert "is not empty" in capfd.readouterr().err
    assert [file.name for file in tmp_path.iterdir()] == ["mine.txt"]


def test_what_ships_is_small():
    weights = sum(file.stat().st_size for file in SHIPPED.glob("resnet_v2_tiny_digits.ckpt.*"))
    assert 0 < weights <= 4_000_000
    images = list(example.HELD_OUT.glob("*.png"))
    assert len(images) == 360
    assert sum(file.stat().st_size for file in images) <= 1_000_000


def test_the_reference_digits_are_all_there():
    digits = example.digits()
    assert digits.images.shape == (1437, 8, 8, 3)
    assert digits.images.dtype == np.uint8
    # The data set holds grey values of 0 to 16.
    assert set(np.unique(digits.images)) <= {round(value * 255 / 16) for value in range(17)}
    assert np.bincount(digits.labels).min() > 130


def test_nearest_is_nearest():
    generator = np.random.default_rng(0)
    queries, references = generator.normal(size=[20, 5]), generator.normal(size=[30, 5])
    distances = np.linalg.norm(queries[:, np.newaxis] - references, axis=-1)
    assert np.array_equal(example.nearest(queries, references), np.argmin(distances, axis=1))
    assert example.errors(np.array([1, 2, 3]), np.array([1, 0, 3])) == 1
