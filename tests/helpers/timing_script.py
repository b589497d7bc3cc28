"""A timing script like those of tutorials on ResNet v2, with its own definitions of the network or with ours.

    python -m tests.helpers.timing_script own|imported NET BATCH SIZE STEPS
    python -m tests.helpers.timing_script compare

Three lines replace ``tf.contrib.slim``, and the known faults of the original are corrected. The last form compares the
two ways with the same weights.
"""

import collections
import sys

import numpy as np
import tensorflow.compat.v1 as tf

tf.disable_v2_behavior()
import tf_slim as slim  # noqa: E402

import nets.layers  # noqa: E402

nets.layers.repair_tf_slim()

from nets import resnet_v2 as imported  # noqa: E402
from nets.resnet_utils import resnet_arg_scope as imported_arg_scope  # noqa: E402
from tests.helpers.reference import assign, random_values, relative_difference  # noqa: E402
from tools.timing import time_tensorflow_run  # noqa: E402

UNITS = {"resnet_v2_50": (3, 4, 6, 3), "resnet_v2_152": (3, 8, 36, 3)}


class Block(collections.namedtuple("Block", "scope unit_fn args")):
    pass


def subsample(net, factor, scope):
    return net if factor == 1 else slim.max_pool2d(net, [1, 1], stride=factor, scope=scope)


def conv2d_same(net, depth, size, stride, scope):
    if stride == 1:
        return slim.conv2d(net, depth, size, padding="SAME", scope=scope)
    before = (size - 1) // 2
    edges = [before, size - 1 - before]
    return slim.conv2d(
        tf.pad(net, [[0, 0], edges, edges, [0, 0]]), depth, size, stride=stride, padding="VALID", scope=scope
    )


@slim.add_arg_scope
def stack_blocks_dense(net, blocks, outputs_collections=None):
    for block in blocks:
        with tf.variable_scope(block.scope, "block", [net]) as sc:
            for number, (depth, depth_inside, stride) in enumerate(block.args, 1):
                with tf.variable_scope(f"unit_{number}", values=[net]):
                    net = block.unit_fn(net, depth=depth, depth_bottleneck=depth_inside, stride=stride)
            net = slim.utils.collect_named_outputs(outputs_collections, sc.name, net)
    return net


@slim.add_arg_scope
def bottleneck(net, depth, depth_bottleneck, stride, outputs_collections=None, scope=None):
    plain = {"normalizer_fn": None, "activation_fn": None}
    with tf.variable_scope(scope, "bottleneck_v2", [net]) as sc:
        before = slim.batch_norm(net, activation_fn=tf.nn.relu, scope="preact")
        if slim.utils.last_dimension(net.get_shape(), min_rank=4) == depth:
            shortcut = subsample(net, stride, "shortcut")
        else:
            shortcut = slim.conv2d(before, depth, [1, 1], stride=stride, scope="shortcut", **plain)
        inside = slim.conv2d(before, depth_bottleneck, [1, 1], scope="conv1")
        inside = conv2d_same(inside, depth_bottleneck, 3, stride, "conv2")
        inside = slim.conv2d(inside, depth, [1, 1], scope="conv3", **plain)
        return slim.utils.collect_named_outputs(outputs_collections, sc.name, shortcut + inside)


def arg_scope(is_training, weight_decay=1e-4):
    norm = {
        "is_training": is_training,
        "decay": 0.997,
        "epsilon": 1e-5,
        "scale": True,
        "updates_collections": tf.GraphKeys.UPDATE_OPS,
    }
    with (
        slim.arg_scope(
            [slim.conv2d],
            weights_regularizer=slim.l2_regularizer(weight_decay),
            weights_initializer=slim.variance_scaling_initializer(),
            activation_fn=tf.nn.relu,
            normalizer_fn=slim.batch_norm,
            normalizer_params=norm,
        ),
        slim.arg_scope([slim.batch_norm], **norm),
        slim.arg_scope([slim.max_pool2d], padding="SAME") as scope,
    ):
        return scope


def own_network(name, images, num_classes):
    depths = (64, 128, 256, 512)
    blocks = [
        Block(f"block{i}", bottleneck, [(4 * depth, depth, 1)] * (units - 1) + [(4 * depth, depth, 2 if i < 4 else 1)])
        for i, (units, depth) in enumerate(zip(UNITS[name], depths, strict=True), 1)
    ]
    with tf.variable_scope(name, "resnet_v2", [images]) as sc:
        outputs = sc.original_name_scope + "_end_points"
        with slim.arg_scope([slim.conv2d, bottleneck, stack_blocks_dense], outputs_collections=outputs):
            with slim.arg_scope([slim.conv2d], activation_fn=None, normalizer_fn=None):
                net = conv2d_same(images, 64, 7, 2, "conv1")
            net = slim.max_pool2d(net, [3, 3], stride=2, scope="pool1")
            net = stack_blocks_dense(net, blocks)
            net = slim.batch_norm(net, activation_fn=tf.nn.relu, scope="postnorm")
            net = tf.reduce_mean(net, [1, 2], name="pool5", keep_dims=True)
            net = slim.conv2d(net, num_classes, [1, 1], activation_fn=None, normalizer_fn=None, scope="logits")
            end_points = slim.utils.convert_collection_to_dict(outputs)
            end_points["predictions"] = slim.softmax(net, scope="predictions")
            return net, end_points


def build(way, name, images):
    if way == "own":
        with slim.arg_scope(arg_scope(is_training=False)):
            return own_network(name, images, 1000)
    with slim.arg_scope(imported_arg_scope(is_training=False)):
        return getattr(imported, name)(images, 1000, spatial_squeeze=False)


def measure(way, name, batch, size, steps):
    images = tf.random_uniform((batch, size, size, 3))
    net, _ = build(way, name, images)
    session = tf.Session()
    session.run(tf.global_variables_initializer())
    time_tensorflow_run(session, net, "Forward", num_batches=steps)


def compare():
    """Checks that both ways have the same names, and the same values if given the same weights."""
    values = np.random.default_rng(0).uniform(size=[2, 97, 97, 3])
    found = []
    for way in ("own", "imported"):
        with tf.Graph().as_default(), tf.Session() as session:
            images = tf.placeholder(tf.float32, values.shape)
            net, end_points = build(way, "resnet_v2_50", images)
            assign(session, random_values(tf.global_variables()))
            names = [variable.name for variable in tf.global_variables()]
            found.append((names, set(end_points), session.run(net, {images: values})))
    (names, keys, result), (imported_names, imported_keys, imported_result) = found
    assert names == imported_names
    assert keys == imported_keys - {"global_pool"}
    assert relative_difference(result, imported_result) <= 1e-5
    print(f"equal: {len(names)} variables, {len(keys)} end points")


if __name__ == "__main__":
    if sys.argv[1] == "compare":
        compare()
    else:
        measure(*sys.argv[1:3], *(int(number) for number in sys.argv[3:]))
