"""Tests ``restore(first_kernel=...)``: networks for images with another number of channels than the file's.

On images with equal channels the network must answer as the file's own network does, which TensorFlow's own
assignments fill. The values are also calculated by hand.
"""

import functools

import numpy as np
import pytest
import tensorflow as tf
import tf_slim as slim

from checkpoints import restore
from nets import nets_factory, resnet_v2
from tests.checkpoints.test_restore import SHADOW, TINY, averages, open_session, weights, write
from tests.helpers.reference import assign, random_values_of_shapes, relative_difference

v1 = tf.compat.v1

KERNELS = {
    TINY: f"{TINY}/conv1/weights",
    "resnet_cifar_20": "init/init_conv/DW",
    "resnet_keras_18_digits": "resnet_keras_18_digits/conv1/weights",
}

# float32, through all layers: the sum over the channels is rounded in another order (measured 5e-7).
TOLERANCE = 1e-5


@functools.cache
def graph_of(channels, name=TINY, cut=False):
    """Returns (graph, images, logits)."""
    partitioner = (lambda shape, **_: [1] * (shape.rank - 1) + [2]) if cut else None
    with tf.Graph().as_default() as graph, v1.variable_scope(v1.get_variable_scope(), partitioner=partitioner):
        images = v1.placeholder(tf.float32, [None, 32, 32, channels])
        logits, _ = nets_factory.get_network_fn(name, 10)(images)
    return graph, images, logits


def values_of(name, channels, seed=0):
    """Returns random weights of a network for images with this number of channels."""
    variables = graph_of(channels, name)[0].get_collection(v1.GraphKeys.GLOBAL_VARIABLES)
    return random_values_of_shapes({each.op.name: each.shape.as_list() for each in variables}, seed)


def grey(channels):
    return np.repeat(np.random.default_rng(3).normal(size=[2, 32, 32, 1]).astype(np.float32), channels, axis=3)


def logits_of(channels, name, fill, cut=False):
    """Returns the logits of grey images, in a session whose variables ``fill`` sets."""
    graph, images, logits = graph_of(channels, name, cut)
    with open_session(graph) as session:
        fill(session)
        return session.run(logits, {images: grey(channels)})


@pytest.mark.parametrize("how", ["mean", "repeat"])
@pytest.mark.parametrize(("there", "here"), [(3, 1), (3, 2), (3, 4), (3, 6), (1, 3), (2, 3), (4, 3), (4, 6)])
def test_the_answer_to_grey_stays(tmp_path, there, here, how):
    values = values_of(TINY, there)
    path = write(tmp_path / "model.ckpt", values)
    expected = logits_of(there, TINY, lambda session: assign(session, values))
    found = logits_of(here, TINY, lambda session: restore(session, path, first_kernel=how))
    assert relative_difference(found, expected) < TOLERANCE


@pytest.mark.parametrize("how", ["mean", "repeat"])
@pytest.mark.parametrize("name", ["resnet_cifar_20", "resnet_keras_18_digits"])
def test_the_answer_to_grey_stays_in_other_families(tmp_path, name, how):
    """Tests kernels with other names. The digits' network takes one channel already."""
    there, here = (1, 3) if name.endswith("digits") else (3, 1)
    values = values_of(name, there)
    path = write(tmp_path / "model.ckpt", values)
    expected = logits_of(there, name, lambda session: assign(session, values))
    found = logits_of(here, name, lambda session: restore(session, path, first_kernel=how))
    assert relative_difference(found, expected) < TOLERANCE


# By hand: maps the channels of the file's kernel to those of the graph's.
BY_HAND = {
    ("mean", 3, 1): lambda r, g, b: [r + g + b],
    ("mean", 3, 2): lambda r, g, b: [(r + g + b) / 2] * 2,
    ("mean", 1, 3): lambda w: [w / 3] * 3,
    ("repeat", 3, 1): lambda r, g, b: [r + g + b],
    ("repeat", 3, 2): lambda r, g, b: [r + b, g],
    ("repeat", 3, 4): lambda r, g, b: [r / 2, g, b, r / 2],
    ("repeat", 3, 6): lambda r, g, b: [r / 2, g / 2, b / 2] * 2,
    ("repeat", 4, 3): lambda r, g, b, a: [r + a, g, b],
    ("repeat", 2, 3): lambda x, y: [x / 2, y, x / 2],
}


