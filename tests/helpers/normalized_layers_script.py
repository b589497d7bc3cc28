"""Compares tf_slim's own layers with ``slim.batch_norm`` as their normalizer, after the repair, with NumPy.

The argument is a statement that sets TensorFlow's mode.
"""

import sys

import numpy as np
import tensorflow.compat.v1 as tf
import tf_slim as slim

import nets.layers

nets.layers.repair_tf_slim()

# Shape of the inputs, and arguments, by layer.
LAYERS = {
    "conv1d": ([4, 9, 3], [5, 3]),
    "conv2d": ([4, 8, 8, 3], [5, 3]),
    "conv3d": ([2, 4, 6, 6, 3], [5, 3]),
    "convolution": ([2, 4, 6, 6, 3], [5, [1, 3, 3]]),
    "conv2d_transpose": ([4, 4, 4, 3], [5, 3]),
    "conv3d_transpose": ([2, 2, 4, 4, 3], [5, 3]),
    "separable_conv2d": ([4, 8, 8, 3], [5, 3]),
    "conv2d_in_plane": ([4, 8, 8, 3], [3]),
}
# Of any rank: the channels are the last axis.
FULLY_CONNECTED = {"rank 2": [16, 6], "rank 3": [4, 5, 6], "rank 5": [2, 2, 3, 4, 6]}

DECAY, EPSILON = 0.75, 0.001


def check(layer, inputs, arguments, is_training):
    """Compares the layer with the normalizer with the layer without it, normalized here in float64."""
    inputs = np.random.default_rng(0).normal(size=inputs).astype(np.float32)
    bare = {"activation_fn": None, "weights_initializer": tf.constant_initializer(0.1)}
    if layer is not slim.conv2d_in_plane:
        bare["biases_initializer"] = None
    params = {"is_training": is_training, "decay": DECAY, "scale": True}
    with tf.Graph().as_default(), tf.Session() as session:
        inputs = tf.constant(inputs)
        plain = layer(inputs, *arguments, **bare)
        outputs = layer(inputs, *arguments, normalizer_fn=slim.batch_norm, normalizer_params=params, **bare)
        session.run(tf.global_variables_initializer())
        moving = [slim.get_variables_by_name(name)[0] for name in ("moving_mean", "moving_variance")]
        assert [variable.shape.as_list() for variable in moving] == [[int(outputs.shape[-1])]] * 2
        session.run([moving[0].assign(moving[0] + 0.5), moving[1].assign(moving[1] * 2.0)])
        plain, result = session.run([plain, outputs])
        updates = tf.get_collection(tf.GraphKeys.UPDATE_OPS)
        session.run(updates)
        after = session.run(moving)
    plain = plain.astype(np.float64)
    axes = tuple(range(plain.ndim - 1))
    # The sample's variance except for rank 3, for which slim has no fused op.
    mean, variance = plain.mean(axes), plain.var(axes, ddof=int(plain.ndim != 3))
    before = np.full_like(mean, 0.5), np.full_like(mean, 2.0)
    center, spread = (mean, plain.var(axes)) if is_training else before
    # Sums of up to 81 products in float32.
    np.testing.assert_allclose(result, (plain - center) / np.sqrt(spread + EPSILON), rtol=1e-3, atol=1e-4)
    assert len(updates) == (2 if is_training else 0)
    expected = [DECAY * old + (1 - DECAY) * new for old, new in zip(before, (mean, variance), strict=True)]
    for value, wanted in zip(after, expected if is_training else before, strict=True):
        np.testing.assert_allclose(value, wanted, rtol=1e-4, atol=1e-6)


def main(statement):
    exec(statement, {"v1": tf})
    cases = [(getattr(slim, name), shape, arguments) for name, (shape, arguments) in LAYERS.items()]
    cases += [(slim.fully_connected, shape, [5]) for shape in FULLY_CONNECTED.values()]
    for case in cases:
        for is_training in (True, False):
            check(*case, is_training)
    print(f"{len(cases)} layers, in training and outside")


if __name__ == "__main__":
    main(sys.argv[1])
