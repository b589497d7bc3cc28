"""From image files to pixels, as a viewer would show them."""

import io
from pathlib import Path

import numpy as np
from PIL import Image, ImageChops, ImageOps, UnidentifiedImageError

from tools.errors import ImageError
from tools.images.formats import HEAD_BYTES, IMAGE_SUFFIXES, image_format, is_postscript, open_image
from tools.images.pixel_meanings import PixelMeaning, pixel_meaning

__all__ = ["HEAD_BYTES", "IMAGE_SUFFIXES", "ImageError", "decode", "image_format", "pixels_of"]

# Bytes: a file that ends after the mark of its format is no image of it.
_SMALLEST_IMAGE = 16


def decode(file: str | Path | bytes) -> np.ndarray:
    """Decodes an image: turned as its EXIF data says, the first frame of several, transparency over white.

    Grey of more than 8 bits is scaled to 8 and rounded: round(value / 257) of 16 bits. Of 16-bit colours Pillow keeps
    the upper 8 bits, which is within 1 of that. Profiles and gamma (iCCP, gAMA, sRGB) are not applied.

    Args:
      file: path of a file in a raster format that Pillow reads (``tools.images.formats``), or its bytes. Grey, palette
        and CMYK become RGB.

    Returns:
      uint8 [height, width, 3], RGB.

    Raises:
      ImageError: if the file is missing, empty, no image, cut short or too large to be one, or if its format does
        not say what colours its pixels are.
    """
    try:
        if not (len(file) if isinstance(file, bytes) else Path(file).stat().st_size):
            raise ImageError("the file is empty")
        with open_image(io.BytesIO(file) if isinstance(file, bytes) else file) as image:
            meaning = pixel_meaning(image)
            # In place, and below without converting what is RGB: a copy of each image less.
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
    # On a broken file there is no telling what a decoder raises: the AVIF one, for example, RuntimeError.
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ImageError(f"the image cannot be decoded ({reason})") from None


def pixels_of(image: Image.Image) -> np.ndarray:
    """Returns the pixels of an image that is open already, as ``decode`` would; the image stays as it is.

    Raises:
      ImageError: if its pixels do not tell their colours, or it cannot be decoded.
    """
    meaning = pixel_meaning(image)
    try:
        # A copy: a fresh one has forgotten what its file said.
        return _to_rgb(ImageOps.exif_transpose(image), meaning)
    except (EOFError, OSError, SyntaxError) as error:
        raise ImageError(f"the image cannot be decoded ({' '.join(str(error).split())})") from None


def _head(file: str | Path | bytes) -> bytes:
    if isinstance(file, bytes):
        return file[:HEAD_BYTES]
    try:
        with Path(file).open("rb") as stream:
            return stream.read(HEAD_BYTES)
    except OSError:  # it was there a moment ago
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
        # La goes to LA alone.
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
    """Grey of 9 to 16 bits to 8, where Pillow itself would clip; ``transparent`` is the value that is no colour."""
    if values.min() < 0 or values.max() > meaning.white:
        raise ImageError(f"the image has values that are not between 0 and {meaning.white}: convert it to 8-bit RGB")
    grey = np.round(values * (255 / meaning.white)).astype(np.uint8)
    if meaning.inverted:
        grey = 255 - grey
    if transparent is not None:
        grey[values == transparent] = 255
    return np.repeat(grey[..., np.newaxis], 3, axis=-1)
