"""Tests networks written in Keras' own layers: a process with Keras and nothing of ours opens and runs the files."""

import json
import os
import subprocess
import sys
from typing import NamedTuple

import numpy as np
import pytest
import tensorflow as tf
import tf_slim as slim

from nets import endpoint_info, nets_factory, resnet_basic, resnet_cifar, resnet_keras, resnet_utils, resnet_v1
from nets.nets_factory import get_network_fn
from nets.resnet_utils import Block
from tests.helpers.float64 import Reference, assert_as_exact, references
from tests.helpers.networks import OF_UNITS
from tests.helpers.processes import environment
from tests.helpers.reference import assign, random_values
from tools.cli import main
from tools.conversion.keras_writing import write_archive, write_keras
from tools.errors import InputError
from tools.runtime.freezing import freeze
from tools.runtime.random_weights import random_images

v1 = tf.compat.v1

# Opens each file, and writes the outputs for its images and what is in it.
OPEN = """
import json, sys
from pathlib import Path
import keras
import numpy as np

for path in map(Path, sys.argv[1:]):
    model = keras.models.load_model(path)
    lines = []
    model.summary(print_fn=lambda line, **_: lines.append(line))
    images = np.load(path.with_suffix(".npy"))
    outputs = model(images, training=False)
    np.savez(path.with_suffix(".npz"), **{name.replace("/", " "): value.numpy() for name, value in outputs.items()})
    found = {
        "name": model.name,
        "outputs": list(outputs),
        "inputs": {tensor.name: list(tensor.shape) for tensor in model.inputs},
        "layers": {layer.name: type(layer).__name__ for layer in model.layers if layer.weights},
        "kinds": sorted({type(layer).__name__ for layer in model.layers}),
        "trainable": sum(int(np.prod(variable.shape)) for variable in model.trainable_variables),
        "parameters": model.count_params(),
        "summary": len(lines) > 0,
        "one image": {name: list(value.shape) for name, value in model(images[:1], training=False).items()},
    }
    path.with_suffix(".json").write_text(json.dumps(found))
    keras.backend.clear_session()
assert not {"nets", "checkpoints", "tools"} & {*sys.modules}
"""


class Written(NamedTuple):
    """A network that was written, and what the process that opened it found.

    references: the outputs of our graph, by their names in the file.
    outputs: those of Keras.
    found: what the script of the process tells.
    """

    references: dict[str, Reference]
    outputs: dict[str, np.ndarray]
    found: dict


def frozen(build, shape, aliases=None):
    """Returns the frozen graph of a network with random weights, names of outputs, images, and references."""
    with tf.Graph().as_default(), v1.Session() as session:
        images = v1.placeholder(tf.float32, [None, *shape[1:]], name="images")
        _, end_points = build(images)
        assign(session, random_values(v1.global_variables()))
        points = endpoint_info.describe(images, end_points, aliases)
        tensors = {
            point.alias: tf.squeeze(point.tensor, [1, 2]) if point.shape[1:-1] == (1, 1) else point.tensor
            for point in points
        }
        graph_def = freeze(session, [point.tensor for point in points], [images])
        values = random_images(shape, "inception")
        expected = references(session, tensors, {images: values})
        # These keep the axes of size 1, which Keras' model must drop itself.
        return graph_def, {point.alias: point.tensor.name for point in points}, values, expected


def write(folder, name, build, shape, aliases=None):
    graph_def, outputs, images, expected = frozen(build, shape, aliases)
    path = folder / f"{name}.keras"
    write_keras(path, graph_def, "images:0", outputs, name)
    np.save(path.with_suffix(".npy"), images)
    return path, expected


def opened(written):
    """Returns the networks of (path, references), opened in one process that has nothing of ours."""
    variables = {name: value for name, value in environment().items() if name != "PYTHONPATH"}
    paths = [path for path, _ in written]
    command = [sys.executable, "-c", OPEN, *map(os.fspath, paths)]
    done = subprocess.run(command, capture_output=True, text=True, env=variables, cwd=paths[0].parent, check=False)
    assert done.returncode == 0, done.stderr
    results = {}
    for path, expected in written:
        with np.load(path.with_suffix(".npz")) as file:
            outputs = {name.replace(" ", "/"): file[name] for name in file.files}
        results[path.stem] = Written(expected, outputs, json.loads(path.with_suffix(".json").read_text()))
    return results


