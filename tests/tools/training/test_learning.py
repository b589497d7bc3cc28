"""Tests that trained networks are good: digits from scratch, and pictures from weights for digits."""

import statistics

import pytest

from tests.helpers.digit_folders import held_out_digits, training_digits
from tests.helpers.picture_crops import picture_crops
from tools.training import fit

SEEDS = (0, 1, 2)


@pytest.mark.full
@pytest.mark.numerical
def test_digits_from_scratch(tmp_path):
    """Trains on 1,437 digits and evaluates on 360 by other writers."""
    train, val = training_digits(tmp_path / "train"), held_out_digits(tmp_path / "val")
    # Resized to 32x32 pixels, where slim's preprocessing for CIFAR pads the 8x8. Digits have no mirror images, and
    # scans of ink on paper no colours.
    options = {"net": "resnet_cifar_20", "preprocessing": "inception", "image_size": 32, "epochs": 16}
    options |= {"flip": False, "color": False}
    results = [
        fit(train, tmp_path / str(seed), val=val, seed=seed, eval_steps=10**6, **options).validation.val_top_1
        for seed in SEEDS
    ]
    assert statistics.median(results) >= 0.98, results


@pytest.mark.full
@pytest.mark.numerical
def test_fine_tuning_on_few_images_beats_training_from_scratch(tmp_path):
    """Trains on 8 crops of the left half of each of 8 pictures, and evaluates on 40 of the right half."""
    train = picture_crops(tmp_path / "train", 8, side="left")
    val = picture_crops(tmp_path / "val", 40, side="right")
    options = {"batch_size": 16, "steps": 40, "learning_rate": 0.03, "warmup_steps": 10, "eval_steps": 40}
    starts = {
        "fine-tuned": {"checkpoint": "resnet_v2_tiny_digits"},
        "scratch": {"net": "resnet_v2_tiny", "preprocessing": "inception", "image_size": 32},
    }
    results = {
        name: [
            fit(train, tmp_path / f"{name}-{seed}", val=val, seed=seed, **start, **options).validation.val_top_1
            for seed in SEEDS
        ]
        for name, start in starts.items()
    }
    assert statistics.median(results["fine-tuned"]) > statistics.median(results["scratch"]), results
