"""Small pictures: thumbnails, sheets of them, and numbers as colours."""

import base64
import io
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from tools.errors import ImageError
from tools.features.formats import utf8
from tools.images import Inputs, decode

__all__ = ["COLOURS", "Thumbnails", "as_text", "blended", "coloured", "data_uri", "enlarged", "one_line", "sheet"]

# Colours of numbers from low to high, in steps of equal size. They rise in lightness, so that they can also be told
# apart in grey and by people who see fewer colours.
COLOURS = np.array(
    [
        *((13, 8, 60), (67, 15, 110), (121, 28, 109), (174, 44, 90)),
        *((217, 75, 60), (244, 125, 38), (252, 188, 60), (250, 247, 180)),
    ],
    np.float64,
)

# Images up to this side are enlarged in whole steps, and kept without loss.
_SMALL = 48

# Control characters but for white space.
_CONTROL = re.compile(r"[\x00-\x08\x0e-\x1f\x7f-\x9f]")

_PAPER, _INK, _GREY, _MARK = (255, 255, 255), (24, 24, 24), (110, 110, 110), (0, 114, 178)


def as_text(name: str) -> str:
    """Returns a name that can be shown. Bytes that are not UTF-8 and control characters become ``\\xff``."""
    return _CONTROL.sub(lambda found: f"\\x{ord(found[0]):02x}", str(utf8(name)))


def one_line(name: str) -> str:
    """Returns a name as text without line breaks, tabs and repeated spaces."""
    return " ".join(as_text(name).split())


def coloured(values: np.ndarray, high: float | None = None, low: float = 0.0) -> np.ndarray:
    """Returns uint8 colours [..., 3] of numbers from ``low`` to ``high``; None for the largest one. NaN is low."""
    values = np.nan_to_num(np.asarray(values, np.float64), nan=low)
    high = float(values.max()) if high is None else high
    place = np.clip((values - low) / (high - low if high > low else 1), 0, 1) * (len(COLOURS) - 1)
    channels = [np.interp(place, range(len(COLOURS)), COLOURS[:, channel]) for channel in range(3)]
    return np.round(np.stack(channels, axis=-1)).astype(np.uint8)


def enlarged(pixels: np.ndarray, size: int, *, smooth: bool = False) -> np.ndarray:
    """Returns uint8 pixels [height, width, 3] scaled so that the longer side is ``size``."""
    height, width = pixels.shape[:2]
    scale = size / max(height, width)
    shape = max(1, round(width * scale)), max(1, round(height * scale))
    method = Image.Resampling.BILINEAR if smooth else Image.Resampling.NEAREST
    return np.asarray(Image.fromarray(pixels).resize(shape, method if scale > 1 else Image.Resampling.LANCZOS))


def blended(pixels: np.ndarray, heatmap: np.ndarray, strength: float = 0.55) -> np.ndarray:
    """Returns pixels [height, width, 3] under the colours of a heat map, which is scaled to cover them."""
    high = float(np.nan_to_num(heatmap).max())
    shares = np.clip(np.nan_to_num(heatmap) / (high if high > 0 else 1), 0, 1).astype(np.float32)
    height, width = pixels.shape[:2]
    scaled = np.asarray(Image.fromarray(shares).resize((width, height), Image.Resampling.BILINEAR))
    grey = pixels.mean(axis=-1, keepdims=True).repeat(3, axis=-1)
    return np.round((1 - strength) * grey + strength * coloured(scaled, 1.0)).astype(np.uint8)


def png(pixels: np.ndarray | Image.Image) -> bytes:
    """Returns the bytes of a PNG file."""
    stream = io.BytesIO()
    picture = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    picture.save(stream, "PNG", optimize=True)
    return stream.getvalue()


def data_uri(pixels: np.ndarray, *, photograph: bool = False, lossless: int = _SMALL) -> str:
    """Returns an address that holds the picture itself: PNG, or JPEG for a photograph, which takes less room.

    Args:
      pixels: uint8 [height, width, 3].
      photograph: whether some loss is not seen.
      lossless: longest side up to which there is no loss all the same.
    """
    if not photograph or max(pixels.shape[:2]) <= lossless:
        return f"data:image/png;base64,{base64.b64encode(png(pixels)).decode()}"
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "JPEG", quality=80)
    return f"data:image/jpeg;base64,{base64.b64encode(stream.getvalue()).decode()}"


class Thumbnails:
    """Small pictures of images by their names.

    Args:
      size: length of the longer side.
      inputs: the images that the names are of; None if the names are paths of files.
      enlarge: whether images of at most 48 pixels are enlarged, in whole steps so that their pixels stay sharp.
    """

    def __init__(self, size: int, inputs: Inputs | None = None, *, enlarge: bool = True) -> None:
        self.size, self._enlarge = size, enlarge
        self._inputs = inputs
        self._numbers: Mapping[str, int] = (
            {} if inputs is None else {inputs.name(number): number for number in range(len(inputs))}
        )

    def __getitem__(self, name: str) -> np.ndarray | None:
        """Returns uint8 pixels [height, width, 3]; None if the image cannot be read any more."""
        try:
            if name in self._numbers:
                pixels = decode(self._inputs.read(self._numbers[name]).data)
            else:
                pixels = decode(Path(name))
        except (ImageError, OSError, ValueError):
            return None
        if max(pixels.shape[:2]) <= _SMALL:
            whole = max(1, self.size // max(pixels.shape[:2])) if self._enlarge else 1
            return pixels.repeat(whole, axis=0).repeat(whole, axis=1)
        return enlarged(pixels, self.size) if max(pixels.shape[:2]) > self.size else pixels


def sheet(rows: Sequence[Sequence[tuple[np.ndarray | None, str, bool]]], size: int = 112) -> Image.Image:
    """Returns a picture of rows of thumbnails with captions.

    Args:
      rows: rows of (thumbnail, or None for a missing one; caption; whether it is marked by a frame).
      size: of a thumbnail.
    """
    font = ImageFont.load_default(13)
    gap, line = 10, 20
    columns = max(map(len, rows), default=0)
    picture = Image.new("RGB", (gap + columns * (size + gap), gap + len(rows) * (size + line + gap)), _PAPER)
    draw = ImageDraw.Draw(picture)
    for y, row in enumerate(rows):
        for x, (pixels, caption, marked) in enumerate(row):
            left, top = gap + x * (size + gap), gap + y * (size + line + gap)
            if pixels is None:
                draw.rectangle((left, top, left + size - 1, top + size - 1), outline=_GREY)
                draw.text((left + size / 2, top + size / 2), "not found", _GREY, font, anchor="mm")
            else:
                height, width = pixels.shape[:2]
                place = left + (size - width) // 2, top + (size - height) // 2
                picture.paste(Image.fromarray(pixels), place)
            if marked:
                draw.rectangle((left - 3, top - 3, left + size + 2, top + size + 2), outline=_MARK, width=2)
            draw.text((left, top + size + 4), _cut(caption, font, size), _INK, font)
    return picture


def _cut(caption: str, font: ImageFont.FreeTypeFont, width: int) -> str:
    """Returns the end of a caption that fits, since the names of files differ at the end."""
    caption = one_line(caption)
    if font.getlength(caption) <= width:
        return caption
    while caption and font.getlength(f"…{caption}") > width:
        caption = caption[1:]
    return f"…{caption}"
