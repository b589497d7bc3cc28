"""Tests networks in training mode on mixed batches. The expected logits come from the network in NumPy."""

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from checkpoints import open_checkpoint
from tests.helpers import numpy_cifar
from tests.helpers.corpus import save_v2, weights
from tools.errors import InputError
from tools.evaluation.batch_statistics import BatchStatisticsNetwork, batch_statistics_logits, even_sizes, mixed_rows
from tools.features.network_choice import choose_network
from tools.images import open_inputs

CIFAR = "resnet_cifar_20"


@pytest.fixture(scope="module")
def cifar(tmp_path_factory):
    """Returns a checkpoint of a small network, and the weights in it."""
    values = weights(CIFAR)
    return save_v2(tmp_path_factory.mktemp("cifar") / "model.ckpt", values), values


@pytest.fixture(scope="module")
def network(cifar):
    with BatchStatisticsNetwork(cifar[0], batch_size=4) as network:
        yield network


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """Returns a folder of eleven images of 32x32, the fourth of which is damaged, and the pixels of the others."""
    folder = tmp_path_factory.mktemp("pictures")
    pixels = np.random.default_rng(0).integers(0, 256, (11, 32, 32, 3), dtype=np.uint8)
    for i, image in enumerate(pixels):
        Image.fromarray(image).save(folder / f"{i:02}.png")
    (folder / "03.png").write_bytes(b"not an image, though its name says so")
    return folder, np.delete(pixels, 3, axis=0)


def standardized(images):
    """Returns images as slim's preprocessing for CIFAR makes them."""
    images = images.astype(np.float64)
    deviation = images.std(axis=(1, 2, 3), keepdims=True)
    return (images - images.mean(axis=(1, 2, 3), keepdims=True)) / np.maximum(deviation, images[0].size ** -0.5)


@pytest.mark.numerical
def test_logits_and_statistics_are_those_of_numpy(cifar, network, pictures):
    (_, values), (folder, pixels) = cifar, pictures
    inputs = open_inputs([str(folder)])
    rows, failed = network.readable(inputs, range(len(inputs)))
    assert rows == [0, 1, 2, 4, 5, 6, 7, 8, 9, 10]
    [status] = failed
    assert status.path.endswith("03.png")
    assert "not an image" in status.error
    batches = list(network.batches(inputs, rows))
    done = []
    logits = batch_statistics_logits(network, inputs, rows, done.append)
    assert done == [0, 4, 3, 3]
    assert [len(batch.statuses) for batch in batches] == [4, 3, 3]
    for batch, images in zip(batches, np.split(standardized(pixels), [4, 7]), strict=True):
        expected = numpy_cifar.forward(values, images, *numpy_cifar.SIZES[CIFAR], training=True)
        np.testing.assert_allclose(batch.logits, expected.logits, rtol=1e-4, atol=1e-4)
        assert len(batch.statistics) == 2 * len(expected.batch_statistics)
        for scope, (mean, variance) in expected.batch_statistics.items():
            scale = np.sqrt(variance.mean())
            np.testing.assert_allclose(batch.statistics[f"{scope}/moving_mean"], mean, atol=1e-4 * scale)
            np.testing.assert_allclose(batch.statistics[f"{scope}/moving_variance"], variance, atol=1e-4 * scale**2)
    np.testing.assert_array_equal(logits, np.concatenate([batch.logits for batch in batches]))


def test_dropout_is_off(tmp_path):
    """With dropout, the network has an end point of that name."""
    reader = open_checkpoint(save_v2(tmp_path / "model.ckpt", weights("resnet_keras_18")))
    choice = choose_network(reader, None, None, None, None, None, is_training=True)
    with tf.Graph().as_default():
        net, end_points = choice.build(tf.zeros([2, 16, 16, 3]))
    assert net is end_points["resnet_keras_18/logits"]


def test_an_image_that_vanishes_stops_the_pass(network, pictures):
    inputs = open_inputs([str(pictures[0])])
    with pytest.raises(InputError, match=r"03.png cannot be read any more \(.*\): leave the images as they are"):
        batch_statistics_logits(network, inputs, [0, 3])


def test_rows_are_mixed_and_the_same_each_time():
    rows = mixed_rows(1000)
    assert sorted(rows) == list(range(1000))
    assert rows == mixed_rows(1000) != mixed_rows(1000, seed=1)
    assert mixed_rows(1000, 10) == rows[:10]
    assert mixed_rows(3, 10) == mixed_rows(3)
    # A batch of 32 out of ten sorted classes has all of them.
    assert len({row // 100 for row in rows[:32]}) == 10


@pytest.mark.parametrize(
    ("count", "batch_size", "expected"),
    [
        (0, 4, []),
        (1, 4, [(1, 1)]),
        (4, 4, [(4, 1)]),
        (5, 4, [(3, 1), (2, 1)]),
        (11, 4, [(4, 2), (3, 1)]),
        (65, 32, [(22, 2), (21, 1)]),
    ],
)
def test_batches_have_nearly_the_same_size(count, batch_size, expected):
    assert even_sizes(count, batch_size) == expected


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"batch_size": 0}, "batch_size must be at least 1, and is 0"),
        ({"net": lambda images: (images, {})}, "A function as net builds for inference: give the name of a network"),
        ({"preprocessing": "vg"}, "Unknown preprocessing 'vg'"),
    ],
)
def test_arguments_that_cannot_be_honoured(tiny_checkpoint, options, sentence):
    with pytest.raises(ValueError, match=sentence):
        BatchStatisticsNetwork(tiny_checkpoint, **options)
