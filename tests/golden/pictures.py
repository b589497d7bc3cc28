"""Cuts the pictures that exports are proved on, ``tools/export/pictures``, out of scikit-image's.

Run ``python -m tests.golden.pictures`` to write them. Their sources and licences are listed beside them.
"""

import io
from pathlib import Path

import numpy as np
import skimage.data
from PIL import Image

import tools.export

__all__ = ["CROPS", "cropped", "main"]

# File → scikit-image's picture, and the rows and columns that are cut out: odd sizes, three of them small.
CROPS = {
    "astronaut.jpg": ("astronaut", slice(0, 257), slice(130, 357)),
    "cat.jpg": ("chelsea", slice(20, 241), slice(90, 391)),
    "coffee.jpg": ("coffee", slice(30, 363), slice(60, 541)),
    "galaxies.jpg": ("hubble_deep_field", slice(100, 399), slice(200, 397)),
    "rocket.jpg": ("rocket", slice(40, 401), slice(180, 421)),
    "small_astronaut.jpg": ("astronaut", slice(40, 71), slice(200, 253)),
    "small_cat.jpg": ("chelsea", slice(60, 157), slice(120, 183)),
    "small_coffee.jpg": ("coffee", slice(150, 195), slice(250, 311)),
}


def cropped(name: str) -> np.ndarray:
    """Returns the pixels of a file before they are encoded, uint8 [height, width, 3]."""
    picture, rows, columns = CROPS[name]
    return getattr(skimage.data, picture)()[rows, columns, :3]


def main() -> None:
    folder = Path(tools.export.__file__).parent / "pictures"
    for name in CROPS:
        encoded = io.BytesIO()
        Image.fromarray(cropped(name)).save(encoded, "JPEG", quality=85)
        (folder / name).write_bytes(encoded.getvalue())


if __name__ == "__main__":
    main()
