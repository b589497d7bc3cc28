"""Lists the raster formats that are decoded, and tells the format of a file by its first bytes.

Some of Pillow's formats are omitted on purpose:

- EPS, PS, PDF and WMF are programs that draw. Pillow runs Ghostscript or Windows on them.
- BUFR, FITS, GRIB, HDF5, MCIDAS and SPIDER hold measurements, not colours.
- Pillow cannot decode MPEG, needs another package for FPX and MIC, and has deprecated IM.
- Pillow loses the opacity of BLP and CUR.
- IMT and XVTHUMB cannot be recognized safely, and IPTC wraps a file of any format.
"""

import functools
import re
from pathlib import Path
from typing import BinaryIO

from PIL import Image, UnidentifiedImageError

__all__ = ["HEAD_BYTES", "IMAGE_SUFFIXES", "allowed_formats", "image_format", "is_postscript", "open_image"]

# Number of bytes that tell the format of a file. Most formats require 32, and only PCD more than a few hundred.
HEAD_BYTES = 4096

# Pillow's name of each format → the suffixes of its files, and a pattern of their first bytes. Suffixes that other
# programs use for something else are omitted (.bw, .gbr, .icb, .msp, .rgb, .vda, .vst): such files are recognized by
# content only. Formats with a long mark come first. Each pattern is stricter than Pillow's own test.
_FORMATS: dict[str, tuple[str, bytes]] = {
    "JPEG": (".jfif .jpe .jpeg .jpg .mpo", rb"\xff\xd8\xff"),
    "PNG": (".apng .png", rb"\x89PNG\r\n\x1a\n"),
    "GIF": (".gif", rb"GIF8[79]a"),
    "TIFF": (".tif .tiff", rb"II[\x2a\x2b]\0|MM\0[\x2a\x2b]|II\0\x2a|MM\x2a\0"),
    "WEBP": (".webp", rb"RIFF.{4}WEBPVP8[ LX]"),
    "AVIF": (".avif .avifs", rb".{4}ftyp(?:avi[fs]|(?:mif1|msf1).{4}(?:.{4}){0,15}?avi[fs])"),
    "JPEG2000": (".j2c .j2k .jp2 .jpc .jpf .jpx", rb"\xff\x4f\xff\x51|\0\0\0\x0cjP  \r\n\x87\n"),
    "BMP": (".bmp", rb"BM.{12}[\x0c\x28\x34\x38\x40\x6c\x7c]\0\0\0"),
    "PSD": (".psd", rb"8BPS\0\x01"),
    "DDS": (".dds", rb"DDS \x7c\0\0\0"),
    "QOI": (".qoi", rb"qoif"),
    "ICNS": (".icns", rb"icns"),
    "FTEX": (".ftc .ftu", rb"FTEX"),
    "MSP": ("", rb"DanM|LinS"),
    "SUN": (".ras", rb"\x59\xa6\x6a\x95"),
    "DCX": (".dcx", rb"\xb1\x68\xde\x3a"),
    "PIXAR": (".pxr", rb"\x80\xe8\0\0"),
    "XPM": (".xpm", rb"/\* XPM \*/"),
    "XBM": (".xbm", rb"\s*(?:/\*.*?\*/\s*)?#define[ \t]+\w*width[ \t]+\d+\s+#define[ \t]+\w*height[ \t]+\d"),
    "PPM": (".pbm .pgm .pnm .ppm", rb"P[1-6](?:\s|#[^\r\n]*[\r\n])+\d"),
    "SGI": (".sgi", rb"\x01\xda[\0\x01][\x01\x02]\0[\x01-\x03]"),
    "PCX": (".pcx", rb"\x0a[\0\x02\x03\x05]\x01[\x01\x02\x04\x08]"),
    "FLI": (".flc .fli", rb".{4}[\x11\x12]\xaf.{8}[\0\x03]\0"),
    "GBR": ("", rb"\0\0..\0\0\0(?:\x01\0\0..\0\0..\0\0\0[\x01\x04]|\x02.{12}GIMP)"),
    "ICO": (".ico", rb"\0\0\x01\0[^\0]\0"),
    "DIB": (
        ".dib",
        rb"(?:[\x28\x34\x38\x40\x6c\x7c]\0\0\0.{8}|\x0c\0\0\0.{4})\x01\0[\x01\x04\x08\x10\x18\x20]\0",
    ),
    # TGA has no mark: the kind and the depth must match, and without a palette its fields must be zero.
    "TGA": (
        ".tga",
        rb".(?:\x01[\x01\x09].{2}(?!\0\0)..[\x0f\x10\x18\x20].{4}(?!\0\0)..(?!\0\0)..\x08"
        rb"|\0[\x02\x0a]\0{5}.{4}(?!\0\0)..(?!\0\0)..[\x10\x18\x20]"
        rb"|\0[\x03\x0b]\0{5}.{4}(?!\0\0)..(?!\0\0)..[\x01\x08\x10])[\0\x01\x08\x10\x11\x18\x20\x21\x28\x30\x31\x38]",
    ),
    "PCD": (".pcd", rb".{2048}PCD_"),
}

IMAGE_SUFFIXES = frozenset(suffix for suffixes, _ in _FORMATS.values() for suffix in suffixes.split())

# Formats that Pillow loads first. Loading all others takes longer than decoding an image.
_USUAL = ("JPEG", "PNG", "GIF", "BMP", "PPM")

_HEAD = re.compile(b"|".join(b"(?P<%s>%s)" % (name.encode(), mark) for name, (_, mark) in _FORMATS.items()), re.DOTALL)
_POSTSCRIPT = re.compile(rb"\s*%!|\xc5\xd0\xd3\xc6|\x04%!")


def image_format(head: bytes) -> str | None:
    """Returns the format of an image file by its first bytes, without decoding it.

    A recognized file can still be damaged, or of a kind that ``decode`` refuses.

    Args:
      head: the file's first ``HEAD_BYTES`` bytes, or the whole of a shorter file.

    Returns:
      Pillow's name of the format, such as "JPEG"; None if the file is not an image, or has a format that is never
      opened, such as PostScript or PDF.
    """
    found = _HEAD.match(head)
    return found.lastgroup if found else None


def is_postscript(head: bytes) -> bool:
    """Returns whether a file with these first bytes is PostScript or EPS, which are programs that draw."""
    return _POSTSCRIPT.match(head) is not None


@functools.cache
def allowed_formats() -> tuple[str, ...]:
    """Returns the formats to open files with that this build of Pillow has, in the order to try them."""
    Image.init()
    return tuple(name for name in _FORMATS if name in Image.OPEN)


def open_image(source: str | Path | BinaryIO) -> Image.Image:
    """Opens an image of an allowed format, whatever its suffix, without decoding it.

    Raises:
      UnidentifiedImageError: if its format is not allowed.
      Exception: any error that Pillow raises for a damaged or missing file.
    """
    Image.preinit()
    try:
        return Image.open(source, formats=_USUAL)
    except UnidentifiedImageError:
        return Image.open(source, formats=allowed_formats())
