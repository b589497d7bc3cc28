"""Checkpoints of the smallest network. Most have random weights, and outputs that depend on all of them."""

import os

import numpy as np
import pytest

# Set before anything imports TensorFlow, whose messages would be mistaken for the programs' own.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

CLASSES = 10


@pytest.fixture(scope="session")
def tiny_checkpoint(tmp_path_factory):
    """Returns a V2 bundle of ``resnet_v2_tiny`` with only its model variables: the common name of its files."""
    return _save(tmp_path_factory.mktemp("tiny") / "tiny.ckpt", "V2", training=False)


@pytest.fixture(scope="session")
def tiny_checkpoint_v1(tmp_path_factory):
    """Returns a V1 file of the same weights as training leaves it: with the global step and the optimizer's slots."""
    return _save(tmp_path_factory.mktemp("tiny_v1") / "tiny_v1.ckpt", "V1", training=True)


def _save(path, version, training):
    import tensorflow as tf
    import tf_slim as slim
    from tensorflow.core.protobuf import saver_pb2

    from nets import nets_factory

    v1 = tf.compat.v1
    with tf.Graph().as_default(), v1.Session() as session:
        images = v1.placeholder(tf.float32, [2, 32, 32, 3])
        build = nets_factory.get_network_fn("resnet_v2_tiny", CLASSES, is_training=training)
        logits, _ = build(images)
        if training:
            step = v1.train.get_or_create_global_step()
            v1.train.MomentumOptimizer(0.1, 0.9).minimize(tf.reduce_sum(logits), global_step=step)
        session.run(v1.global_variables_initializer())
        rng = np.random.default_rng(0)
        for variable in slim.get_model_variables():
            value = _random_value(rng, variable.op.name, variable.shape.as_list())
            session.run(variable.initializer, {variable.initializer.inputs[1]: value})
        saver = v1.train.Saver(write_version=getattr(saver_pb2.SaverDef, version))
        saver.save(session, os.fspath(path), write_meta_graph=False, write_state=False)
    return path


def _random_value(rng, name, shape):
    """Returns statistics far from their initial 0 and 1, and kernels that keep the size of their inputs."""
    kind = name.rpartition("/")[-1]
    if kind == "weights":
        return rng.normal(0, np.sqrt(2 / np.prod(shape[:-1])), shape).astype(np.float32)
    low, high = {"gamma": (0.5, 1.5), "moving_variance": (0.3, 2.0)}.get(kind, (-0.5, 0.5))
    return rng.uniform(low, high, shape).astype(np.float32)
