"""The learning rate of each step.

constant     r
cosine       e + (r - e) (1 + cos(pi t)) / 2                      arXiv:1608.03983
polynomial   e + (r - e) (1 - t)^power
exponential  r decay_factor^floor(step / decay_steps)             research/slim's staircase
piecewise    r decay_factor^(number of boundaries up to the step)

r is the highest learning rate, e the one at the end, and t the share of the steps after the warm-up that are done. In
the warm-up of w steps, step i has (i + 1) / w of r. Steps are counted from 0.
"""

import bisect
import math
from collections.abc import Sequence
from typing import Any

__all__ = ["SCHEDULES", "learning_rate_at"]

# Schedule → its settings with their defaults. ``decay_steps`` depends on the data, and ``boundaries`` has no default.
SCHEDULES: dict[str, dict[str, Any]] = {
    "constant": {},
    "cosine": {"end_learning_rate": 0.0},
    "exponential": {"decay_factor": 0.94, "decay_steps": None},
    "piecewise": {"decay_factor": 0.1, "boundaries": None},
    "polynomial": {"end_learning_rate": 0.0001, "power": 1.0},
}


def learning_rate_at(
    step: int,
    steps: int,
    *,
    schedule: str,
    learning_rate: float,
    warmup_steps: int = 0,
    end_learning_rate: float = 0.0,
    power: float = 1.0,
    decay_factor: float = 1.0,
    decay_steps: int = 1,
    boundaries: Sequence[int] = (),
) -> float:
    """Returns the learning rate of a step, from 0 to ``steps`` - 1."""
    if step < warmup_steps:
        return learning_rate * (step + 1) / warmup_steps
    done = (step - warmup_steps) / max(1, steps - warmup_steps)
    match schedule:
        case "cosine":
            return end_learning_rate + (learning_rate - end_learning_rate) * (1 + math.cos(math.pi * done)) / 2
        case "polynomial":
            return end_learning_rate + (learning_rate - end_learning_rate) * (1 - done) ** power
        case "exponential":
            return learning_rate * decay_factor ** (step // decay_steps)
        case "piecewise":
            return learning_rate * decay_factor ** bisect.bisect_right(boundaries, step)
        case _:
            return learning_rate
