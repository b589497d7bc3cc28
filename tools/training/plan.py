"""Turns settings into a plan for a network and its images: the values that were left open, and the learning rates."""

import dataclasses
import inspect
import math
from typing import NamedTuple

from nets.augmentation import check_augmentation, default_augmentation
from nets.guards import LARGEST_INITIAL_WEIGHT, batch_norm_decay_for
from tools.errors import InputError
from tools.training.schedules import SCHEDULES, learning_rate_at
from tools.training.settings import Settings
from tools.training.start import Start, weight_decay_of

__all__ = ["Plan", "make_plan"]

_EPOCHS = 20
_LEARNING_RATES = {"adam": 0.001}
_LEARNING_RATE = 0.01
# As research/slim's staircase.
_DECAY_EPOCHS = 2


class Plan(NamedTuple):
    """All that a training depends on, besides its images and the checkpoint.

    settings: the settings as given.
    steps: number of steps.
    steps_an_epoch: images by the batch size; a whole number only by chance.
    eval_steps: number of steps between two validations.
    learning_rate: the highest.
    decay_steps: of the exponential schedule.
    weight_decay: factor of the L2 loss.
    freeze_batch_norm: whether batch norms use the stored statistics.
    batch_norm_decay: decay of the moving statistics; None if they are frozen, or there are none.
    augmentation: name of the augmentation.
    """

    settings: Settings
    steps: int
    steps_an_epoch: float
    eval_steps: int
    learning_rate: float
    decay_steps: int
    weight_decay: float
    freeze_batch_norm: bool
    batch_norm_decay: float | None
    augmentation: str

    def learning_rate_at(self, step: int) -> float:
        """Returns the learning rate of a step, counted from 0."""
        settings = self.settings
        chosen = {
            name: default if getattr(settings, name) is None else getattr(settings, name)
            for name, default in SCHEDULES[settings.schedule].items()
        }
        if "decay_steps" in chosen:
            chosen["decay_steps"] = self.decay_steps
        return learning_rate_at(
            step,
            self.steps,
            schedule=settings.schedule,
            learning_rate=self.learning_rate,
            warmup_steps=settings.warmup_steps,
            **chosen,
        )

    def is_evaluated(self, step: int) -> bool:
        """Returns whether a validation follows after so many steps."""
        return step == self.steps or (step > 0 and step % self.eval_steps == 0)

    def determining(self) -> dict[str, object]:
        """Returns the settings that determine the result, as values of JSON."""
        others = ("save_seconds", "checkpoint_seconds", "keep", "threads")
        return {name: value for name, value in dataclasses.asdict(self.settings).items() if name not in others}

    def said(self) -> list[str]:
        """Returns sentences on what was chosen."""
        if self.freeze_batch_norm:
            return ["The batch norms use the stored statistics, and leave them as they are."]
        if self.batch_norm_decay is None:
            return []
        decay = f"batch_norm_decay={self.batch_norm_decay:.4g}"
        if self.settings.batch_norm_decay is None:
            chosen = f"{decay} is chosen by the {self.steps:,} steps"
            return [f"{chosen}, so that the moving statistics of the batch norms forget their initial values in time."]
        left = self.batch_norm_decay**self.steps
        if left <= LARGEST_INITIAL_WEIGHT:
            return []
        return [
            f"With {decay}, the initial moving statistics of the batch norms still weigh {100 * left:.0f} % after "
            f"{self.steps:,} steps, and evaluation will be worse than training: omit it, or train for longer."
        ]


def make_plan(settings: Settings, start: Start) -> Plan:
    """Returns the plan.

    Raises:
      InputError: for fewer images than a batch, a warm-up or boundaries beyond the training, or a learning rate that
        rises.
    """
    images = len(start.labelled.rows)
    if images < settings.batch_size:
        raise InputError(
            f"There are {images:,} images, fewer than a batch of {settings.batch_size:,}: give more, or "
            f"batch_size={images}."
        )
    steps_an_epoch = images / settings.batch_size
    steps = settings.steps or math.ceil((settings.epochs or _EPOCHS) * steps_an_epoch)
    if settings.warmup_steps >= steps:
        raise InputError(
            f"warmup_steps={settings.warmup_steps} must be fewer than the {steps:,} steps of the training."
        )
    if settings.boundaries and settings.boundaries[-1] >= steps:
        raise InputError(
            f"boundaries must be steps of the training, which has {steps:,}, and {settings.boundaries[-1]:,} is none."
        )
    learning_rate = settings.learning_rate or _LEARNING_RATES.get(settings.optimizer, _LEARNING_RATE)
    if (settings.end_learning_rate or 0) > learning_rate:
        raise InputError(
            f"end_learning_rate={settings.end_learning_rate:g} must be at most the learning rate, {learning_rate:g}."
        )
    freeze = settings.freeze_batch_norm
    if freeze is None:
        freeze = settings.trainable == "head" and start.reader is not None
    if freeze and start.reader is None:
        raise InputError("freeze_batch_norm=True needs a checkpoint's statistics: omit it, or give checkpoint='PATH'.")
    decay = batch_norm_decay_for(steps) if settings.batch_norm_decay is None else settings.batch_norm_decay
    has_norms = "batch_norm_decay" in inspect.signature(start.network.arg_scope).parameters
    for name in ("batch_norm_decay", "freeze_batch_norm"):
        if not has_norms and (value := getattr(settings, name)) is not None:
            raise InputError(
                f"{name}={value!r} does nothing for {start.network.name}, which has no batch norms: omit it."
            )
    augmentation = settings.augmentation or default_augmentation(start.preprocessing, start.image_size)
    check_augmentation(start.preprocessing, augmentation, start.image_size)
    return Plan(
        settings=settings,
        steps=steps,
        steps_an_epoch=steps_an_epoch,
        eval_steps=settings.eval_steps or math.ceil(steps_an_epoch),
        learning_rate=learning_rate,
        decay_steps=settings.decay_steps or math.ceil(_DECAY_EPOCHS * steps_an_epoch),
        weight_decay=weight_decay_of(start.network) if settings.weight_decay is None else settings.weight_decay,
        freeze_batch_norm=freeze,
        batch_norm_decay=decay if has_norms and not freeze else None,
        augmentation=augmentation,
    )
