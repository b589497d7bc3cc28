"""Tests the steps of a training against a plain slim script on the same batches."""

import numpy as np
import pytest
import tensorflow as tf
import tf_slim as slim

from checkpoints import open_checkpoint
from nets import resnet_v2
from tests.helpers.digit_folders import training_digits
from tools.training import fit, prepare
from tools.training.batches import TrainingBatches
from tools.training.graph import build_graph

v1 = tf.compat.v1

STEPS, BATCH = 20, 8

OPTIMIZERS = {
    "sgd": lambda rate: v1.train.GradientDescentOptimizer(rate),
    "momentum": lambda rate: v1.train.MomentumOptimizer(rate, 0.9),
    "adam": lambda rate: v1.train.AdamOptimizer(rate),
    # The defaults of research/slim's script.
    "rmsprop": lambda rate: v1.train.RMSPropOptimizer(rate, 0.9, 0.9, 1.0),
}


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    return training_digits(tmp_path_factory.mktemp("digits") / "train", limit=20)


def batches_of(job):
    """Returns the images and classes of all steps."""
    start, settings = job.start, job.plan.settings
    with tf.Graph().as_default() as graph, v1.Session(graph=graph) as session:
        batches = TrainingBatches(
            start.preprocessing,
            start.image_size,
            settings.batch_size,
            augmentation=job.plan.augmentation,
            flip=settings.flip,
            color=settings.color,
            seed=settings.seed,
        )
        batches.begin(session, start.labelled, 0, STEPS)
        return [session.run([batches.images, batches.classes]) for _ in range(STEPS)]


def initial_values(job):
    """Returns the initial values of the training's variables."""
    graph = build_graph(job.start, job.plan)
    with v1.Session(graph=graph.graph) as session:
        with graph.graph.as_default():
            session.run(v1.global_variables_initializer())
        return dict(zip([one.op.name for one in graph.state], session.run(graph.state), strict=True))


def train_with_slim(batches, begin, make_optimizer, decay, rates, smoothing):
    """Trains resnet_v2_tiny as a script for slim does. Returns the losses and the final values."""
    with tf.Graph().as_default() as graph, v1.Session(graph=graph) as session:
        images = v1.placeholder(tf.float32, [BATCH, 32, 32, 3])
        labels = v1.placeholder(tf.int64, [BATCH])
        rate = v1.placeholder(tf.float32, [])
        with slim.arg_scope(resnet_v2.resnet_arg_scope(batch_norm_decay=decay)):
            logits, _ = resnet_v2.resnet_v2_tiny(images, 10, is_training=True)
        v1.losses.softmax_cross_entropy(slim.one_hot_encoding(labels, 10), logits, label_smoothing=smoothing)
        train_op = slim.learning.create_train_op(v1.losses.get_total_loss(), make_optimizer(rate))
        session.run(v1.global_variables_initializer())
        variables = v1.global_variables()
        for variable in variables:
            variable.load(begin[variable.op.name], session)
        losses = []
        for number, (image_values, label_values) in enumerate(batches):
            feeds = {images: image_values, labels: label_values, rate: rates[number]}
            losses.append(session.run(train_op, feeds))
        return losses, dict(zip([one.op.name for one in variables], session.run(variables), strict=True))


@pytest.mark.numerical
@pytest.mark.parametrize(
    "optimizer", [pytest.param(name, marks=() if name == "momentum" else pytest.mark.full) for name in OPTIMIZERS]
)
def test_twenty_steps_equal_a_plain_slim_script(optimizer, digits, tmp_path):
    smoothing = 0.1 if optimizer == "momentum" else 0.0
    options = {
        "net": "resnet_v2_tiny",
        "steps": STEPS,
        "batch_size": BATCH,
        "optimizer": optimizer,
        "learning_rate": 0.001 if optimizer == "adam" else 0.01,
        "label_smoothing": smoothing,
    }
    output = tmp_path / "output"
    job = prepare(digits, output, **options)
    events = []
    fit(digits, output, **options, watch=events.append)
    rates = [job.plan.learning_rate_at(step) for step in range(STEPS)]
    losses, values = train_with_slim(
        batches_of(job), initial_values(job), OPTIMIZERS[optimizer], job.plan.batch_norm_decay, rates, smoothing
    )
    np.testing.assert_allclose([event.loss for event in events], losses, rtol=1e-6)
    reader = open_checkpoint(output)
    assert {*values} == {*reader.shapes}
    for name, value in values.items():
        scale = max(1.0, np.abs(value).max())
        np.testing.assert_allclose(reader.read(name), value, rtol=0, atol=1e-6 * scale, err_msg=name)
