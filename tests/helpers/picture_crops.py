"""Crops of scikit-image's pictures as folders of images, one folder for each picture."""

from pathlib import Path

import numpy as np
import skimage.data
from PIL import Image

__all__ = ["PICTURES", "picture_crops"]

PICTURES = ("astronaut", "brick", "chelsea", "coffee", "grass", "gravel", "immunohistochemistry", "rocket")

_SIZE = 96


def picture_crops(folder: Path, count: int, *, side: str, seed: int = 0) -> Path:
    """Writes ``count`` random crops of each picture as ``folder/PICTURE/NUMBER.jpg`` and returns ``folder``.

    Args:
      folder: a folder that does not exist.
      count: number of crops of each picture.
      side: 'left' or 'right' half of the pictures, which have no pixel in common.
      seed: of the places.
    """
    generator = np.random.default_rng([seed, side == "left"])
    for name in PICTURES:
        picture = getattr(skimage.data, name)()
        middle = picture.shape[1] // 2
        half = picture[:, :middle] if side == "left" else picture[:, middle:]
        (folder / name).mkdir(parents=True)
        for number in range(count):
            top, left = (int(generator.integers(length - _SIZE)) for length in half.shape[:2])
            crop = half[top : top + _SIZE, left : left + _SIZE]
            Image.fromarray(crop).convert("RGB").save(folder / name / f"{number:03d}.jpg", quality=95)
    return folder
