"""Tests batches from files, in the graph."""

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from nets.preprocessing import preprocess, scaled_size
from tools.images.pipeline import ImagePipeline
from tools.images.sources.files import ImageFiles

v1 = tf.compat.v1


def noise(*shape):
    return np.random.default_rng(0).integers(0, 256, shape, np.uint8)


@pytest.fixture
def files(tmp_path):
    """Returns seven images of different sizes, and among them a file that is not an image."""
    paths = [str(tmp_path / f"{i}.png") for i in range(7)]
    for i, path in enumerate(paths):
        Image.fromarray(noise(20 + i, 40 - i, 3)).save(path)
    (tmp_path / "none.png").write_bytes(b"none")
    return [*paths[:3], str(tmp_path / "none.png"), *paths[3:]]


def expected(path, name):
    with tf.Graph().as_default(), v1.Session() as session, Image.open(path) as image:
        return session.run(preprocess(tf.constant(np.asarray(image)[np.newaxis]), name, 16))[0]


@pytest.mark.numerical
@pytest.mark.parametrize("name", ["vgg", "inception", "cifar", "grayscale"])
def test_batches(files, name):
    """Batches keep the order of the files; the row of a failed file is NaN."""
    with tf.Graph().as_default(), v1.Session() as session:
        pipeline = ImagePipeline(name, 16)
        batches = list(pipeline.batches(session, {"images": pipeline.batch}, ImageFiles(files), range(8), 3))
    assert [len(statuses) for statuses, _ in batches] == [3, 3, 2]
    statuses = [status for some, _ in batches for status in some]
    images = np.concatenate([some["images"] for _, some in batches])
    assert images.shape == (8, 16, 16, 1 if name == "grayscale" else 3)
    assert [status.path for status in statuses] == files
    assert [status.error is not None for status in statuses] == [False] * 3 + [True] + [False] * 4
    assert [(status.width, status.height) for status in statuses[4:6]] == [(37, 23), (36, 24)]
    for status, image in zip(statuses, images, strict=True):
        assert np.isnan(image).all() == (status.error is not None)
        if status.error is None:
            wanted = expected(status.path, name)
            # Functions and batches may take the ops' sums in another order, and values may be near 0.
            np.testing.assert_allclose(image, wanted, rtol=0, atol=1e-5 * np.ptp(wanted))


def test_nothing_is_decoded_without_end(files, monkeypatch):
    """Memory does not grow with the number of files: only a few of them are in progress."""
    decoded = []
    monkeypatch.setattr("tools.images.reading.decode", lambda data: decoded.append(data) or noise(16, 16, 3))
    with tf.Graph().as_default(), v1.Session() as session:
        pipeline = ImagePipeline("none", 16)
        batches = pipeline.batches(session, {"images": pipeline.batch}, ImageFiles([files[0]] * 1000), range(1000), 4)
        next(batches)
        session.run(tf.no_op())
        batches.close()
    # The batch that came, two that wait, and those that are being made.
    assert 4 <= len(decoded) <= 40


@pytest.mark.parametrize(
    ("name", "height", "width", "size"),
    [
        # The shorter side becomes 256 * 224 / 224 = 256, the longer one 500 * 256 / 375 = 341.3.
        ("vgg", 375, 500, (256, 341)),
        ("vgg", 1, 1000, (256, 256_000)),
        ("inception", 375, 500, (375, 500)),
        ("cifar", 100, 300, (224, 300)),
    ],
)
def test_scaled_size(name, height, width, size):
    assert scaled_size(name, 224, height, width) == size
