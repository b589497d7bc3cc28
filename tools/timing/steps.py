"""Times a session: the timing function of many TensorFlow 1 scripts, with its sums corrected."""

import statistics
import time
from collections.abc import Callable
from datetime import datetime
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

__all__ = ["Timing", "TimingInterrupted", "time_steps", "time_tensorflow_run"]

v1 = tf.compat.v1

# Every step whose number is a multiple of this is reported.
_REPORTED = 10


class Timing(NamedTuple):
    """The durations of the counted steps, in seconds and in their order."""

    durations: tuple[float, ...]

    @property
    def mean(self) -> float:
        return statistics.fmean(self.durations)

    @property
    def standard_deviation(self) -> float:
        """Standard deviation of these steps themselves, not an estimate for others: the divisor is their number."""
        return statistics.pstdev(self.durations)

    @property
    def median(self) -> float:
        return statistics.median(self.durations)

    @property
    def minimum(self) -> float:
        return min(self.durations)

    def percentile(self, percent: float) -> float:
        """Returns the duration that ``percent`` of the steps do not exceed, by NumPy's method 'linear'.

        Its place in the sorted durations is (count - 1) * percent / 100, interpolated between the neighbours.
        """
        return float(np.percentile(self.durations, percent, method="linear"))

    @property
    def p5(self) -> float:
        return self.percentile(5)

    @property
    def p95(self) -> float:
        return self.percentile(95)

    @property
    def p99(self) -> float:
        return self.percentile(99)


class TimingInterrupted(KeyboardInterrupt):
    """Ctrl-C after counted steps; ``timing`` holds these steps."""

    def __init__(self, timing: Timing) -> None:
        super().__init__(f"interrupted after {len(timing.durations)} steps")
        self.timing = timing


def time_steps(
    step: Callable[[], object],
    num_steps: int,
    num_steps_burn_in: int = 0,
    *,
    clock: Callable[[], float] = time.perf_counter,
    on_step: Callable[[int, float], object] | None = None,
) -> Timing:
    """Runs a step again and again, and measures the duration of each.

    Args:
      step: function to time.
      num_steps: number of counted steps.
      num_steps_burn_in: number of steps before them that do not count. The first steps allocate and choose kernels.
      clock: returns the time in seconds.
      on_step: called after each step, outside of the timed part, with the step's number and duration. The numbers of
        burn-in steps are negative.

    Returns:
      The durations of the counted steps.

    Raises:
      TimingInterrupted: for a KeyboardInterrupt after at least one counted step.
      ValueError: for fewer than 1 step, or fewer than 0 burn-in steps.
    """
    if num_steps < 1:
        raise ValueError(f"num_steps must be at least 1, but is {num_steps}.")
    if num_steps_burn_in < 0:
        raise ValueError(f"num_steps_burn_in must be at least 0, but is {num_steps_burn_in}.")
    durations: list[float] = []
    try:
        for i in range(-num_steps_burn_in, num_steps):
            start = clock()
            step()
            duration = clock() - start
            if i >= 0:
                durations.append(duration)
            if on_step is not None:
                on_step(i, duration)
    except KeyboardInterrupt:
        if not durations:
            raise
        raise TimingInterrupted(Timing(tuple(durations))) from None
    return Timing(tuple(durations))


def time_tensorflow_run(
    session: v1.Session,
    target: Any,
    info_string: str,
    num_batches: int = 100,
    num_steps_burn_in: int = 10,
    feed_dict: dict[tf.Tensor, Any] | None = None,
    *,
    clock: Callable[[], float] = time.perf_counter,
) -> Timing:
    """Runs ``target`` again and again, and prints the duration of every tenth step and a summary of all.

    Args:
      session: session that runs the target.
      target: what to fetch, as for ``session.run``. The duration of a step includes copying the result out of
        TensorFlow. To leave that out, fetch an operation (``target.op``).
      info_string: name of the measurement, such as 'Forward'.
      num_batches: number of counted steps.
      num_steps_burn_in: number of steps before them that do not count. The first steps allocate and choose kernels.
      feed_dict: as for ``session.run``.
      clock: returns the time in seconds.

    Returns:
      The durations of the counted steps.

    Raises:
      KeyboardInterrupt: for Ctrl-C, after the summary of the completed steps.
      ValueError: for fewer than 1 step, or fewer than 0 burn-in steps.
    """
    if num_batches < 1:
        raise ValueError(f"num_batches must be at least 1, but is {num_batches}.")

    def report(i: int, duration: float) -> None:
        if i >= 0 and i % _REPORTED == 0:
            print(f"{datetime.now()}: step {i}, duration = {duration:.3f}")

    def summarize(timing: Timing) -> None:
        print(
            f"{datetime.now()}: {info_string} across {len(timing.durations)} steps, "
            f"{timing.mean:.3f} +/- {timing.standard_deviation:.3f} sec / batch"
        )

    try:
        timing = time_steps(
            lambda: session.run(target, feed_dict), num_batches, num_steps_burn_in, clock=clock, on_step=report
        )
    except TimingInterrupted as interrupted:
        summarize(interrupted.timing)
        raise
    summarize(timing)
    return timing