def check(written):
    assert [*written.outputs] == [*written.references]
    for name, expected in written.references.items():
        assert_as_exact(written.outputs[name], expected)
        assert written.found["one image"][name] == [1, *expected.double.shape[1:]]


def scoped(scope, build):
    def under(images):
        with slim.arg_scope(scope):
            return build(images)

    return under


def dense_v1(images):
    """Has dilated convolutions, and logits and predictions for each place in the image."""
    blocks = [resnet_v1.resnet_v1_block("block1", 4, 2, 2), resnet_v1.resnet_v1_block("block2", 8, 1, 1)]
    head = {"global_pool": False, "spatial_squeeze": False, "scope": "outer/resnet_v1_small"}
    return resnet_v1.resnet_v1(images, blocks, 10, False, output_stride=4, pool1_padding="PAD1", **head)


def basic_with_zeros(images):
    """Pads the channels of shortcuts, and predicts a single class by a sigmoid."""
    blocks = [resnet_basic.resnet_basic_block(f"block{i}", 64 * i, 1, i, "A") for i in (1, 2)]
    return resnet_basic.resnet_basic(images, blocks, 1, False, scope="resnet_basic_small")


def keras_of_both_units(images):
    blocks = [
        Block("block1", resnet_keras.basic_keras, [{"depth": 8, "stride": 2}]),
        Block("block2", resnet_keras.bottleneck_keras, [{"depth": 8, "stride": 1}, {"depth": 16, "stride": 2}]),
    ]
    return resnet_keras.resnet_keras(images, blocks, 10, False, scope="resnet_keras_small")


SMALL = {
    "v1": (
        scoped(resnet_utils.resnet_arg_scope(batch_norm_scale=False, batch_norm_epsilon=0.01), dense_v1),
        (2, 32, 32, 3),
    ),
    "v2": (get_network_fn("resnet_v2_tiny", 10), (2, 33, 33, 1)),
    "basic": (scoped(resnet_utils.resnet_arg_scope(), basic_with_zeros), (9, 33, 33, 3)),
    "keras": (scoped(resnet_keras.resnet_keras_arg_scope(), keras_of_both_units), (3, 28, 28, 3)),
    "cifar": (
        scoped(resnet_cifar.resnet_cifar_arg_scope(), lambda images: resnet_cifar.resnet_cifar(images, 1, 10, False)),
        (2, 16, 16, 3),
    ),
}


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    folder = tmp_path_factory.mktemp("small")
    return opened([write(folder, name, *case) for name, case in SMALL.items()])


@pytest.mark.numerical
@pytest.mark.parametrize("name", SMALL)
def test_keras_computes_what_the_graph_does(small, name):
    check(small[name])
    assert small[name].found["summary"]


def test_model_takes_the_networks_input_and_names_its_outputs(small):
    found = small["v2"].found
    assert found["name"] == "v2"
    assert found["inputs"] == {"images": [None, 33, 33, 1]}
    assert {"conv1", "block3/unit_1/conv2", "global_pool", "predictions"} < {*found["outputs"]}
    # The axes of size 1 are dropped, as FeatureExtractor does.
    assert found["one image"]["global_pool"] == [1, 512]
    assert found["one image"]["block1"] == [1, 5, 5, 64]
    # 518,410 and 521,418 with three channels: the first kernel is 7x7x3x64.
    assert (found["trainable"], found["parameters"]) == (518_410 - 2 * 49 * 64, 521_418 - 2 * 49 * 64)


def test_layers_have_slims_names(small):
    norm, conv = "BatchNormalization", "Conv2D"
    assert small["v1"].found["layers"] == {
        "conv1": conv,
        "conv1_batch_norm": norm,
        **{
            f"{scope}{suffix}": kind
            for scope in (
                *(f"block1_unit_1_{layer}" for layer in ("shortcut", "conv1", "conv2", "conv3")),
                *(f"block1_unit_2_{layer}" for layer in ("conv1", "conv2", "conv3")),
                *(f"block2_unit_1_{layer}" for layer in ("shortcut", "conv1", "conv2", "conv3")),
            )
            for suffix, kind in (("", conv), ("_batch_norm", norm))
        },
        "logits": conv,
    }
    cifar = small["cifar"].found["layers"]
    assert cifar["unit_1_0_shared_activation_init_bn"] == norm
    assert (cifar["unit_2_0_sub1_conv1"], cifar["logit"]) == (conv, "Dense")


