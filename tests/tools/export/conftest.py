"""A small network of random weights, and its files in all formats."""

import functools

import pytest

from tests.helpers.exports import KERAS, TARGETS, in_one_process, random_checkpoint
from tools.export import export

# Outputs of the files: an end point inside of the network, one without and one with the classes' scores, and the
# classes, which a Keras model cannot have.
POINTS = ("block1/unit_1/conv1", "global_pool", "predictions", "classes")


@pytest.fixture(scope="session")
def tiny(tmp_path_factory):
    """Returns a checkpoint of ``resnet_v2_tiny``."""
    return random_checkpoint(tmp_path_factory.mktemp("tiny") / "tiny.ckpt", "resnet_v2_tiny", 32)


@pytest.fixture(scope="session")
def exported(tiny, tmp_path_factory):
    """Returns a function that exports ``tiny`` to a format, once for all tests, and returns the result."""

    @functools.cache
    def make(format):
        with in_one_process():
            target = tmp_path_factory.mktemp(format) / (TARGETS | KERAS)[format]
            return export(tiny, target, end_points=POINTS if format in TARGETS else POINTS[:-1])

    return make
