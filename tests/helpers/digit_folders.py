"""The digits that ship with the package as folders of images, one folder for each digit."""

import shutil
from pathlib import Path

from PIL import Image

from tools.digits import HELD_OUT, digits

__all__ = ["held_out_digits", "training_digits"]


def training_digits(folder: Path, digits_wanted: str = "0123456789", limit: int | None = None) -> Path:
    """Writes the training digits as ``folder/DIGIT/ROW.png`` and returns ``folder``.

    Args:
      folder: a folder that does not exist.
      digits_wanted: the digits to write.
      limit: number of images to write of each digit; None for all.
    """
    written: dict[int, int] = {}
    images, labels = digits()
    for row, (image, label) in enumerate(zip(images, labels, strict=True)):
        if str(label) not in digits_wanted or written.get(label, 0) == limit:
            continue
        written[label] = written.get(label, 0) + 1
        place = folder / str(label)
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(place / f"{row:04d}.png")
    return folder


def held_out_digits(folder: Path, digits_wanted: str = "0123456789") -> Path:
    """Copies the held-out digits, which ``ROW_DIGIT.png`` holds, to ``folder/DIGIT`` and returns ``folder``."""
    for file in sorted(HELD_OUT.glob("*.png")):
        label = file.stem.partition("_")[2]
        if label in digits_wanted:
            place = folder / label
            place.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, place / file.name)
    return folder
