"""Runs one setting in a process of its own: ``python -m tools.benchmarks.gpu.worker SETTING FOLDER``.

It prepares the setting, and says so with a line of JSON, ``{"ready": true}``, or ``{"error": ...}``. Then it answers
every line ``turn`` with ``{"seconds": ...}``, the seconds a batch, and ``memory`` with ``{"peak": ...}``, the peak of
the GPU's memory in bytes during the turns, until its input ends.
"""

import math
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path

from tools.benchmarks.gpu.settings import OUT_OF_MEMORY, Setting
from tools.peers.processes import answers, say
from tools.runtime.importing import import_tensorflow

import_tensorflow()

import tensorflow as tf  # noqa: E402

from tools.benchmarks.gpu.steps import Steps, device_of, opened  # noqa: E402
from tools.runtime import machine  # noqa: E402
from tools.timing import time_steps  # noqa: E402

__all__ = ["main", "reason"]

# Seconds of the counted steps of a turn, and the largest number of them. The peer's turn has filled the caches, so the
# first steps do not count.
_TURN, _MOST_STEPS, _BURN_IN = 0.3, 200, 2

# What errors of other types say if the GPU's memory was exhausted.
_SIGNS = ("RESOURCE_EXHAUSTED", "OUT_OF_MEMORY", "STATUS_ALLOC_FAILED")

# Largest number of characters of an error that are shown in the table.
_SHOWN = 160


def main(argv: Sequence[str]) -> int:
    """Serves a setting until the input ends, and returns the exit status."""
    setting, folder = Setting.from_json(argv[0]), Path(argv[1])
    with answers() as stdout:
        try:
            with opened(setting, folder) as steps:
                per_turn = min(_MOST_STEPS, math.ceil(_TURN / time_steps(steps.step, 3, _BURN_IN).median))
                device = device_of(setting)
                machine.reset_device_peak(device)
                say(stdout, ready=True)
                for line in sys.stdin:
                    if line.strip() == "memory":
                        say(stdout, peak=machine.device_peak(device))
                    else:
                        say(stdout, seconds=_seconds_a_batch(steps, per_turn))
        except Exception as error:
            traceback.print_exc()
            say(stdout, error=reason(error))
            return 1
    return 0


def _seconds_a_batch(steps: Steps, per_turn: int) -> float:
    # A step over several batches has its own start, which counts.
    burn_in = _BURN_IN if steps.batches == 1 else 0
    return sum(time_steps(steps.step, per_turn, burn_in).durations) / (per_turn * steps.batches)


def reason(error: Exception) -> str:
    """Returns what the table says of an error: ``OUT_OF_MEMORY``, or the beginning of its message."""
    message = str(error)
    if isinstance(error, tf.errors.ResourceExhaustedError | MemoryError) or any(sign in message for sign in _SIGNS):
        return OUT_OF_MEMORY
    # TensorFlow may begin with headings.
    lines = (line.strip() for line in message.splitlines())
    return next((line for line in lines if line and not line.endswith((":", "found."))), type(error).__name__)[:_SHOWN]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
