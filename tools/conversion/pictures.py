"""Pictures that a preprocessing crops and does not resize, so that another framework's own can be given the same."""

import numpy as np

__all__ = ["NORMALIZED", "cropped", "pictures_for"]

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


_SIDES = {"vgg": _sides_of_scaled, "inception": _sides_of_central, "torchvision": _sides_of_torchvision}

# From pixels of 0 to 255 to a network's input, in NumPy: for a framework that has no such preprocessing of its own.
NORMALIZED = {
    "vgg": lambda pixels: pixels - np.array((123.68, 116.78, 103.94), np.float32),
    "inception": lambda pixels: pixels / np.float32(127.5) - np.float32(1),
    "torchvision": lambda pixels: (
        (pixels / np.float32(255) - np.array((0.485, 0.456, 0.406), np.float32))
        / np.array((0.229, 0.224, 0.225), np.float32)
    ),
}


def pictures_for(preprocessing: str, size: int) -> np.ndarray:
    """[2, side, side, 3], uint8: of the size that is cropped to ``size``; patterns and noise, always the same."""
    if preprocessing not in _SIDES:
        raise ValueError(
            f"The weights go with preprocessing {preprocessing!r}, and another framework's network can be compared "
            f"with {', '.join(_SIDES)} alone."
        )
    side, _ = _SIDES[preprocessing](size)
    generator = np.random.default_rng(0)
    coarse = generator.integers(0, 224, (_COUNT, -(-side // 16), -(-side // 16), 3))
    patterns = coarse.repeat(16, axis=1).repeat(16, axis=2)[:, :side, :side]
    return (patterns + generator.integers(0, 32, patterns.shape)).astype(np.uint8)


def cropped(pictures: np.ndarray, preprocessing: str, size: int) -> np.ndarray:
    """[2, size, size, 3]: what the preprocessing leaves of them, before it changes the values."""
    _, start = _SIDES[preprocessing](size)
    return pictures[:, start : start + size, start : start + size]
