"""Decodes image files to pixels, as a viewer would show them."""

import io
from pathlib import Path

import numpy as np
from PIL import Image, ImageChops, ImageOps, UnidentifiedImageError

from tools.errors import ImageError
from tools.images.formats import HEAD_BYTES, IMAGE_SUFFIXES, image_format, is_postscript, open_image
from tools.images.pixel_meanings import PixelMeaning, pixel_meaning

__all__ = ["HEAD_BYTES", "IMAGE_SUFFIXES", "ImageError", "decode", "image_format", "pixels_of"]

# Bytes of the smallest image. A file that only has the mark of its format is not an image.
_SMALLEST_IMAGE = 16


def decode(file: str | Path | bytes) -> np.ndarray:
    """Decodes an image: rotated by its EXIF data, only the first frame, transparency over white.

    Grey values of more than 8 bits are scaled to 8 and rounded: round(value / 257) for 16 bits. Of 16-bit colours
    Pillow keeps the upper 8 bits, which is within 1 of that. Profiles and gamma (iCCP, gAMA, sRGB) are not applied.

    Args:
      file: path of a file in a raster format that Pillow reads (``tools.images.formats``), or its bytes. Grey, palette
        and CMYK become RGB.

    Returns:
      uint8 [height, width, 3], RGB.

    Raises:
      ImageError: if the file is missing, empty, cut short, too large or not an image, or if its format does not
        define the colours of its pixels.
    """
    try:
        if not (len(file) if isinstance(file, bytes) else Path(file).stat().st_size):
            raise ImageError("the file is empty")
        with open_image(io.BytesIO(file) if isinstance(file, bytes) else file) as image:
            meaning = pixel_meaning(image)
            # In place, which saves a copy of each image.
            ImageOps.exif_transpose(image, in_place=True)
            return _to_rgb(image, meaning)
    except ImageError:
        raise
    except FileNotFoundError:
        raise ImageError("there is no such file") from None
    except UnidentifiedImageError:
        raise ImageError(_why_unidentified(file)) from None
    except Image.DecompressionBombError as error:
        raise ImageError(f"the image is too large ({error})") from None
    # Decoders raise all kinds of errors on a broken file: the AVIF decoder, for example, RuntimeError.
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ImageError(f"the image cannot be decoded ({reason})") from None


def pixels_of(image: Image.Image) -> np.ndarray:
    """Returns the pixels of an open image, as ``decode`` does, without changing the image.

    Raises:
      ImageError: if the format does not define the colours of its pixels, or it cannot be decoded.
    """
    meaning = pixel_meaning(image)
    try:
        # The meaning was read before, because this copy has lost what the file said.
        return _to_rgb(ImageOps.exif_transpose(image), meaning)
    except (EOFError, OSError, SyntaxError) as error:
        raise ImageError(f"the image cannot be decoded ({' '.join(str(error).split())})") from None


def _head(file: str | Path | bytes) -> bytes:
    if isinstance(file, bytes):
        return file[:HEAD_BYTES]
    try:
        with Path(file).open("rb") as stream:
            return stream.read(HEAD_BYTES)
    except OSError:  # another process has just removed it
        return b""


def _why_unidentified(file: str | Path | bytes) -> str:
    head = _head(file)
    if is_postscript(head):
        return "the file is not an image of a known format (PostScript is a program, and not run: convert it to PNG)"
    name = image_format(head)
    if name is None or len(head) < _SMALLEST_IMAGE:
        return "the file is not an image of a known format"
    return (
        f"the image cannot be decoded (it is {name}, damaged or of a kind that is not known: convert it to 8-bit RGB)"
    )


def _to_rgb(image: Image.Image, meaning: PixelMeaning) -> np.ndarray:
    if image.mode == "I" or image.mode.startswith("I;16"):
        return _wide_to_rgb(np.asarray(image), meaning, image.info.get("transparency"))
    if meaning.inverted:
        image = ImageChops.invert(image)
    if _has_opacity(image) and not meaning.opaque:
        # Pillow converts La only to LA.
        image = (image.convert("LA") if image.mode == "La" else image).convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image)
    if image.mode != "RGB":
        image = image.convert("RGB")
    if meaning.covered:
        frame, image = image.crop(meaning.covered), Image.new("RGB", image.size, "white")
        image.paste(frame, meaning.covered)
    return np.asarray(image)


def _has_opacity(image: Image.Image) -> bool:
    if image.mode == "P" and image.palette is not None and image.palette.mode.endswith("A"):
        return True
    return image.mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in image.info


def _wide_to_rgb(values: np.ndarray, meaning: PixelMeaning, transparent: int | None) -> np.ndarray:
    """Converts grey of 9 to 16 bits to 8, which Pillow would clip. ``transparent`` is the transparent value."""
    if values.min() < 0 or values.max() > meaning.white:
        raise ImageError(f"the image has values that are not between 0 and {meaning.white}: convert it to 8-bit RGB")
    grey = np.round(values * (255 / meaning.white)).astype(np.uint8)
    if meaning.inverted:
        grey = 255 - grey
    if transparent is not None:
        grey[values == transparent] = 255
    return np.repeat(grey[..., np.newaxis], 3, axis=-1)
