"""Names, shapes and parameter counts against the golden files, which tf_slim's own networks made.

A file is made anew with ``python -m tests.golden.make``, which shows the difference, and ``--write``.
"""

import json

import pytest
import tensorflow as tf

from nets import nets_factory
from tests.golden.make import described, golden_file

v1 = tf.compat.v1

REGENERATE = "if this is meant to change: python -m tests.golden.make --write"

# Trainable parameters, and with moving statistics: of the networks with their usual classes.
PARAMETERS = {
    "resnet_v2_50": (25_570_409, 25_615_849),
    "resnet_v2_101": (44_579_945, 44_677_609),
    "resnet_v2_152": (60_238_953, 60_382_697),
    "resnet_v2_200": (64_728_169, 64_896_489),
}


@pytest.mark.parametrize("name", nets_factory.NETWORKS)
def test_network_is_as_its_golden_file_says(name):
    golden = json.loads(golden_file(name).read_text(encoding="utf-8"))
    network = nets_factory.get_network(name)
    with tf.Graph().as_default():
        images = v1.placeholder(tf.float32, [None, network.image_size, network.image_size, 3])
        build = nets_factory.get_network_fn(name, network.num_classes)
        _, end_points = build(images, spatial_squeeze=False)
        global_pool = end_points.pop("global_pool")
        built = json.loads(json.dumps(described(v1.global_variables(), end_points)))
    assert built == golden, REGENERATE
    # JSON objects have no order of their own; Python's have the file's.
    assert list(built["variables"]) == list(golden["variables"]), REGENERATE
    assert list(built["end_points"]) == list(golden["end_points"]), REGENERATE
    assert global_pool.name == f"{name}/pool5:0"


@pytest.mark.parametrize("name", PARAMETERS)
def test_parameter_counts_are_the_published_ones(name):
    golden = json.loads(golden_file(name).read_text(encoding="utf-8"))
    assert (golden["trainable_parameters"], golden["parameters"]) == PARAMETERS[name]


def test_every_network_has_a_golden_file_and_the_reverse():
    files = {file.stem for file in golden_file("any").parent.glob("*.json")}
    assert files == set(nets_factory.NETWORKS)
