"""Models of engines for the tests, made once."""

import numpy as np
import pytest
from PIL import Image

from tests.helpers.exports import expected, pictures, random_checkpoint

POINTS = ["block2", "global_pool", "logits"]


@pytest.fixture(scope="session")
def tiny(tmp_path_factory):
    """Returns the checkpoint of a small network with random weights."""
    return random_checkpoint(tmp_path_factory.mktemp("tiny") / "tiny.ckpt", "resnet_v2_tiny", 32)


@pytest.fixture(scope="session")
def models(tmp_path_factory):
    """Returns a folder of models that all tests share."""
    return tmp_path_factory.mktemp("models")


@pytest.fixture(scope="session")
def images(tmp_path_factory):
    """Returns a folder of 100 images of several sizes; two are broken."""
    folder = tmp_path_factory.mktemp("images")
    for number in range(100):
        (pixels,) = pictures(1, 30 + number % 7, 40, seed=number)
        Image.fromarray(pixels).save(folder / f"{number:03d}.png")
    (folder / "017.png").write_bytes(b"")
    (folder / "050.png").write_bytes((folder / "050.png").read_bytes()[:300])
    return folder


@pytest.fixture(scope="session")
def reference(tiny):
    """Returns five images, and their features from a plain graph behind NumPy's preprocessing."""
    given = pictures(5, 45, 37)
    (values,) = expected(tiny, "resnet_v2_tiny", POINTS, [given], 32)
    return np.asarray(given), values
