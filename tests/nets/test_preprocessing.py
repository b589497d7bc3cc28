"""Compares the preprocessings with NumPy code for the results of TensorFlow 1."""

import numpy as np
import pytest
import skimage.data
import tensorflow as tf
from PIL import Image

from nets.preprocessing import PREPROCESSINGS, get_preprocessing, preprocess
from tests.helpers.numpy_preprocessing import preprocessed

v1 = tf.compat.v1

# Share of the range of values that a result may be off by: float32 carries 24 bits, 6e-8 of a value, and there are
# a few tens of operations, sums over whole images among them, from a pixel to its result.
TOLERANCE = 1e-5

SIZES = (224, 299, 32, 97)

REFERENCES = ("cifar", "grayscale", "inception", "vgg")


def graph_result(images, name, size, **options):
    with tf.Graph().as_default(), v1.Session() as session:
        placeholder = v1.placeholder(tf.as_dtype(images.dtype), [None, None, None, 3])
        return session.run(preprocess(placeholder, name, size, **options), {placeholder: images})


def noise(*shape):
    return np.random.default_rng(sum(shape)).integers(0, 256, shape, dtype=np.uint8)


# Landscape, portrait and square; odd and even sides; larger and smaller than any of the sizes.
IMAGES = {
    "astronaut": skimage.data.astronaut()[np.newaxis],
    "chelsea": skimage.data.chelsea()[np.newaxis],
    "coffee, portrait": skimage.data.coffee()[np.newaxis].swapaxes(1, 2),
    "rocket, odd": skimage.data.rocket()[np.newaxis, 3:, 6:251],
    "noise 333x501": noise(1, 333, 501, 3),
    "noise 501x333": noise(1, 501, 333, 3),
    "noise 57x43": noise(1, 57, 43, 3),
    "noise 33x64": noise(1, 33, 64, 3),
    "noise 8x8": noise(1, 8, 8, 3),
    "noise 1x7": noise(1, 1, 7, 3),
    "noise 256x256": noise(1, 256, 256, 3),
}


def assert_close(result, expected):
    assert result.dtype == np.float32
    assert result.shape == expected.shape
    error = np.abs(result - expected).max()
    assert error <= TOLERANCE * np.ptp(expected), f"{error:.3g} for values of a range of {np.ptp(expected):.3g}"


@pytest.mark.numerical
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("image", IMAGES)
@pytest.mark.parametrize("name", REFERENCES)
def test_equals_numpy(name, image, size):
    images = IMAGES[image]
    assert_close(graph_result(images, name, size), preprocessed(images, name, size))


@pytest.mark.numerical
@pytest.mark.parametrize("side", range(1, 40))
def test_crops_of_every_small_side(side):
    """Small sides show how halves are rounded, and which fraction of the side is truncated."""
    images = noise(1, side, 41 - side, 3)
    for name in REFERENCES:
        assert_close(graph_result(images, name, 19), preprocessed(images, name, 19))


def test_margin_of_inception_is_that_of_tensorflow():
    """``tf.image.central_crop`` computes it in float64."""
    for side in range(1, 2001):
        assert side // 16 == int((np.float64(side) - np.float64(side) * 0.875) / 2)


@pytest.mark.numerical
@pytest.mark.parametrize("level", [0, 7, 255])
def test_cifar_of_a_flat_image(level):
    """The deviation is 0; its lower bound of 1 / sqrt(count) keeps the result finite."""
    flat = np.full([1, 32, 32, 3], level, np.uint8)
    assert np.array_equal(graph_result(flat, "cifar", 32), np.zeros([1, 32, 32, 3]))
    nearly_flat = np.array(flat)
    nearly_flat[0, 0, 0, 0] ^= 1
    assert_close(graph_result(nearly_flat, "cifar", 32), preprocessed(nearly_flat, "cifar", 32))


@pytest.mark.parametrize("dtype", [np.uint8, np.int32, np.float16, np.float32, np.float64])
def test_none_changes_nothing(dtype):
    images = noise(2, 21, 21, 3).astype(dtype)
    result = graph_result(images, "none", 21)
    assert result.dtype == np.float32
    assert np.array_equal(result, images.astype(np.float32))


