"""Measures training steps of ResNet-50 v2 (momentum, weight decay, moving statistics) against the slim graph's.

And ``slimnets train`` from JPEG files, with augmentation and saved states, against the training step alone.
"""

import queue
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import numpy as np
import tensorflow as tf
import tf_slim as slim

from nets import resnet_v2
from tools.benchmarks.figures import Figure, in_turns
from tools.benchmarks.replicas import save_images
from tools.peers.slim_reference import tf_slim_builder, tf_slim_scope
from tools.runtime.on_device import resident_variable
from tools.runtime.sessions import session_config
from tools.timing.graph import timed_graph
from tools.timing.options import Options
from tools.training import Event, fit

__all__ = ["train", "train_files"]

v1 = tf.compat.v1

_BATCH_SIZE = 16

# Number of files, of steps in a turn, and of those at its beginning that do not count: their images may have been
# decoded in the other's turn.
_FILES, _TURN, _AHEAD = 256, 12, 3


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


def train_files(rounds: int) -> list[Figure]:
    """Measures images/s of ``fit`` from JPEG files against those of ``slimnets time --mode train``."""
    with tempfile.TemporaryDirectory() as name:
        for label in ("a", "b"):
            save_images(Path(name, "data", label), _FILES // 2)
        options = Options(mode="train", batch_size=_BATCH_SIZE, num_classes=2)
        with timed_graph("resnet_v2_50", options) as alone, _Fit(Path(name)) as fit:

            def steps() -> float:
                begun = time.perf_counter()
                for _ in range(_TURN - _AHEAD):
                    alone.step()
                return (_TURN - _AHEAD) * _BATCH_SIZE / (time.perf_counter() - begun)

            rates = in_turns({"files": fit.rate, "alone": steps}, rounds)
    name = f"train from files batch {_BATCH_SIZE} / step alone"
    return [Figure(name, "images/s", rates["files"], rates["alone"], "at least 0.95")]


class _Fit(AbstractContextManager):
    """A training from files that goes on for a turn when it is told to."""

    def __init__(self, folder: Path) -> None:
        self._turns: queue.Queue[bool] = queue.Queue()
        self._rates: queue.Queue[float | Exception] = queue.Queue()
        self._times: list[float] = []
        self._thread = threading.Thread(target=self._train, args=(folder,), daemon=True)

    def _train(self, folder: Path) -> None:
        settings = {"batch_size": _BATCH_SIZE, "steps": 10**6, "preprocessing": "inception", "image_size": 224}
        try:
            fit(folder / "data", folder / "output", net="resnet_v2_50", watch=self._watch, **settings)
        except Exception as error:  # raised where a rate is waited for
            self._rates.put(error)

    def _watch(self, event: Event) -> None:
        self._times.append(time.perf_counter())
        if len(self._times) == _TURN:
            counted = _TURN - _AHEAD
            self._rates.put(counted * _BATCH_SIZE / (self._times[-1] - self._times[_AHEAD - 1]))
            self._times.clear()
            if not self._turns.get():
                raise _EndError

    def rate(self) -> float:
        """Returns the images/s of a turn."""
        if self._thread.ident is None:
            self._thread.start()
        else:
            self._turns.put(True)
        rate = self._rates.get()
        if isinstance(rate, Exception):
            raise rate
        return rate

    def __exit__(self, *error: object) -> None:
        self._turns.put(False)
        self._thread.join()


class _EndError(Exception):
    """Raised to end a training."""
