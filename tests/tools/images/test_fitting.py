"""Tests preprocessing in NumPy against the same preprocessing in the graph, and the batches that are made of it."""

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from nets import preprocessing
from tools.errors import InputError
from tools.images.batches import ArrayPipeline
from tools.images.fitting import FITTED, fit, scaled_size
from tools.images.reading import read_image
from tools.images.sources.files import ImageFiles

v1 = tf.compat.v1


def noise(*shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


SIDES = [(375, 500), (500, 375), (1, 1), (3, 900), (33, 33), (256, 256), (17, 23), (1000, 31), (1200, 1600), (37, 38)]


@pytest.mark.parametrize("size", [33, 224, 299])
@pytest.mark.parametrize("name", ["vgg", "inception"])
def test_fitted_as_in_the_graph(name, size):
    """Both compute in float32 in the same order. A processor that fuses operations may differ in the last bits."""
    generator = np.random.default_rng(0)
    with tf.Graph().as_default(), v1.Session() as session:
        images = v1.placeholder(tf.uint8, [None, None, 3])
        preprocessed = preprocessing.preprocess(images[tf.newaxis], name, size)[0]
        for height, width in SIDES:
            pixels = generator.integers(0, 256, [height, width, 3], np.uint8)
            found, wanted = fit(pixels, name, size), session.run(preprocessed, {images: pixels})
            assert found.dtype == np.float32
            assert found.shape == wanted.shape
            assert np.abs(found - wanted).max() <= 4 * np.spacing(np.float32(255 if name == "vgg" else 1))


def test_without_preprocessing():
    pixels = noise(16, 16, 3)
    assert np.array_equal(fit(pixels, "none", 16), pixels.astype(np.float32))


@pytest.mark.parametrize("name", sorted(preprocessing.PREPROCESSINGS))
@pytest.mark.parametrize(("height", "width"), [(375, 500), (1, 1000), (900, 40), (224, 224)])
def test_scaled_size_as_in_the_graph(name, height, width):
    expected = preprocessing.scaled_size(name, 224, height, width)
    # Of the image itself and the largest that is made of it, the memory of the larger one is needed.
    assert scaled_size(name, 224, height, width) == (max(height, 224, expected[0]), max(width, 224, expected[1]))


@pytest.fixture
def files(tmp_path):
    """Returns the paths of 11 images of several sizes. The third and the last cannot be decoded."""
    paths = [str(tmp_path / f"{number}.png") for number in range(11)]
    for number, path in enumerate(paths):
        Image.fromarray(noise(40 + number, 50, 3, seed=number)).save(path)
    for number in (2, 10):
        (tmp_path / f"{number}.png").write_bytes(b"no image at all")
    return paths


@pytest.mark.parametrize("preprocessing_name", sorted(FITTED.keys() - {"none"}))
def test_batches(files, preprocessing_name):
    given = []

    def compute(batch):
        given.append(batch.copy())
        return {"": batch.copy()}

    inputs = ImageFiles(files)
    pipeline = ArrayPipeline(preprocessing_name, 32, threads=3)
    found = list(pipeline.batches(inputs, range(11), 4, compute))
    assert [[status.path for status in statuses] for statuses, _ in found] == [files[:4], files[4:8], files[8:]]
    assert all(batch.shape == (4, 32, 32, 3) for batch in given)
    rows = np.concatenate([features[""] for _, features in found])
    for row, values in enumerate(rows):
        status, pixels = read_image(inputs, row, preprocessing_name, 32)
        # The stamp of a file that was just written tells when it was read.
        assert found[row // 4][0][row % 4]._replace(stamp=None) == status._replace(stamp=None)
        if status.error is None:
            assert np.array_equal(values, fit(pixels, preprocessing_name, 32))
        else:
            assert np.isnan(values).all()
    assert not given[2][2:].any()  # the failed image, and what fills the batch


def test_no_batches_of_no_rows():
    assert list(ArrayPipeline("vgg", 32).batches(ImageFiles([]), [], 4, lambda batch: {})) == []


def test_batches_can_be_left(files, monkeypatch):
    """Images that wait when the caller leaves are not decoded."""
    decoded = []
    monkeypatch.setattr("tools.images.reading.decode", lambda data: decoded.append(data) or noise(40, 40, 3))
    batches = ArrayPipeline("vgg", 32, threads=1).batches(
        ImageFiles([files[0]] * 1000), range(1000), 4, lambda batch: {"": batch.copy()}
    )
    next(batches)
    batches.close()
    assert 4 <= len(decoded) <= 16


def test_trouble_with_the_storage_is_raised(files, monkeypatch):
    def fails(self, row):
        raise InputError("The storage is gone.")

    monkeypatch.setattr(ImageFiles, "read", fails)
    with pytest.raises(InputError, match=r"The storage is gone\."):
        list(ArrayPipeline("vgg", 32).batches(ImageFiles(files), range(11), 4, lambda batch: {}))
