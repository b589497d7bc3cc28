"""The settings of a training: their defaults, and what is refused."""

import dataclasses
import difflib
import math
from collections.abc import Sequence
from typing import Any

from nets.augmentation import AUGMENTATIONS
from tools.errors import InputError
from tools.runtime.sessions import PRECISIONS
from tools.training.optimizers import OPTIMIZERS
from tools.training.schedules import SCHEDULES

__all__ = ["Settings", "settings_from"]

_LARGEST = 10**9


@dataclasses.dataclass(frozen=True)
class Settings:
    """Settings of a training. What is None is chosen by the data, the checkpoint, or the other settings.

    steps, epochs: length of the training; at most one of them. By default 20 epochs.
    batch_size: number of images of a step.
    learning_rate: highest learning rate. By default 0.01, or 0.001 with adam.
    optimizer: 'momentum', 'sgd', 'adam' or 'rmsprop'.
    momentum: of 'momentum' and 'rmsprop', 0.9.
    adam_beta1, adam_beta2: of 'adam', 0.9 and 0.999.
    rmsprop_decay: of 'rmsprop', 0.9.
    opt_epsilon: of 'adam', 1e-8, and of 'rmsprop', 1.
    schedule: 'cosine', 'constant', 'exponential', 'piecewise' or 'polynomial'; see ``tools.training.schedules``.
    warmup_steps: number of steps in which the learning rate rises in equal parts.
    decay_factor: of 'exponential', 0.94, and 'piecewise', 0.1.
    decay_steps: of 'exponential'; by default 2 epochs.
    boundaries: of 'piecewise'; steps at which the learning rate is multiplied by ``decay_factor``.
    end_learning_rate: of 'cosine', 0, and 'polynomial', 0.0001.
    power: of 'polynomial', 1.
    weight_decay: factor of the L2 loss. By default that of the network's arg scope.
    label_smoothing: share of the target that is spread over all classes.
    ema: decay of moving averages of all weights; None for none. Validation then takes the averages.
    trainable: 'all', 'head' for the logits, or patterns with * and ? of the names of the variables to train.
    freeze_batch_norm: whether batch norms use the stored statistics and leave them as they are. By default they do if
      only the head is trained.
    batch_norm_decay: decay of the moving statistics. By default it follows from the number of steps.
    augmentation: 'vgg', 'inception', 'cifar' or 'none'. By default the one that goes with the preprocessing.
    flip, color: whether the augmentation mirrors images, and changes their colours.
    preprocessing, image_size: of the network's input. By default what the checkpoint's weights need, or the network's.
    new_head: whether the logits begin anew even where the checkpoint's would fit.
    precision: 'float32'; 'bfloat16' on a processor with AVX-512; 'float16' on a GPU.
    seed: of the initial values, the order of the images and the augmentation.
    eval_steps: number of steps between two validations. By default one epoch.
    save_seconds: most seconds of work that a kill can cost.
    checkpoint_seconds: most seconds of work between two checkpoints.
    keep: number of checkpoints that are kept, besides the best.
    threads: number of threads that decode, and that compute; None for one for each core.
    """

    steps: int | None = None
    epochs: float | None = None
    batch_size: int = 32
    learning_rate: float | None = None
    optimizer: str = "momentum"
    momentum: float | None = None
    adam_beta1: float | None = None
    adam_beta2: float | None = None
    rmsprop_decay: float | None = None
    opt_epsilon: float | None = None
    schedule: str = "cosine"
    warmup_steps: int = 0
    decay_factor: float | None = None
    decay_steps: int | None = None
    boundaries: Sequence[int] | None = None
    end_learning_rate: float | None = None
    power: float | None = None
    weight_decay: float | None = None
    label_smoothing: float = 0.0
    ema: float | None = None
    trainable: str | Sequence[str] = "all"
    freeze_batch_norm: bool | None = None
    batch_norm_decay: float | None = None
    augmentation: str | None = None
    flip: bool = True
    color: bool = True
    preprocessing: str | None = None
    image_size: int | None = None
    new_head: bool = False
    precision: str = "float32"
    seed: int = 0
    eval_steps: int | None = None
    save_seconds: float = 5.0
    checkpoint_seconds: float = 60.0
    keep: int = 3
    threads: int | None = None

    def __post_init__(self) -> None:
        for name, (least, most, excluded) in _RANGES.items():
            _check_number(name, getattr(self, name), least, most, excluded)
        for name in ("steps", "batch_size", "warmup_steps", "decay_steps", "eval_steps", "seed", "keep", "threads"):
            value = getattr(self, name)
            if value is not None and type(value) is not int:
                raise InputError(f"{name} must be a whole number, and is {value!r}.")
        for name, known in _CHOICES.items():
            value = getattr(self, name)
            if value is not None and value not in known:
                raise InputError(f"{name} must be one of {', '.join(known)}, and is {value!r}.")
        if self.steps is not None and self.epochs is not None:
            raise InputError(f"steps={self.steps} and epochs={self.epochs:g} exclude each other: give one of them.")
        _check_used("optimizer", self.optimizer, OPTIMIZERS, self)
        _check_used("schedule", self.schedule, SCHEDULES, self)
        if self.schedule == "piecewise":
            _check_boundaries(self.boundaries)
        if self.freeze_batch_norm and self.batch_norm_decay is not None:
            raise InputError("batch_norm_decay does nothing with freeze_batch_norm=True: omit one of them.")
        if self.augmentation == "none" and not (self.flip and self.color):
            raise InputError("augmentation='none' changes no image: omit flip=False and color=False.")


