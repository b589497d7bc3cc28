"""Tells what the numbers of a decoded image mean, by the format of its file. Pillow's mode is not enough.

Refuses images that Pillow decodes to other colours than the format's specification defines.
"""

import struct
from collections.abc import Callable
from typing import NamedTuple

from PIL import Image

from tools.errors import ImageError

__all__ = ["PixelMeaning", "pixel_meaning"]

# Modes whose colours do not depend on the format. Modes of more than 8 bits are handled below.
_KNOWN_MODES = frozenset(("1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBX", "RGBa", "CMYK", "YCbCr"))

# Formats in which the largest 16-bit number is white. Pillow scales PPM and JPEG 2000 up to it.
_WHITE_AT_16_BITS = frozenset(("JPEG2000", "PNG", "PPM"))

# Tags and values of TIFF 6.0 and Adobe's supplements.
_SUBFILE, _BITS, _PHOTOMETRIC, _FILL_ORDER, _SAMPLES, _PLANAR = 254, 258, 262, 266, 277, 284
_COLOUR_MAP, _INK_SET, _INKS, _DOT_RANGE, _EXTRA, _SAMPLE_FORMAT = 320, 332, 334, 336, 338, 339
_WHITE_IS_ZERO, _RGB, _PALETTE, _CMYK, _YCBCR = 0, 2, 3, 5, 6
_FAX = frozenset(("tiff_ccitt", "group3", "group4"))


class PixelMeaning(NamedTuple):
    """The meaning of an image's numbers.

    Attributes:
      white: the largest number of a pixel of more than 8 bits.
      inverted: whether zero is white (grey) or full ink (CMYK), unlike in Pillow.
      opaque: whether Pillow's opacity channel is something else.
      covered: the part of the canvas that the first frame covers (left, top, right, bottom); None for all of it.
    """

    white: int = 0xFFFF
    inverted: bool = False
    opaque: bool = False
    covered: tuple[int, int, int, int] | None = None


def pixel_meaning(image: Image.Image) -> PixelMeaning:
    """Returns the meaning of an image's pixels. Corrects ``image.info`` if Pillow's transparent value is wrong.

    Args:
      image: as ``Image.open`` returns it, not decoded yet.

    Raises:
      ImageError: if the format does not define the meaning, or Pillow is known to decode the pixels wrong.
    """
    ask = _FORMATS.get(image.format or "")
    meaning = ask(image) if ask else _PLAIN
    if image.mode in _KNOWN_MODES:
        return meaning
    if image.mode == "I" or image.mode.startswith("I;16"):
        if image.format in _WHITE_AT_16_BITS or image.format == "TIFF":
            return meaning
        raise ImageError(f"the image has {image.mode} pixels, whose range is not known")
    if image.mode == "F":
        raise ImageError("the image has F pixels, whose range is not known")
    raise _unknown(f"{image.mode} pixels")


_PLAIN = PixelMeaning()


def _unknown(what: str) -> ImageError:
    return ImageError(f"the image has {what}, whose meaning is not known: convert it to 8-bit RGB")


def _first_bytes(image: Image.Image, count: int) -> bytes:
    place = image.fp.tell()
    image.fp.seek(0)
    data = image.fp.read(count)
    image.fp.seek(place)
    return data


def _jpeg(image: Image.Image) -> PixelMeaning:
    # Adobe stores ink inverted and marks its files. Pillow treats every file as Adobe's.
    return PixelMeaning(inverted=image.mode == "CMYK" and "adobe" not in image.info)


# Factors from a value of 2 or 4 bits to one of 8 bits.
_GREY_STEPS = {"L;2": 85, "L;4": 17}


def _png(image: Image.Image) -> PixelMeaning:
    """Scales the transparent value to 8 bits, as Pillow does only with the pixels."""
    if "transparency" in image.info and image.tile:
        kind = image.tile[0][3]
        if kind == "RGB;16B":
            raise _unknown("a transparent colour of 16 bits a channel")
        if kind in _GREY_STEPS:
            image.info["transparency"] *= _GREY_STEPS[kind]
    return _PLAIN


def _gif(image: Image.Image) -> PixelMeaning:
    # Pillow fills the canvas outside of the first frame with the palette's first colour. Viewers leave it empty.
    box = tuple(image.tile[0][1]) if image.tile else (0, 0, *image.size)
    partly = box != (0, 0, *image.size) and "transparency" not in image.info
    return PixelMeaning(covered=box if partly else None)


def _jpeg2000(image: Image.Image) -> PixelMeaning:
    """Refuses fewer than 8 bits, which Pillow shifts up so that white is below 255."""
    head = _first_bytes(image, 4096)
    if head.startswith(b"\xff\x4f"):
        depths = head[42 : 42 + 3 * int.from_bytes(head[40:42])][::3]
    else:
        place = head.find(b"ihdr")
        depths = head[place + 14 : place + 15] if place >= 0 else b""
    # The highest bit means signed numbers, and 255 means that the channels differ.
    if not depths or min(depths) < 7 or max(depths) > 0x7F:
        raise _unknown("channels of fewer than 8 bits, or of several kinds")
    return _PLAIN


def _tga(image: Image.Image) -> PixelMeaning:
    """Reads from the header how many bits of a pixel are opacity."""
    head = _first_bytes(image, 18)
    bits = head[17] & 15
    if bits and 16 in (head[16], head[7]) and head[2] not in (3, 11):
        raise _unknown("one bit of opacity")
    return PixelMeaning(opaque=not bits)