def test_batch_norms_without_gamma_have_none(small):
    # Each of the 12 convolutions before the logits: beta is trained, mean and variance are not.
    kernels = [(7, 3, 64)]
    kernels += [(1, 64, 16), (1, 64, 4), (3, 4, 4), (1, 4, 16), (1, 16, 4), (3, 4, 4), (1, 4, 16)]
    kernels += [(1, 16, 32), (1, 16, 8), (3, 8, 8), (1, 8, 32)]
    trained = sum(size * size * before * after + after for size, before, after in kernels) + 32 * 10 + 10
    found = small["v1"].found
    assert found["trainable"] == trained
    assert found["parameters"] == trained + 2 * sum(after for _, _, after in kernels)


def test_a_layer_of_keras_is_used_wherever_there_is_one(small):
    """Only the zeros in channels are an op."""
    everything = set().union(*(one.found["kinds"] for one in small.values()))
    assert everything == {
        *("Activation", "Add", "AveragePooling2D", "BatchNormalization", "Conv2D", "Dense", "Flatten"),
        *("GlobalAveragePooling2D", "InputLayer", "LeakyReLU", "MaxPooling2D", "ReLU", "Softmax", "ZeroPadding2D"),
    }


@pytest.mark.full
@pytest.mark.numerical
@pytest.mark.parametrize("name", OF_UNITS)
def test_every_network_of_the_table(tmp_path, name):
    network = nets_factory.get_network(name)
    size = 64 if network.image_size == 224 else network.image_size
    build, shape = get_network_fn(name, network.num_classes), (2, size, size, network.channels)
    written = opened([write(tmp_path, name, build, shape)])[name]
    check(written)
    assert (written.found["trainable"], written.found["parameters"]) == (
        network.trainable_parameters,
        network.parameters,
    )


@pytest.mark.parametrize(
    ("build", "shape", "reason"),
    [
        (
            get_network_fn("resnet_v2_tiny", 10, activation_fn=tf.nn.elu),
            [None, 32, 32, 3],
            "resnet_v2_tiny/.+/Elu is a Elu",
        ),
        (
            get_network_fn("resnet_v2_tiny", 10),
            [None, None, None, 3],
            r"images:0 has the shape \(None, None, None, 3\)",
        ),
        (lambda images: (images, {"y": tf.nn.relu(tf.ones([1, 2]))}), [None, 2, 2, 3], "ones is a Const"),
    ],
)
def test_what_keras_cannot_express_is_named(tmp_path, build, shape, reason):
    with tf.Graph().as_default(), v1.Session() as session:
        images = v1.placeholder(tf.float32, shape, name="images")
        _, end_points = build(images)
        session.run(v1.global_variables_initializer())
        name, output = end_points.popitem()
        graph_def = freeze(session, [output])
    sentence = f"^mine cannot be written for Keras, because {reason}: choose another format.$"
    with pytest.raises(InputError, match=sentence):
        write_keras(tmp_path / "model.keras", graph_def, "images:0", {name: output.name}, "mine")
    assert not any(tmp_path.iterdir())


def test_nothing_is_left_of_a_file_that_cannot_be_written(tmp_path):
    import keras

    images = keras.Input([2, 2, 1])
    model = keras.Model(images, keras.layers.Conv2D(1, 1)(images))
    path = tmp_path / "model.keras"
    path.mkdir()
    with pytest.raises(OSError, match=r"model\.keras"):
        write_archive(path, model)
    assert [*tmp_path.rglob("*")] == [path]


@pytest.mark.parametrize("name", ["v2", "cifar"])
def test_files_are_not_taken_for_networks_of_keras(tmp_path, capsys, name):
    path, _ = write(tmp_path, "mine", *SMALL[name], "global_pool")
    assert main(["convert", os.fspath(path), os.fspath(tmp_path / "mine.ckpt")]) == 1
    error = capsys.readouterr().err.splitlines()[-1]
    assert error == (
        f"slimnets: error: {path} is a Keras model that slimnets exported: give the checkpoint that it was made from."
    )
    assert main(["inspect", os.fspath(path)]) == 1
    said = " ".join(capsys.readouterr().out.split())
    assert "a Keras model that slimnets exported: give the checkpoint that it was made from." in said
    assert {each.name for each in tmp_path.iterdir()} == {"mine.keras", "mine.npy"}
