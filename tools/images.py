"""From image files to pixels, as a viewer would show them."""

import io
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from tools.image_formats import HEAD_BYTES, IMAGE_SUFFIXES, allowed_formats, image_format, is_postscript

__all__ = ["HEAD_BYTES", "IMAGE_SUFFIXES", "ImageError", "decode", "image_format"]

_16_BIT_TO_8 = 257


class ImageError(ValueError):
    """A picture that cannot be decoded; the message is the reason."""


def decode(file: str | Path | bytes) -> np.ndarray:
    """Decodes a picture: turned as its EXIF data says, the first frame of several, transparency over white.

    Args:
      file: path of a file in any format that Pillow reads, or its bytes. 16 bits a channel are scaled to 8; grey,
        palette and CMYK become RGB.

    Returns:
      uint8 [height, width, 3], RGB.

    Raises:
      ImageError: if the file is missing, empty, no image, cut short or too large to be one.
    """
    try:
        if not (len(file) if isinstance(file, bytes) else Path(file).stat().st_size):
            raise ImageError("the file is empty")
        with Image.open(io.BytesIO(file) if isinstance(file, bytes) else file, formats=allowed_formats()) as image:
            # In place, and below without converting what is RGB: a copy of each picture less.
            ImageOps.exif_transpose(image, in_place=True)
            return _to_rgb(image)
    except ImageError:
        raise
    except FileNotFoundError:
        raise ImageError("there is no such file") from None
    except UnidentifiedImageError:
        raise ImageError(_why_unidentified(_head(file))) from None
    except Image.DecompressionBombError as error:
        raise ImageError(f"the image is too large ({error})") from None
    # On a broken file there is no telling what a decoder raises: the AVIF one, for example, RuntimeError.
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ImageError(f"the image cannot be decoded ({reason})") from None


def _head(file: str | Path | bytes) -> bytes:
    if isinstance(file, bytes):
        return file[:HEAD_BYTES]
    with Path(file).open("rb") as stream:
        return stream.read(HEAD_BYTES)


def _why_unidentified(head: bytes) -> str:
    if is_postscript(head):
        return "the file is not an image of a known format (PostScript is a program, and not run: convert it to PNG)"
    return "the file is not an image of a known format"


def _to_rgb(image: Image.Image) -> np.ndarray:
    if image.mode.startswith("I;16") or image.mode in ("I", "F"):
        return _wide_to_rgb(np.asarray(image), image.mode, image.info.get("transparency"))
    if image.mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in image.info:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image)
    return np.asarray(image if image.mode == "RGB" else image.convert("RGB"))


def _wide_to_rgb(values: np.ndarray, mode: str, transparent: int | None) -> np.ndarray:
    """Grey of 16 bits to 8, where Pillow itself would clip; ``transparent`` is the value that is no colour."""
    if mode == "F" or values.min() < 0 or values.max() > 0xFFFF:
        raise ImageError(f"the image has {mode} pixels, whose range is not known")
    grey = np.round(values / _16_BIT_TO_8).astype(np.uint8)
    if transparent is not None:
        grey[values == transparent] = 255
    return np.repeat(grey[..., np.newaxis], 3, axis=-1)