@pytest.mark.parametrize("name", PREPROCESSINGS)
def test_a_batch_is_its_images_one_by_one(name):
    size = 32
    images = noise(3, 32, 32, 3) if name == "none" else noise(3, 45, 70, 3)
    images[1] //= 4  # of another mean and deviation
    alone = [graph_result(images[i : i + 1], name, size) for i in range(len(images))]
    assert np.array_equal(graph_result(images, name, size), np.concatenate(alone))


@pytest.mark.parametrize("name", PREPROCESSINGS)
def test_static_shape(name):
    with tf.Graph().as_default():
        images = v1.placeholder(tf.uint8, [5, None, None, 3])
        channels = 1 if name == "grayscale" else 3
        assert preprocess(images, name, 32).shape.as_list() == [5, 32, 32, channels]
        images = v1.placeholder(tf.uint8, [None, None, None, 3])
        assert get_preprocessing(name, 97)(images).shape.as_list() == [None, 97, 97, channels]


@pytest.mark.numerical
@pytest.mark.parametrize("name", ["inception", "vgg"])
def test_resizing_is_not_that_of_tensorflow_2(name):
    """Half-pixel centres move the image by a part of a pixel, which is far above the tolerance."""
    images = IMAGES["astronaut"]
    size = 97
    if name == "inception":
        modern = (tf.image.resize(images[:, 32:480, 32:480] / np.float32(255), [size, size]).numpy() - 0.5) * 2
    else:
        modern = tf.image.resize(images, [111, 111]).numpy()[:, 7:104, 7:104] - [123.68, 116.78, 103.94]
    legacy = graph_result(images, name, size)
    assert_close(legacy, preprocessed(images, name, size))
    assert np.abs(legacy - modern).max() > 0.1 * np.ptp(legacy)


@pytest.mark.parametrize("portable", [False, True])
@pytest.mark.parametrize("size", [224, 97])
@pytest.mark.parametrize("cut", [(512, 512), (400, 500), (333, 257), (120, 90)])
def test_torchvision_is_pillow_and_its_documented_figures(cut, size, portable):
    """Pillow resizes the shorter side to 256 for 224, as in torchvision; rounding may differ by a level."""
    image = skimage.data.astronaut()[: cut[0], : cut[1]]
    shorter = round(256 * size / 224)
    height, width = (int(shorter * side / min(cut)) for side in cut)
    resized = np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR))
    top, left = round((height - size) / 2), round((width - size) / 2)
    pixels = graph_result(image[np.newaxis], "torchvision", size, portable=portable)[0]
    levels = (pixels * (0.229, 0.224, 0.225) + (0.485, 0.456, 0.406)) * 255
    differences = np.abs(levels - resized[top : top + size, left : left + size])
    assert differences.max() < 1.01
    assert np.mean(differences > 0.01) < 0.05


def test_unknown_name():
    with (
        tf.Graph().as_default(),
        pytest.raises(ValueError, match=r"'imagenet'.*cifar, grayscale, inception, none, torchvision, vgg"),
    ):
        preprocess(v1.placeholder(tf.uint8, [None, None, None, 3]), "imagenet", 224)


@pytest.mark.parametrize("name", REFERENCES)
@pytest.mark.parametrize("dtype", [tf.float32, tf.int32])
def test_input_that_is_not_uint8(name, dtype):
    with tf.Graph().as_default(), pytest.raises(ValueError, match=f"'{name}' takes uint8.*given {dtype.name}"):
        preprocess(v1.placeholder(dtype, [None, None, None, 3]), name, 224)


@pytest.mark.parametrize("name", PREPROCESSINGS)
@pytest.mark.parametrize("size", [0, -32])
def test_size_below_one(name, size):
    with tf.Graph().as_default(), pytest.raises(ValueError, match=f"image size must be at least 1, and is {size}"):
        preprocess(v1.placeholder(tf.uint8, [None, None, None, 3]), name, size)


def test_none_of_another_size():
    with tf.Graph().as_default(), pytest.raises(ValueError, match="32"):
        preprocess(v1.placeholder(tf.float32, [None, 32, 32, 3]), "none", 33)
    with pytest.raises(tf.errors.InvalidArgumentError, match="21"):
        graph_result(noise(1, 21, 21, 3), "none", 32)
