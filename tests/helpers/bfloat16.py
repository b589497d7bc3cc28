"""Finds out from computed values what TensorFlow itself does in bfloat16 in this process."""

import functools

import numpy as np
import tensorflow as tf

v1 = tf.compat.v1


@functools.cache
def convolutions() -> bool:
    """Returns whether the optimizer's bfloat16 runs, and changes the result of a convolution."""
    generator = np.random.default_rng(0)
    images, kernel = (generator.normal(size=shape).astype(np.float32) for shape in ([1, 8, 8, 16], [3, 3, 16, 16]))
    results = []
    for mode in ("OFF", "ON"):
        config = v1.ConfigProto()
        rewrites = config.graph_options.rewrite_options
        rewrites.min_graph_nodes = -1
        rewrites.auto_mixed_precision_onednn_bfloat16 = getattr(rewrites, mode)
        with tf.Graph().as_default(), v1.Session(config=config) as session:
            fed = v1.placeholder(tf.float32, images.shape)
            output = tf.nn.relu(tf.nn.conv2d(fed, kernel, 1, "SAME")) + 1
            try:
                results.append(session.run(output, {fed: images}))
            except tf.errors.OpError:
                return False
    # With 8 bits each factor is rounded by up to 2^-9 of its size.
    return float(np.abs(results[0] - results[1]).max()) > 1e-3


@functools.cache
def batch_norms() -> bool:
    """Returns whether a fused batch norm runs in bfloat16."""
    with tf.Graph().as_default(), v1.Session() as session:
        images = tf.cast(np.ones([2, 4, 4, 3], np.float32), tf.bfloat16)
        try:
            session.run(v1.nn.fused_batch_norm(images, np.ones(3, np.float32), np.zeros(3, np.float32))[0])
        except tf.errors.OpError:
            return False
    return True
