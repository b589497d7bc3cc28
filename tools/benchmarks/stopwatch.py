"""Measures the timing tool itself: its mean and its cost."""

import contextlib
import io
import time

import tensorflow as tf

from nets import nets_factory
from tools.benchmarks.figures import Figure
from tools.timing import time_steps, time_tensorflow_run

__all__ = ["stopwatch"]

v1 = tf.compat.v1

_STEPS, _BATCH_SIZE = 200, 8

# Number of rounds. Each has 200 steps and takes a minute.
_ROUNDS = 3


def stopwatch(rounds: int) -> list[Figure]:
    """Compares the tool's mean of 200 steps of ResNet-50 v2 with a clock around all steps.

    Also measures the tool's own cost, with steps that do nothing, against the 50 us that are allowed.
    """
    means, clocks = [], []
    with tf.Graph().as_default() as graph:
        images = v1.get_variable("images", [_BATCH_SIZE, 224, 224, 3], trainable=False, use_resource=True)
        net, _ = nets_factory.get_network_fn("resnet_v2_50", 1001)(images)
        initializer = v1.global_variables_initializer()
    with v1.Session(graph=graph) as session:
        session.run(initializer)
        time_tensorflow_run(session, net.op, "", num_batches=1)
        for _ in range(min(rounds, _ROUNDS)):
            with contextlib.redirect_stdout(io.StringIO()):
                start = time.perf_counter()
                timing = time_tensorflow_run(session, net.op, "", _STEPS, num_steps_burn_in=0)
                clocks.append(1000 * (time.perf_counter() - start) / _STEPS)
            means.append(1000 * timing.mean)
    costs = [_own_cost() for _ in range(rounds)]
    return [
        Figure("stopwatch: mean of a step / by the clock", "ms", means, clocks, "0.98 to 1.02"),
        Figure("stopwatch: its own cost a step / allowed", "us", costs, [50.0] * rounds, "at most 1"),
    ]


def _own_cost() -> float:
    """Returns the microseconds per step of very many steps that do nothing."""
    steps = 100_000
    start = time.perf_counter()
    time_steps(lambda: None, steps)
    return 1e6 * (time.perf_counter() - start) / steps