@pytest.mark.parametrize(("how", "there", "here"), BY_HAND)
@pytest.mark.parametrize("options", ["", "ema", "cut"])
def test_values(tmp_path, how, there, here, options):
    """Tests moving averages too, of which only the kernel's is converted, and the pieces that a partitioner cut."""
    values = values_of(TINY, there)
    shadows = averages(values)
    path = write(tmp_path / "model.ckpt", {**values, **shadows} if options == "ema" else values)
    graph, *_ = graph_of(here, cut=options == "cut")
    pieces = [
        each for each in graph.get_collection(v1.GraphKeys.GLOBAL_VARIABLES) if each.op.name.startswith(KERNELS[TINY])
    ]
    assert len(pieces) == (2 if options == "cut" else 1)
    reads = [graph.get_tensor_by_name(f"{each.op.name}/Read/ReadVariableOp:0") for each in pieces]
    with open_session(graph) as session:
        report = restore(session, path, first_kernel=how, ema=options == "ema")
        found = np.concatenate(session.run(reads), axis=-1)
    stored = shadows[f"{KERNELS[TINY]}/{SHADOW}"] if options == "ema" else values[KERNELS[TINY]]
    expected = np.stack(BY_HAND[how, there, here](*np.moveaxis(stored, 2, 0)), axis=2)
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-7)  # one rounding of float32 apart
    assert KERNELS[TINY] in report.loaded
    assert report.missing == report.mismatched == ()


def test_a_mean_colour_is_left_over(tmp_path):
    """mean_rgb of v1 files is left over: subtracting a mean from images is the caller's task."""
    values = {**values_of(TINY, 3), f"{TINY}/mean_rgb": np.float32([123.68, 116.78, 103.94])}
    path = write(tmp_path / "model.ckpt", values)
    with open_session(graph_of(1)[0]) as session:
        assert restore(session, path, first_kernel="mean").unused == (f"{TINY}/mean_rgb",)


def test_with_other_classes_and_another_scope(tmp_path):
    path = write(tmp_path / "model.ckpt", weights(scope="model", classes=7))
    with open_session(graph_of(1)[0]) as session:
        report = restore(session, path, first_kernel="mean", scope="model", exclude=f"{TINY}/logits/*")
    assert len(report.loaded) == 76


def test_half_precision_is_rounded_once(tmp_path):
    values = {name: value.astype(np.float16) for name, value in values_of(TINY, 3).items()}
    path = write(tmp_path / "model.ckpt", values)
    graph, *_ = graph_of(1)
    with open_session(graph) as session:
        restore(session, path, first_kernel="mean")
        found = session.run(f"{KERNELS[TINY]}/Read/ReadVariableOp:0")
    expected = values[KERNELS[TINY]].astype(np.float64).sum(axis=2, keepdims=True).astype(np.float16)
    assert np.array_equal(found, expected.astype(np.float32))


def two_networks(**channels):
    with tf.Graph().as_default() as graph, slim.arg_scope(resnet_v2.resnet_arg_scope()):
        for scope, count in channels.items():
            resnet_v2.resnet_v2_tiny(v1.placeholder(tf.float32, [1, 32, 32, count]), 10, is_training=False, scope=scope)
    return graph


def test_of_two_networks_the_one_of_other_channels(tmp_path):
    path = write(tmp_path / "model.ckpt", weights())
    graph = two_networks(one=1, three=3)
    with open_session(graph) as session:
        restore(session, path, first_kernel="mean", scope={"one": TINY, "three": TINY})
        one, three = session.run([f"{scope}/conv1/weights/Read/ReadVariableOp:0" for scope in ("one", "three")])
    assert np.array_equal(three, weights()[KERNELS[TINY]])
    np.testing.assert_allclose(one, three.sum(axis=2, keepdims=True), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("channels", "options", "sentence"),
    [
        (3, {"first_kernel": "mean"}, "the graph and the file both have 3: leave it out."),
        (1, {"first_kernel": "sum"}, "first_kernel must be 'mean' or 'repeat', and is 'sum'."),
        (1, {"first_kernel": True}, "first_kernel must be 'mean' or 'repeat', and is True."),
        (1, {"first_kernel": ["mean"]}, "first_kernel must be 'mean' or 'repeat', and is ['mean']."),
        (1, {"first_kernel": "mean", "exclude": "*/conv1/weights"}, "but none is restored here: leave it out."),
        (1, {"first_kernel": "mean", "scope": {TINY: "x"}}, f"give scope='{TINY}'"),
        (1, {}, "the file is for images of 3 channels, and the graph has 1"),
    ],
)
def test_what_cannot_be_converted_is_refused(tmp_path, channels, options, sentence):
    path = write(tmp_path / "model.ckpt", weights())
    with open_session(graph_of(channels)[0]) as session, pytest.raises(ValueError, match=r".") as caught:
        restore(session, path, **options)
    assert sentence in str(caught.value)


def test_a_kernel_of_another_size_is_no_matter_of_channels(tmp_path):
    path = write(tmp_path / "model.ckpt", {**weights(), KERNELS[TINY]: weights()[KERNELS[TINY]][:3, :3]})
    with open_session(graph_of(1)[0]) as session, pytest.raises(ValueError, match=r"\[7, 7, 1, 64\] here, \[3, 3, 3"):
        restore(session, path, first_kernel="mean")
