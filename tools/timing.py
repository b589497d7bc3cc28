"""How long a session takes for a target: the timing function of many TensorFlow 1 scripts, with its sums put right."""

import statistics
import time
from collections.abc import Callable
from datetime import datetime
from typing import Any, NamedTuple

import tensorflow as tf

__all__ = ["Timing", "time_tensorflow_run"]

v1 = tf.compat.v1

# Of how many steps one is reported on.
_REPORTED = 10


class Timing(NamedTuple):
    """The durations of the steps that count, in seconds, in their order."""

    durations: tuple[float, ...]

    @property
    def mean(self) -> float:
        return statistics.fmean(self.durations)

    @property
    def standard_deviation(self) -> float:
        """Of these steps, and not an estimate for others: the root of the mean square minus the square of the mean."""
        return statistics.pstdev(self.durations)

    @property
    def median(self) -> float:
        return statistics.median(self.durations)

    @property
    def minimum(self) -> float:
        return min(self.durations)


def time_tensorflow_run(
    session: v1.Session,
    target: Any,
    info_string: str,
    num_batches: int = 100,
    num_steps_burn_in: int = 10,
    *,
    feed_dict: dict[tf.Tensor, Any] | None = None,
    clock: Callable[[], float] = time.perf_counter,
) -> Timing:
    """Runs ``target`` again and again, and prints how long it takes: every tenth step, and a summary of all.

    Args:
      session: runs it.
      target: what to fetch, as for ``session.run``. What is fetched is copied out of TensorFlow, which is part of a
        step's time: fetch an operation (``target.op``) to leave that out.
      info_string: name of the measurement, such as 'Forward'.
      num_batches: number of steps that count.
      num_steps_burn_in: number of steps before them, which do not: the first ones allocate and choose kernels.
      feed_dict: as for ``session.run``.
      clock: the time in seconds.

    Returns:
      The durations.

    Raises:
      ValueError: for fewer than 1 step, or fewer than 0 to burn in.
    """
    if num_batches < 1:
        raise ValueError(f"num_batches must be at least 1, and is {num_batches}.")
    if num_steps_burn_in < 0:
        raise ValueError(f"num_steps_burn_in must be at least 0, and is {num_steps_burn_in}.")
    durations: list[float] = []
    for i in range(-num_steps_burn_in, num_batches):
        start = clock()
        session.run(target, feed_dict)
        duration = clock() - start
        if i < 0:
            continue
        durations.append(duration)
        if i % _REPORTED == 0:
            print(f"{datetime.now()}: step {i}, duration = {duration:.3f}")
    timing = Timing(tuple(durations))
    print(
        f"{datetime.now()}: {info_string} across {num_batches} steps, "
        f"{timing.mean:.3f} +/- {timing.standard_deviation:.3f} sec / batch"
    )
    return timing