def _sun(image: Image.Image) -> PixelMeaning:
    if struct.unpack(">I", _first_bytes(image, 16)[12:])[0] == 32:
        raise _unknown("a filler of 8 bits in each pixel")
    return _PLAIN


def _sgi(image: Image.Image) -> PixelMeaning:
    if any(_first_bytes(image, 108)[104:]):
        raise _unknown("colours by a table elsewhere")
    return _PLAIN


def _pcx(image: Image.Image) -> PixelMeaning:
    head = _first_bytes(image, 4096)
    start = int.from_bytes(head[4:8], "little") if image.format == "DCX" else 0
    version = _at(image, start + 1)
    # These versions use the palette of the graphics card.
    if image.mode == "P" and version in (0, 3):
        raise _unknown("a palette that is not in the file")
    return _PLAIN


def _at(image: Image.Image, place: int) -> int:
    data = _first_bytes(image, place + 1)
    return data[place] if len(data) > place else 0


def _psd(image: Image.Image) -> PixelMeaning:
    """Ignores an extra channel. The merged image is over white, so it is opacity already applied, or a selection."""
    colours = struct.unpack(">H", _first_bytes(image, 26)[24:])[0]
    if colours in (0, 7):
        raise _unknown("bits or channels" if colours else "bits")
    return PixelMeaning(opaque=True)


def _xbm(_: Image.Image) -> PixelMeaning:
    # A set bit is ink.
    return PixelMeaning(inverted=True)


def _dds(image: Image.Image) -> PixelMeaning:
    if getattr(image, "pixel_format", "").startswith(("BC4", "BC5", "BC6")):
        raise _unknown("one or two channels, or floating point")
    return _PLAIN


def _tiff(image: Image.Image) -> PixelMeaning:
    tags, raw = image.tag_v2, image.info.get("compression") == "raw"
    if tags.get(_SUBFILE, 0) & 5:
        raise _unknown("a preview or a mask in the place of the first page")
    if set(tags.get(_SAMPLE_FORMAT, (1,))) != {1}:
        kind = f"{image.mode} pixels" if image.mode in ("F", "I") else "signed pixels"
        raise ImageError(f"the image has {kind}, whose range is not known")
    bits = tags.get(_BITS, (1,))
    if image.mode == "I":
        raise ImageError("the image has I pixels, whose range is not known")
    photometric = tags.get(_PHOTOMETRIC)
    if photometric is None and image.info.get("compression") not in (*_FAX, "tiff_jpeg"):
        raise _unknown("pixels that can be black or white at zero (the tag PhotometricInterpretation is missing)")
    if tags.get(_PLANAR, 1) == 2 and tags.get(_SAMPLES, 1) > 1:
        _check_planes(tags, raw, bits)
    if photometric == _CMYK:
        _check_inks(tags)
    if photometric == _YCBCR and raw:
        # Pillow reads one triple for each pixel even if pixels share values, and some versions read RGB.
        raise _unknown("YCbCr pixels that are not compressed")
    # libtiff reads such a palette as 8 bits. By the specification it is nearly black.
    if photometric == _PALETTE and 0 < max(tags.get(_COLOUR_MAP, (0,))) < 256:
        raise _unknown("a palette of 8 bits")
    return PixelMeaning(
        white=2 ** bits[0] - 1 if image.mode.startswith("I;16") else 0xFFFF,
        # Pillow itself inverts images of fewer bits.
        inverted=image.mode.startswith("I;16") and photometric == _WHITE_IS_ZERO,
    )


def _check_planes(tags: dict[int, object], raw: bool, bits: tuple[int, ...]) -> None:
    """Refuses images with separately stored channels that Pillow reads wrong."""
    photometric, extra = tags.get(_PHOTOMETRIC), tags.get(_EXTRA, ())
    opacity = any(extra)
    unnamed = tags.get(_SAMPLES, 1) - len(extra) - {_RGB: 3, _CMYK: 4, _YCBCR: 3}.get(photometric, 1)
    reversed_or_wide = raw and (bits[0] != 8 or tags.get(_FILL_ORDER, 1) != 1)
    if reversed_or_wide or unnamed or (opacity and photometric != _RGB) or photometric == _YCBCR:
        raise _unknown("channels that are stored one after the other (the tag PlanarConfiguration is 2)")


def _check_inks(tags: dict[int, object]) -> None:
    dots = tags.get(_DOT_RANGE, (0, 255))
    if tags.get(_INK_SET, 1) != 1 or tags.get(_INKS, 4) != 4 or dots[0] > dots[1]:
        raise _unknown("other inks than cyan, magenta, yellow and black, or inverted ones")


_FORMATS: dict[str, Callable[[Image.Image], PixelMeaning]] = {
    "DCX": _pcx,
    "DDS": _dds,
    "GIF": _gif,
    "JPEG": _jpeg,
    "JPEG2000": _jpeg2000,
    "MPO": _jpeg,
    "PCX": _pcx,
    "PNG": _png,
    "PSD": _psd,
    "SGI": _sgi,
    "SUN": _sun,
    "TGA": _tga,
    "TIFF": _tiff,
    "XBM": _xbm,
}
