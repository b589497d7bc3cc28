"""Tests the commands on tf_slim's other networks: the narrowest Inception v3, and AlexNet."""

import json
import shutil

import numpy as np
import pytest
import tensorflow as tf

from nets import nets_factory, preprocessing
from tests.helpers.networks import assign_in_parts
from tests.helpers.processes import ROOT
from tests.helpers.slim_corpus import SCOPES
from tools.cli import main
from tools.features import load

v1 = tf.compat.v1

NARROW = {"depth_multiplier": 0.0625, "min_depth": 8}
NETWORKS = {"inception_v3": (299, NARROW), "alexnet_v2": (224, {})}
IMAGES = sorted((ROOT / "checkpoints/digits/heldout").glob("*.png"))[:24]  # of all digits

pytestmark = pytest.mark.full


@pytest.fixture(scope="module", params=NETWORKS)
def network(request, tmp_path_factory):
    """Returns the name, a checkpoint with random weights, and the path of folders of images, one for each class."""
    name = request.param
    size, options = NETWORKS[name]
    folder = tmp_path_factory.mktemp(name)
    with tf.Graph().as_default(), v1.Session() as session:
        nets_factory.get_network_fn(name, 10)(v1.placeholder(tf.float32, [1, size, size, 3]), **options)
        assign_in_parts(session)
        v1.train.Saver().save(session, str(folder / "model.ckpt"), write_meta_graph=False, write_state=False)
    for image in IMAGES:
        place = folder / "images" / image.stem.rpartition("_")[2]
        place.mkdir(parents=True, exist_ok=True)
        shutil.copy(image, place)
    yield name, folder / "model.ckpt", folder / "images"
    shutil.rmtree(folder)


def test_features_are_those_of_the_plain_graph(network, tmp_path):
    name, checkpoint, _ = network
    size, options = NETWORKS[name]
    points = "logits,predictions," + ("Mixed_7c,global_pool" if name == "inception_v3" else "conv5,fc7")
    command = ["features", *map(str, IMAGES[:3]), "--checkpoint", str(checkpoint), "--end-points", points]
    assert main([*command, "--output", str(tmp_path / "features")]) == 0
    kind = nets_factory.get_network(name).preprocessing
    with tf.Graph().as_default(), v1.Session() as session:
        pixels = tf.stack([tf.io.decode_png(path.read_bytes(), channels=3) for path in IMAGES[:3]])
        images = preprocessing.preprocess(pixels, kind, size)
        _, end_points = nets_factory.get_network_fn(name, 10)(images, **options)
        v1.train.Saver().restore(session, str(checkpoint))
        expected = session.run(end_points)
    logits = expected["Logits" if name == "inception_v3" else "alexnet_v2/fc8"]
    arrays = load(tmp_path / "features").arrays
    np.testing.assert_allclose(arrays["logits"], logits, rtol=1e-4, atol=1e-4 * np.abs(logits).max())
    exponentials = np.exp(logits.astype(np.float64) - logits.max(axis=1, keepdims=True))
    probabilities = exponentials / exponentials.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(arrays["predictions"], probabilities, atol=1e-4)
    inner = "Mixed_7c" if name == "inception_v3" else "conv5"
    key = inner if name == "inception_v3" else f"{name}/{inner}"
    np.testing.assert_allclose(arrays[inner], expected[key], rtol=1e-3, atol=1e-4 * np.abs(expected[key]).max())


def test_classify_and_evaluate(network, capsys):
    _, checkpoint, images = network
    assert main(["classify", str(IMAGES[0]), "--checkpoint", str(checkpoint), "--top", "3", "--json"]) == 0
    [found] = json.loads(capsys.readouterr().out)
    assert len(found["classes"]) == 3
    assert main(["evaluate", str(images), "--checkpoint", str(checkpoint), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["images"] == len(IMAGES)


def test_train_from_a_checkpoint_and_from_scratch(network, tmp_path, capsys):
    name, checkpoint, images = network
    few = ["--steps", "2", "--batch-size", "2"]
    begin = ["train", str(images), "--checkpoint", str(checkpoint), "--new-head"]
    assert main([*begin, *few, "--output", str(tmp_path / "a")]) == 0
    assert main(["train", str(images), "--net", name, *few, "--output", str(tmp_path / "b")]) == 0
    for folder in ("a", "b"):
        capsys.readouterr()
        assert main(["inspect", str(tmp_path / folder), "--json"]) == 0
        found = json.loads(capsys.readouterr().out)
        assert (found["net"], found["scope"], found["problems"]) == (name, SCOPES.get(name, name), [])


def test_train_refuses_settings_of_batch_norms_that_are_not_there(network, tmp_path, capsys):
    name, _, images = network
    few = ["--steps", "2", "--batch-size", "2"]
    command = ["train", str(images), "--net", name, *few, "--output", str(tmp_path / "a")]
    assert main([*command, "--batch-norm-decay", "0.9"]) == (0 if name == "inception_v3" else 1)
    if name == "alexnet_v2":
        error = capsys.readouterr().err.splitlines()[-1]
        assert error.endswith("--batch-norm-decay 0.9 does nothing for alexnet_v2, which has no batch norms: omit it.")


def test_nets_lists_end_points_and_layers(network, capsys):
    name = network[0]
    assert main(["nets", name, "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert {"conv5", "Mixed_7c"} & {row["alias"] for row in rows}
    assert main(["nets", name, "--layers", "--json"]) == 0
    layers = json.loads(capsys.readouterr().out)
    expected = nets_factory.get_network(name).parameters
    if name == "inception_v3":
        # Without the auxiliary logits: kernels and statistics by hand, 768x128, 25x128x768, 768x1001.
        expected -= 768 * 128 + 3 * 128 + 25 * 128 * 768 + 3 * 768 + (768 + 1) * 1001
        assert "Concatenate" in {layer["kind"] for layer in layers}
    assert sum(layer["parameters"] for layer in layers) == expected


def test_time_against_tf_slim_and_what_cannot_be_translated(capsys):
    command = ["time", "inception_v2", "--batch-size", "1", "--image-size", "64", "--steps", "2", "--num-classes", "10"]
    assert main([*command, "--against", "slim,torch"]) == 0
    out = capsys.readouterr()
    assert "DepthwiseConv2dNative, which is not translated for other engines" in out.out + out.err
