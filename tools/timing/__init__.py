"""Measures how long a session takes for a target."""

from tools.timing.steps import Timing, TimingInterrupted, time_steps, time_tensorflow_run

__all__ = ["Timing", "TimingInterrupted", "time_steps", "time_tensorflow_run"]