# Setting → least value, largest value, and which of the two are excluded.
_RANGES: dict[str, tuple[float, float, str]] = {
    "steps": (1, _LARGEST, ""),
    "epochs": (0, _LARGEST, "least"),
    "batch_size": (1, 100_000, ""),
    "learning_rate": (0, 1000, "least"),
    "momentum": (0, 1, "most"),
    "adam_beta1": (0, 1, "most"),
    "adam_beta2": (0, 1, "most"),
    "rmsprop_decay": (0, 1, "most"),
    "opt_epsilon": (0, 1000, "least"),
    "warmup_steps": (0, _LARGEST, ""),
    "decay_factor": (0, 1, "least"),
    "decay_steps": (1, _LARGEST, ""),
    "end_learning_rate": (0, 1000, ""),
    "power": (0, 100, "least"),
    "weight_decay": (0, 1, ""),
    "label_smoothing": (0, 1, "most"),
    "ema": (0, 1, "both"),
    "batch_norm_decay": (0, 1, "most"),
    "seed": (0, 2**31 - 1, ""),
    "eval_steps": (1, _LARGEST, ""),
    "save_seconds": (0, _LARGEST, ""),
    "checkpoint_seconds": (0, _LARGEST, ""),
    "keep": (1, 1000, ""),
    "threads": (1, 1000, ""),
}

_CHOICES = {
    "optimizer": tuple(OPTIMIZERS),
    "schedule": tuple(SCHEDULES),
    "augmentation": tuple(AUGMENTATIONS),
    "precision": PRECISIONS,
}


def settings_from(given: dict[str, Any]) -> Settings:
    """Returns the settings of keyword arguments.

    Raises:
      InputError: for a value that cannot be honoured.
      TypeError: for an unknown name.
    """
    known = [field.name for field in dataclasses.fields(Settings)]
    for name in given:
        if name not in known:
            nearest = difflib.get_close_matches(name, known, 1)
            hint = f"; did you mean {nearest[0]!r}?" if nearest else ""
            raise TypeError(f"fit() got an unexpected keyword argument {name!r}{hint}")
    return Settings(**given)


def _check_number(name: str, value: Any, least: float, most: float, excluded: str) -> None:
    if value is None:
        return
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not math.isfinite(value):
        raise InputError(f"{name} must be a number, and is {value!r}.")
    too_small = value <= least if excluded in ("least", "both") else value < least
    too_large = value >= most if excluded in ("most", "both") else value > most
    if too_small or too_large:
        above = "above" if excluded in ("least", "both") else "at least"
        below = "below" if excluded in ("most", "both") else "at most"
        raise InputError(f"{name} must be {above} {least:,} and {below} {most:,}, and is {value:,}.")


def _check_used(name: str, chosen: str, table: dict[str, dict[str, Any]], settings: Settings) -> None:
    """Raises InputError for a setting that the chosen optimizer or schedule does not have."""
    for argument in {argument for arguments in table.values() for argument in arguments}:
        if getattr(settings, argument) is not None and argument not in table[chosen]:
            others = " and ".join(sorted(other for other, arguments in table.items() if argument in arguments))
            raise InputError(f"{argument} is a setting of {others}, and {name} is {chosen!r}: omit one of them.")


def _check_boundaries(boundaries: Sequence[int] | None) -> None:
    if not boundaries or any(type(step) is not int or step < 1 for step in boundaries):
        raise InputError(
            f"boundaries must be the steps at which the learning rate falls, such as [100, 150], and is {boundaries!r}."
        )
    if list(boundaries) != sorted(set(boundaries)):
        raise InputError(f"boundaries must rise, and is {list(boundaries)}.")
