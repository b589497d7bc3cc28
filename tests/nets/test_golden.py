"""Compares names, shapes and parameter counts with the golden files, which other implementations made.

``python -m tests.golden.make`` shows the differences; with ``--write`` it replaces the files.
"""

import json

import pytest
import tensorflow as tf

from nets import nets_factory
from tests.golden.make import golden_file
from tests.golden.originals import built, is_of_tf_slim

v1 = tf.compat.v1

REGENERATE = "if this is meant to change: python -m tests.golden.make --write"


@pytest.mark.parametrize("name", nets_factory.NETWORKS)
def test_network_is_as_its_golden_file_says(name):
    golden = json.loads(golden_file(name).read_text(encoding="utf-8"))
    network = nets_factory.get_network(name)
    slim, resnet = is_of_tf_slim(name), name.startswith("resnet_v")
    with tf.Graph().as_default():
        images = v1.placeholder(tf.float32, [None, network.image_size, network.image_size, network.channels])
        build = nets_factory.get_network_fn(name, network.num_classes)
        _, end_points = build(images, **({"spatial_squeeze": False} if resnet else {}))
        if resnet:
            assert end_points.pop("global_pool").name == f"{name}/pool5:0"  # which tf_slim's own dict does not have
        if "alexnet" in name or "overfeat" in name or "vgg" in name:
            assert end_points.pop("predictions").name == f"{name}/predictions:0"  # nor this
        result = json.loads(json.dumps(built(v1.global_variables(), end_points, tensor_names=slim)))
    assert result == golden, REGENERATE
    # JSON objects have no order of their own; Python's have the file's.
    assert list(result["variables"]) == list(golden["variables"]), REGENERATE
    assert list(result["end_points"]) == list(golden["end_points"]), REGENERATE


@pytest.mark.parametrize("name", nets_factory.NETWORKS)
def test_parameter_counts_of_the_table_are_the_golden_ones(name):
    golden = json.loads(golden_file(name).read_text(encoding="utf-8"))
    network = nets_factory.get_network(name)
    counts = network.trainable_parameters, network.parameters
    assert counts == (golden["trainable_parameters"], golden["parameters"])


def test_there_is_no_golden_file_without_a_network():
    files = {file.stem for file in golden_file("any").parent.glob("*.json")}
    assert files == set(nets_factory.NETWORKS)
