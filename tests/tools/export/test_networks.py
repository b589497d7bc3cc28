"""Tests that exported files compute what the network computes in a plain graph, from pixels on."""

import contextlib
import shutil
from pathlib import Path

import numpy as np
import pytest

from nets.nets_factory import NETWORKS
from tests.helpers.exports import KERAS, TARGETS, expected, in_one_process, opened, pictures, random_checkpoint
from tests.helpers.float64 import assert_as_exact
from tests.helpers.networks import small_size
from tests.helpers.numpy_preprocessing import preprocessed
from tests.tools.export.conftest import POINTS
from tools.export import export

# Batches of one image and of more, of odd sizes, one of them smaller than the networks' input.
IMAGES = [pictures(2, 75, 91), pictures(1, 27, 41, seed=1), pictures(3, 64, 64, seed=2)]


@pytest.fixture(scope="module")
def reference(tiny):
    return expected(tiny, "resnet_v2_tiny", POINTS[:-1], IMAGES, 32)


@pytest.mark.numerical
@pytest.mark.parametrize("format", TARGETS | KERAS)
def test_a_small_network(exported, reference, format):
    """The file takes any number of images of any size."""
    done = exported(format)
    compute = opened(Path(done.target))
    for images, wanted in zip(IMAGES, reference, strict=True):
        values = compute(images if format in TARGETS else preprocessed(images, "inception", 32))
        assert sorted(values) == sorted(output.name for output in done.description.outputs)
        for name, one in wanted.items():
            assert_as_exact(values[name], one)
        if format not in TARGETS:
            continue
        scores = wanted["predictions"].double
        best = np.argsort(-scores, axis=1)[:, :5]
        assert np.array_equal(values["classes"], best)
        assert np.allclose(values["probabilities"], np.take_along_axis(scores, best, axis=1), rtol=1e-4)
        if "labels" in values:
            assert values["labels"].tolist() == [[str(number).encode() for number in row] for row in best]


# Network, and height and width of its input: every network at a small size, and some at the usual ones.
SMALL = 64
SIZES = [
    *((name, small_size(name, SMALL)) for name in NETWORKS),
    *((name, size) for name in ("resnet_v1_50", "resnet_v2_50", "resnet_v2_152") for size in (224, 299)),
]

# The networks that have no global pooling.
WITHOUT_POOL = ("alexnet_v2", "overfeat", "vgg_a", "vgg_16", "vgg_19")


@pytest.fixture(scope="module")
def network(request, tmp_path_factory):
    """Returns the name, the size, a checkpoint, and the values of the default end points for ``IMAGES``."""
    name, size = request.param
    folder = tmp_path_factory.mktemp(name)
    checkpoint = random_checkpoint(folder / f"{name}.ckpt", name, size)
    points = ["predictions"] if name in WITHOUT_POOL else ["global_pool", "predictions"]
    yield name, size, checkpoint, expected(checkpoint, name, points, IMAGES, size)
    shutil.rmtree(folder)


@pytest.mark.full
@pytest.mark.numerical
@pytest.mark.filterwarnings("ignore::nets.guards.InferenceWarning")  # of the size
@pytest.mark.parametrize("network", SIZES, indirect=True, ids=lambda value: f"{value[0]} at {value[1]}")
@pytest.mark.parametrize("format", TARGETS | KERAS)
def test_every_network(network, tmp_path, record_property, format):
    """Exports and proves in processes only at the usual sizes. The largest differences are printed and reported."""
    name, size, checkpoint, reference = network
    target = tmp_path / (TARGETS | KERAS)[format]
    with in_one_process() if size == small_size(name, SMALL) else contextlib.nullcontext():
        # The preprocessing of the table, and not the one of the published weights with 1001 classes.
        options = {"net": name, "image_size": size, "preprocessing": NETWORKS[name].preprocessing}
        done = export(checkpoint, target, **options)
    assert {one.output: one.difference <= 1e-4 for one in done.agreements} == dict.fromkeys(reference[0], True)
    compute = opened(target)
    for images, wanted in zip(IMAGES, reference, strict=True):
        values = compute(images if format in TARGETS else preprocessed(images, NETWORKS[name].preprocessing, size))
        for end_point, one in wanted.items():
            assert_as_exact(values[end_point], one)
    for one in done.agreements:
        record_property(one.output, one.difference)
        print(f"{name} at {size}, {format}, {one.output}: {one.difference:.1e}")
