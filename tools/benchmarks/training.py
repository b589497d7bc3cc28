"""Measures training steps of ResNet-50 v2 (momentum, weight decay, moving averages) against the slim graph's."""

import time
from collections.abc import Callable

import numpy as np
import tensorflow as tf
import tf_slim as slim

from nets import resnet_v2
from tools.benchmarks.figures import Figure, in_turns
from tools.peers.slim_reference import tf_slim_builder, tf_slim_scope
from tools.runtime.on_device import resident_variable
from tools.runtime.sessions import session_config

__all__ = ["train"]

v1 = tf.compat.v1

_BATCH_SIZE = 16


def train(rounds: int) -> list[Figure]:
    """Measures images/s of training steps, in float32 and in bfloat16, against the slim graph in float32."""
    ours, slims = (resnet_v2.resnet_v2_50, _our_scope), (tf_slim_builder("resnet_v2_50"), tf_slim_scope)
    steps = {
        "slim": _training_step(*slims, session_config()),
        "float32": _training_step(*ours, session_config()),
        "bfloat16": _training_step(*ours, session_config("bfloat16", training=True)),
    }
    rates = in_turns({name: lambda step=step: _images_per_second(step) for name, step in steps.items()}, rounds)
    return [
        Figure(f"train {name} batch {_BATCH_SIZE} / slim", "images/s", rates[name], rates["slim"], wanted)
        for name, wanted in (("float32", "at least 1"), ("bfloat16", "at least 1.5"))
    ]


def _our_scope() -> Callable:
    return slim.arg_scope(resnet_v2.resnet_arg_scope())


def _training_step(builder: Callable, scope: Callable, config: v1.ConfigProto) -> Callable[[], None]:
    """Returns a function that runs a step in a session of its own, with images and labels on the device."""
    generator = np.random.default_rng(0)
    with tf.Graph().as_default() as graph:
        v1.set_random_seed(0)
        values = generator.normal(size=[_BATCH_SIZE, 224, 224, 3]).astype(np.float32)
        images = resident_variable("images", values).read_value()
        labels = resident_variable("labels", generator.integers(0, 1001, [_BATCH_SIZE])).read_value()
        with scope():
            logits, _ = builder(images, 1001, is_training=True)
        v1.losses.sparse_softmax_cross_entropy(labels, tf.reshape(logits, [_BATCH_SIZE, 1001]))
        loss = v1.losses.get_total_loss()
        with tf.control_dependencies(v1.get_collection(v1.GraphKeys.UPDATE_OPS)):
            train_op = v1.train.MomentumOptimizer(1e-3, 0.9).minimize(loss)
        initializers = [v1.global_variables_initializer(), v1.local_variables_initializer()]
    session = v1.Session(graph=graph, config=config)
    session.run(initializers)
    return lambda: session.run(train_op)


def _images_per_second(step: Callable[[], None]) -> float:
    start = time.perf_counter()
    step()
    return _BATCH_SIZE / (time.perf_counter() - start)
