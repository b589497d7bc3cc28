"""A program as users of research/slim write it: trains a network with its own head, saves it and restores it.

The arguments are a statement that sets TensorFlow's mode, and the path to save to.
"""

import sys

import numpy as np
import tensorflow.compat.v1 as tf
import tf_slim as slim

import nets.layers

nets.layers.repair_tf_slim()

from nets import resnet_utils, resnet_v2  # noqa: E402


def head(net, is_training):
    with slim.arg_scope([slim.batch_norm], is_training=is_training):
        net = slim.batch_norm(net, activation_fn=tf.nn.relu, scope="head_norm")
        net = slim.conv2d(net, 8, [3, 3], normalizer_fn=slim.batch_norm, scope="head_conv")
        net = slim.avg_pool2d(net, [2, 2], scope="head_pool")
        net = slim.flatten(net)
        net = slim.fully_connected(net, 16, normalizer_fn=slim.batch_norm, scope="head_fc")
        net = slim.dropout(net, 0.9, is_training=is_training)
        return slim.fully_connected(net, 4, activation_fn=None, scope="head_logits")


def build(images, is_training):
    blocks = [
        resnet_v2.resnet_v2_block("block1", base_depth=4, num_units=1, stride=2),
        resnet_v2.resnet_v2_block("block2", base_depth=8, num_units=1, stride=1),
    ]
    with slim.arg_scope(resnet_v2.resnet_arg_scope(weight_decay=1e-4)):
        net, end_points = resnet_v2.resnet_v2(
            images, blocks, is_training=is_training, global_pool=False, scope="backbone"
        )
        assert "backbone/block1/unit_1/bottleneck_v2/conv2" in end_points
        # The user's own scope, with names of slim's layers.
        with slim.arg_scope([slim.conv2d], normalizer_fn=slim.batch_norm, outputs_collections="my_outputs"):
            net = resnet_utils.conv2d_same(net, 16, 3, stride=1, scope="extra")
    assert list(slim.utils.convert_collection_to_dict("my_outputs")) == ["extra"]
    return head(net, is_training)


def main(statement, path):
    exec(statement, {"v1": tf})
    generator = np.random.default_rng(0)
    pictures, labels = generator.normal(size=[16, 33, 33, 3]), generator.integers(0, 4, 16)
    with tf.Graph().as_default():
        images = tf.placeholder(tf.float32, [None, 33, 33, 3])
        is_training = tf.placeholder_with_default(True, [])
        logits = build(images, is_training)
        slim.losses.softmax_cross_entropy(logits, slim.one_hot_encoding(labels, 4))
        loss = slim.losses.get_total_loss()
        train_op = slim.learning.create_train_op(
            loss, tf.train.MomentumOptimizer(0.05, 0.9), gradient_multipliers={"head_logits/weights": 2.0}
        )
        with tf.Session() as session:
            session.run(tf.global_variables_initializer())
            moving = slim.get_variables_by_name("moving_mean")
            before = session.run(moving)
            losses = [session.run(train_op, {images: pictures}) for _ in range(30)]
            after = session.run(moving)
            assert losses[-1] < losses[0] / 2, losses
            assert not any(np.array_equal(one, other) for one, other in zip(before, after, strict=True))
            tf.train.Saver(slim.get_model_variables()).save(session, path, write_meta_graph=False)
            expected = session.run(logits, {images: pictures, is_training: False})
        print(f"loss {losses[0]:.3f} to {losses[-1]:.3f}")
    with tf.Graph().as_default():
        images = tf.placeholder(tf.float32, [None, 33, 33, 3])
        logits = build(images, is_training=False)
        restore = slim.assign_from_checkpoint_fn(path, slim.get_model_variables())
        with tf.Session() as session:
            restore(session)
            np.testing.assert_allclose(session.run(logits, {images: pictures}), expected, atol=1e-4)
        print(f"restored {len(slim.get_model_variables())} model variables")


if __name__ == "__main__":
    main(*sys.argv[1:])
