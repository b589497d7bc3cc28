"""Images that a preprocessing crops and does not resize, so that each framework's own sees the same pixels."""

import numpy as np

from checkpoints.frameworks import Weights

__all__ = ["NORMALIZED", "cropped", "images_for", "preprocessing_for"]

_COUNT = 2


def _sides_of_scaled(size: int) -> tuple[int, int]:
    """Returns the side of an image that is already scaled, and the pixel at which its crop begins."""
    side = round(256 * size / 224)
    return side, (side - size) // 2


def _sides_of_torchvision(size: int) -> tuple[int, int]:
    side = round(256 * size / 224)
    return side, round((side - size) / 2)


def _sides_of_central(size: int) -> tuple[int, int]:
    """Returns both for a crop of 87.5 %: TensorFlow begins it at a whole pixel, with equal margins on both sides."""
    for side in range(size, 2 * size):
        start = int((side - side * 0.875) / 2)
        if side - 2 * start == size:
            return side, start
    raise ValueError(f"No image has a central crop of {size} pixels.")


_SIDES = {
    "vgg": _sides_of_scaled,
    "inception": _sides_of_central,
    "torchvision": _sides_of_torchvision,
    "none": lambda size: (size, 0),
}

# Pixels of 0 to 255 → a network's input, in NumPy, for a framework that does not have this preprocessing.
NORMALIZED = {
    "vgg": lambda pixels: pixels - np.array((123.68, 116.78, 103.94), np.float32),
    "inception": lambda pixels: pixels / np.float32(127.5) - np.float32(1),
    "torchvision": lambda pixels: (
        (pixels / np.float32(255) - np.array((0.485, 0.456, 0.406), np.float32))
        / np.array((0.229, 0.224, 0.225), np.float32)
    ),
    "none": lambda pixels: pixels,
}


def preprocessing_for(weights: Weights) -> str:
    """Returns the preprocessing for the comparison: the weights' own, or else 'none'.

    The frameworks share no preprocessing of images with another number of channels than three.
    """
    return weights.preprocessing if weights.preprocessing in _SIDES and weights.channels == 3 else "none"


def images_for(preprocessing: str, size: int, channels: int) -> np.ndarray:
    """Returns patterns and noise, always the same, of the size that the preprocessing crops to ``size``.

    The shape is [2, side, side, channels]; the values are uint8, or for 'none' float32 in [-1, 1].
    """
    side, _ = _SIDES[preprocessing](size)
    generator = np.random.default_rng(0)
    coarse = generator.integers(0, 224, (_COUNT, -(-side // 16), -(-side // 16), channels))
    patterns = coarse.repeat(16, axis=1).repeat(16, axis=2)[:, :side, :side]
    pixels = (patterns + generator.integers(0, 32, patterns.shape)).astype(np.uint8)
    return pixels / np.float32(127.5) - np.float32(1) if preprocessing == "none" else pixels


def cropped(images: np.ndarray, preprocessing: str, size: int) -> np.ndarray:
    """Returns the crops of the preprocessing, [2, size, size, channels], before it changes the values."""
    _, start = _SIDES[preprocessing](size)
    return images[:, start : start + size, start : start + size]
