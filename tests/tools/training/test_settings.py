"""Tests that settings which cannot be honoured are refused in a sentence."""

import pytest

from tools.errors import InputError
from tools.training.settings import Settings, settings_from


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"learning_rate": 0}, "learning_rate must be above 0 and at most 1,000, and is 0."),
        ({"learning_rate": float("nan")}, "learning_rate must be a number, and is nan."),
        ({"learning_rate": -0.1}, "learning_rate must be above 0 and at most 1,000, and is -0.1."),
        ({"batch_norm_decay": 1}, "batch_norm_decay must be at least 0 and below 1, and is 1."),
        ({"batch_norm_decay": 1.5}, "batch_norm_decay must be at least 0 and below 1, and is 1.5."),
        ({"ema": 1.0}, "ema must be above 0 and below 1, and is 1."),
        ({"momentum": 1}, "momentum must be at least 0 and below 1, and is 1."),
        ({"label_smoothing": 1}, "label_smoothing must be at least 0 and below 1, and is 1."),
        ({"weight_decay": -1e-4}, "weight_decay must be at least 0 and at most 1, and is -0.0001."),
        ({"steps": 0}, "steps must be at least 1 and at most 1,000,000,000, and is 0."),
        ({"steps": 2.5}, "steps must be a whole number, and is 2.5."),
        ({"batch_size": True}, "batch_size must be a number, and is True."),
        ({"steps": 10, "epochs": 2}, "steps=10 and epochs=2 exclude each other: give one of them."),
        ({"optimizer": "lamb"}, "optimizer must be one of adam, momentum, rmsprop, sgd, and is 'lamb'."),
        ({"schedule": "step"}, "schedule must be one of constant, cosine, exponential, piecewise, polynomial"),
        ({"augmentation": "mixup"}, "augmentation must be one of cifar, inception, none, vgg, and is 'mixup'."),
        ({"precision": "int8"}, "precision must be one of float32, bfloat16, float16, and is 'int8'."),
        (
            {"optimizer": "sgd", "momentum": 0.9},
            "momentum is a setting of momentum and rmsprop, and optimizer is 'sgd': omit one of them.",
        ),
        ({"adam_beta1": 0.9}, "adam_beta1 is a setting of adam, and optimizer is 'momentum': omit one of them."),
        (
            {"decay_factor": 0.5},
            "decay_factor is a setting of exponential and piecewise, and schedule is 'cosine': omit one of them.",
        ),
        ({"schedule": "piecewise"}, "boundaries must be the steps at which the learning rate falls"),
        ({"schedule": "piecewise", "boundaries": [5, 3]}, r"boundaries must rise, and is \[5, 3\]."),
        ({"freeze_batch_norm": True, "batch_norm_decay": 0.9}, "batch_norm_decay does nothing with freeze_batch_norm"),
        ({"augmentation": "none", "flip": False}, "augmentation='none' changes no image: omit flip=False"),
    ],
)
def test_what_cannot_be_honoured_is_refused(given, sentence):
    with pytest.raises(InputError, match=sentence):
        Settings(**given)


def test_an_unknown_setting_is_named_with_the_nearest():
    with pytest.raises(TypeError, match=r"unexpected keyword argument 'learning_rat'; did you mean 'learning_rate'\?"):
        settings_from({"learning_rat": 0.1})
