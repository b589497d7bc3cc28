"""The optimizers. Defaults are those of research/slim's training script, except for adam's epsilon: its paper's."""

from collections.abc import Mapping
from typing import Any

import tensorflow as tf

__all__ = ["OPTIMIZERS", "make_optimizer"]

v1 = tf.compat.v1

# Optimizer → its settings with their defaults.
OPTIMIZERS: dict[str, dict[str, float]] = {
    "adam": {"adam_beta1": 0.9, "adam_beta2": 0.999, "opt_epsilon": 1e-8},
    "momentum": {"momentum": 0.9},
    "rmsprop": {"rmsprop_decay": 0.9, "momentum": 0.9, "opt_epsilon": 1.0},
    "sgd": {},
}


def make_optimizer(name: str, learning_rate: tf.Tensor, settings: Mapping[str, Any]) -> v1.train.Optimizer:
    """Returns an optimizer.

    Args:
      name: key of ``OPTIMIZERS``.
      learning_rate: scalar tensor.
      settings: values of its settings; those that are None or missing have their defaults.
    """
    chosen = {key: default if settings.get(key) is None else settings[key] for key, default in OPTIMIZERS[name].items()}
    match name:
        case "adam":
            return v1.train.AdamOptimizer(
                learning_rate, chosen["adam_beta1"], chosen["adam_beta2"], chosen["opt_epsilon"]
            )
        case "momentum":
            return v1.train.MomentumOptimizer(learning_rate, chosen["momentum"])
        case "rmsprop":
            return v1.train.RMSPropOptimizer(
                learning_rate, chosen["rmsprop_decay"], chosen["momentum"], chosen["opt_epsilon"]
            )
        case _:
            return v1.train.GradientDescentOptimizer(learning_rate)
