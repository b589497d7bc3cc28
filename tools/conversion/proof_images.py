"""Pictures that a preprocessing crops and does not resize, so that another framework's own can be given the same."""

import numpy as np

from checkpoints.frameworks import Weights

__all__ = ["NORMALIZED", "cropped", "pictures_for", "preprocessing_for"]

_COUNT = 2


def _sides_of_scaled(size: int) -> tuple[int, int]:
    """(side of a picture whose shorter side is already what it is scaled to, where the crop begins)."""
    side = round(256 * size / 224)
    return side, (side - size) // 2


def _sides_of_torchvision(size: int) -> tuple[int, int]:
    side = round(256 * size / 224)
    return side, round((side - size) / 2)


def _sides_of_central(size: int) -> tuple[int, int]:
    """Of a crop of 87.5 %, which TensorFlow begins at a whole pixel and makes equally wide on both sides."""
    for side in range(size, 2 * size):
        start = int((side - side * 0.875) / 2)
        if side - 2 * start == size:
            return side, start
    raise ValueError(f"No picture has a central crop of {size} pixels.")


_SIDES = {
    "vgg": _sides_of_scaled,
    "inception": _sides_of_central,
    "torchvision": _sides_of_torchvision,
    "none": lambda size: (size, 0),
}

# From pixels of 0 to 255 to a network's input, in NumPy: for a framework that has no such preprocessing of its own.
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
    """The preprocessing that two networks are compared with: the weights' own, or else 'none'.

    Images of other than three channels go through no preprocessing that the frameworks share.
    """
    return weights.preprocessing if weights.preprocessing in _SIDES and weights.channels == 3 else "none"


def pictures_for(preprocessing: str, size: int, channels: int) -> np.ndarray:
    """Returns patterns and noise, always the same, of the size that is cropped to ``size``.

    [2, side, side, channels], uint8; for 'none' float32 in [-1, 1].
    """
    side, _ = _SIDES[preprocessing](size)
    generator = np.random.default_rng(0)
    coarse = generator.integers(0, 224, (_COUNT, -(-side // 16), -(-side // 16), channels))
    patterns = coarse.repeat(16, axis=1).repeat(16, axis=2)[:, :side, :side]
    pixels = (patterns + generator.integers(0, 32, patterns.shape)).astype(np.uint8)
    return pixels / np.float32(127.5) - np.float32(1) if preprocessing == "none" else pixels


def cropped(pictures: np.ndarray, preprocessing: str, size: int) -> np.ndarray:
    """[2, size, size, channels]: what the preprocessing leaves of them, before it changes the values."""
    _, start = _SIDES[preprocessing](size)
    return pictures[:, start : start + size, start : start + size]
