"""Tests each kind of image that Python code gives the extractor against the same pixels as one array."""

import re

import numpy as np
import pytest
import tensorflow as tf
import torch
from PIL import Image

from tools.errors import ImageError, InputError
from tools.features import FeatureExtractor

v1 = tf.compat.v1


def noise(*shape):
    return np.random.default_rng(3).integers(0, 256, shape, np.uint8)


@pytest.fixture(scope="module")
def extractor():
    with FeatureExtractor("resnet_v2_tiny_digits", "global_pool", batch_size=4) as extractor:
        yield extractor


PIXELS = noise(3, 40, 50, 3)


@pytest.fixture(scope="module")
def expected(extractor):
    return extractor(PIXELS)["global_pool"]


def files(folder):
    paths = [folder / f"{i}.png" for i in range(3)]
    for path, pixels in zip(paths, PIXELS, strict=True):
        Image.fromarray(pixels).save(path)
    return paths


@pytest.mark.parametrize(
    "images",
    [
        list(PIXELS),
        tuple(PIXELS),
        iter(PIXELS),
        [Image.fromarray(pixels) for pixels in PIXELS],
        [Image.fromarray(PIXELS[0]), PIXELS[1], torch.from_numpy(PIXELS[2])],
        tf.constant(PIXELS),
        [tf.constant(pixels) for pixels in PIXELS],
        torch.from_numpy(PIXELS),
        [pixels[np.newaxis] for pixels in PIXELS],
        np.array([Image.fromarray(pixels) for pixels in PIXELS] + [None], object)[:3],
    ],
)
def test_images_in_memory(extractor, expected, images):
    assert np.array_equal(extractor(images)["global_pool"], expected)


@pytest.mark.parametrize(
    "image", [PIXELS[0], Image.fromarray(PIXELS[0]), tf.constant(PIXELS[0]), torch.from_numpy(PIXELS[0])]
)
def test_one_image_is_a_batch_of_one(extractor, image):
    features = extractor(image)["global_pool"]
    assert features.shape == (1, 512)
    assert np.array_equal(features, extractor(PIXELS[:1])["global_pool"])


def test_images_of_different_sizes(extractor):
    """Gives more than a batch of them; each is computed as if it were alone."""
    images = [noise(30 + i, 45 - i, 3) for i in range(6)]
    alone = [extractor(image[np.newaxis])["global_pool"][0] for image in images]
    np.testing.assert_allclose(extractor(images)["global_pool"], alone, rtol=1e-4, atol=1e-5)


def test_paths_and_folders(extractor, expected, tmp_path):
    paths = files(tmp_path)
    for given in (tmp_path, str(tmp_path), [tmp_path], paths, map(str, paths), np.array(list(map(str, paths)))):
        assert np.array_equal(extractor(given)["global_pool"], expected)
    assert extractor(paths[0])["global_pool"].shape == (1, 512)
    assert sum(len(batch.statuses) for batch in extractor.batches(str(tmp_path))) == 3


def test_pil_images_are_decoded_as_their_files(extractor, tmp_path):
    """Gives images that are opened but not yet read: rotated by EXIF, transparent, of 16 bits, with a palette."""
    rotated = Image.fromarray(PIXELS[0])
    exif = rotated.getexif()
    exif[0x0112] = 6
    rotated.save(tmp_path / "a.png", exif=exif)
    Image.fromarray(noise(20, 30, 4), "RGBA").save(tmp_path / "b.png")
    Image.fromarray(np.arange(600, dtype=np.uint16).reshape(20, 30) * 100).save(tmp_path / "c.png")
    Image.fromarray(PIXELS[1]).quantize(16).save(tmp_path / "d.gif")
    for path in sorted(tmp_path.iterdir()):
        with Image.open(path) as image:
            assert np.array_equal(extractor(image)["global_pool"], extractor(path)["global_pool"]), path


def symbolic():
    with tf.Graph().as_default():
        return v1.placeholder(tf.uint8, [1, 40, 40, 3])


@pytest.mark.parametrize(
    ("images", "sentence"),
    [
        (symbolic(), "a graph's tensor"),
        ([symbolic()], "a graph's tensor"),
        (torch.zeros(1, 40, 40, 3, dtype=torch.uint8, device="meta"), "whose values cannot be read"),
        (
            noise(2, 3, 40, 50),
            r"and is uint8 \[2, 3, 40, 50\]. Its channels come first: transpose it by \(0, 2, 3, 1\)",
        ),
        (
            np.zeros([2, 40, 50, 3]),
            r"is float64 \[2, 40, 50, 3\]. Give the pixels from 0 to 255 with astype\('uint8'\)",
        ),
        ([PIXELS[0], "a.png"], "a list with elements of the type str: give all as paths, or all as arrays"),
        ([1, 2], "elements of the type int"),
        (b"\x89PNG", "and is of the type bytes"),
        ({"a": PIXELS}, "and is of the type dict"),
        (None, "and is None"),
        (7, "and is 7"),
    ],
)
def test_what_is_no_image(extractor, images, sentence):
    with pytest.raises(ValueError, match=sentence) as error:
        extractor(images)
    assert len(str(error.value)) < 500
    assert "\n" not in str(error.value)


def test_paths_of_nothing(extractor, tmp_path):
    with pytest.raises(InputError, match="There is no file or folder nowhere"):
        extractor("nowhere")
    with pytest.raises(InputError, match=f"No images found in {re.escape(str(tmp_path))}"):
        extractor(tmp_path)
    with pytest.raises(ImageError, match=r"gone\.png: there is no such file"):
        extractor(["gone.png"])


def test_one_end_point_and_what_an_extractor_is(extractor):
    assert list(extractor.end_points) == ["global_pool"]
    shown = repr(extractor)
    assert shown.startswith("<FeatureExtractor of ")
    assert shown.endswith(
        "resnet_v2_tiny_digits.ckpt: resnet_v2_tiny of 10 classes, inception at 32, float32: global_pool [512]>"
    )
