"""Tests that every network learns a small batch by heart."""

import numpy as np
import pytest
import tensorflow as tf

from nets import nets_factory
from tests.helpers.networks import OF_TF_SLIM, small_size

v1 = tf.compat.v1

STEPS = 60
# Their graphs and steps take seconds; the full run has the others.
QUICK = {
    "resnet_v2_tiny",
    "resnet_basic_18",
    "resnet_cifar_20",
}
# They have 10^8 parameters; tests.nets.test_tf_slim_nets compares a step of theirs with tf_slim's.
LARGE = {"overfeat", "vgg_a", "vgg_16", "vgg_19"}
NAMES = [
    name if name in QUICK else pytest.param(name, marks=pytest.mark.full)
    for name in nets_factory.NETWORKS
    if name not in LARGE
]
CLASSES = 10
SIZES = {32: 16, 28: 16}


@pytest.mark.numerical
@pytest.mark.parametrize("name", NAMES)
def test_loss_falls_by_half(name):
    network = nets_factory.get_network(name)
    size = SIZES.get(network.image_size) or small_size(name)
    generator = np.random.default_rng(0)
    batch = generator.normal(size=[16, size, size, network.channels]).astype(np.float32)
    labels = generator.integers(0, CLASSES, len(batch))
    options = {"dropout_rate": 0.0} if name.startswith("resnet_keras") and not name.endswith("_digits") else {}
    if name in OF_TF_SLIM:
        options = {"dropout_keep_prob": 1.0}
    with tf.Graph().as_default():
        v1.set_random_seed(0)
        images = v1.placeholder(tf.float32, batch.shape)
        logits, _ = nets_factory.get_network_fn(name, CLASSES, is_training=True)(images, **options)
        loss = v1.losses.sparse_softmax_cross_entropy(labels, logits)
        with tf.control_dependencies(v1.get_collection(v1.GraphKeys.UPDATE_OPS)):
            train = v1.train.MomentumOptimizer(0.01, 0.9).minimize(loss)
        with v1.Session() as session:
            session.run(v1.global_variables_initializer())
            first = session.run(loss, {images: batch})
            for _ in range(STEPS):
                session.run(train, {images: batch})
                last = session.run(loss, {images: batch})
                if last <= first / 2:
                    break
    assert last <= first / 2
