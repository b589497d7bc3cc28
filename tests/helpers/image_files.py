"""Builds small files of formats with a header and rows, byte by byte; ``image_bytes`` has the others.

Colours are uint8 [height, width, channels], red first.
"""

import struct
from collections.abc import Sequence

import numpy as np

from tests.helpers.image_bytes import packed

__all__ = ["bmp", "dds", "flc", "gif", "icon", "pcx", "pixar", "psd", "sgi", "sun", "tga"]


def bgr(colours: np.ndarray) -> np.ndarray:
    """Returns the channels with blue first; channels after the colours stay where they are."""
    return colours[..., [2, 1, 0, *range(3, colours.shape[-1])]]


def bmp(
    rows: Sequence[bytes],
    width: int,
    bits: int,
    *,
    compression: int = 0,
    masks: Sequence[int] = (),
    palette: bytes = b"",
    header: int = 40,
    top_down: bool = False,
) -> bytes:
    """Returns Windows' BMP, or OS/2's with a header of 12 or 64 bytes.

    Args:
      rows: rows from the top, without padding; with a compression, one piece that goes into the file as it is.
      masks: red, green, blue and opacity; after a header of 40 bytes, or in a longer one.
    """
    pixels = rows[0] if compression in (1, 2) else b"".join(row + bytes(-len(row) % 4) for row in rows[::-1])
    height = 3 if compression in (1, 2) else len(rows)
    if top_down:
        pixels, height = b"".join(row + bytes(-len(row) % 4) for row in rows), -height
    if header == 12:
        head = struct.pack("<IHHHH", 12, width, height, 1, bits)
    else:
        head = struct.pack("<IiiHHIIiiII", header, width, height, 1, bits, compression, len(pixels), 0, 0, 0, 0)
        head += struct.pack(f"<{len(masks)}I", *masks)
        head += bytes(max(0, header - len(head)))
    start = 14 + len(head) + len(palette)
    return b"BM" + struct.pack("<IHHI", start + len(pixels), 0, 0, start) + head + palette + pixels


def tga(
    pixels: bytes,
    size: tuple[int, int],
    kind: int,
    depth: int,
    descriptor: int,
    palette: bytes = b"",
    entry: int = 24,
    first: int = 0,
) -> bytes:
    """Returns Truevision's TGA; ``size``: height, width; ``descriptor``: the corner of row 0, and bits of opacity."""
    entries = 8 * len(palette) // entry
    colour_map = (first, entries, entry) if palette else (0, 0, 0)
    head = struct.pack("<BBBHHBHHHHBB", 0, bool(palette), kind, *colour_map, 0, 0, *size[::-1], depth, descriptor)
    return head + palette + pixels


def psd(values: np.ndarray, colours: int, bits: int = 8, palette: bytes = b"", layers: int | None = None) -> bytes:
    """Returns Photoshop's merged image, uncompressed; ``layers``: their number, negative if a channel is opacity."""
    height, width, channels = values.shape
    planes = values.transpose(2, 0, 1)
    pixels = packed(planes.reshape(height * channels, width), bits)
    section = b"" if layers is None else struct.pack(">Ih", 2, layers)
    head = b"8BPS" + struct.pack(">H6xHIIHH", 1, channels, height, width, bits, colours)
    lengths = [struct.pack(">I", len(part)) + part for part in (palette, b"", section)]
    return head + b"".join(lengths) + b"\0\0" + pixels


def sgi(values: np.ndarray, size: int = 1, table: int = 0) -> bytes:
    """Returns Silicon Graphics' image of 1 or 2 bytes a channel; ``table`` is the colour map's kind, 0 for no map."""
    height, width, channels = values.shape
    head = struct.pack(
        ">hbbHHHHII4x80sI404x", 474, 0, size, 3 if channels > 1 else 2, width, height, channels, 0, 255, b"", table
    )
    return head + values[::-1].transpose(2, 0, 1).astype(f">u{size}").tobytes()


def sun(pixels: bytes, size: tuple[int, int], depth: int, kind: int = 1, palette: bytes = b"") -> bytes:
    """Returns Sun's raster file; ``size`` is height and width, and the rows are padded to 16 bits already."""
    numbers = (0x59A66A95, *size[::-1], depth, len(pixels), kind, bool(palette), len(palette))
    return struct.pack(">8I", *numbers) + palette + pixels


def pcx(planes: np.ndarray, bits: int, version: int = 5, palette: bytes = b"", vga: bytes = b"") -> bytes:
    """Returns ZSoft's PCX of [height, width, planes], each byte as a run of one; ``vga``: 256 colours at the end."""
    height, width, count = planes.shape
    stride = -(-width * bits // 16) * 2
    rows = [packed(planes[y : y + 1, :, i], bits).ljust(stride, b"\0") for y in range(height) for i in range(count)]
    head = struct.pack("<BBBBHHHHHH", 10, version, 1, bits, 0, 0, width - 1, height - 1, 72, 72)
    head += palette.ljust(48, b"\0") + struct.pack("<BBHH58x", 0, count, stride, 1)
    return head + b"".join(bytes([0xC1, byte]) for byte in b"".join(rows)) + (b"\x0c" + vga if vga else b"")


def gif(
    indices: np.ndarray,
    palette: np.ndarray,
    *,
    canvas: tuple[int, int] | None = None,
    corner: tuple[int, int] = (0, 0),
    background: int = 0,
    transparent: int | None = None,
) -> bytes:
    """Returns a frame of 8 colours with unpacked codes; canvas and corner are (height, width) and (y, x)."""
    height, width = indices.shape
    out = b"GIF89a" + struct.pack("<HHBBB", *(canvas or indices.shape)[::-1], 0x82, background, 0) + palette.tobytes()
    if transparent is not None:
        out += b"\x21\xf9\x04" + bytes([1, 0, 0, transparent, 0])
    out += b"," + struct.pack("<HHHHB", *corner[::-1], width, height, 0)
    codes = []
    for place, index in enumerate(indices.ravel().tolist()):
        codes += ([8] if place % 4 == 0 else []) + [index]  # 8: begin again, so that a code stays 4 bits long
    codes.append(9)
    data = bytes(low | high << 4 for low, high in zip(codes[::2], [*codes[1::2], 0], strict=False))
    blocks = [data[i : i + 255] for i in range(0, len(data), 255)]
    return out + b"\x03" + b"".join(bytes([len(block)]) + block for block in blocks) + b"\0;"


def icon(pixels: bytes, mask: np.ndarray, bits: int, palette: bytes = b"", kind: int = 1) -> bytes:
    """Returns an icon of 16 by 16 pixels, rows from the bottom; ``mask``: 1 for transparent; ``kind`` 2: a cursor."""
    rows = b"".join(packed(row[np.newaxis], 1) + b"\0\0" for row in mask[::-1])
    image = struct.pack("<IiiHHIIiiII", 40, 16, 32, 1, bits, 0, 0, 0, 0, 0, 0) + palette + pixels + rows
    return struct.pack("<HHHBBBBHHII", 0, kind, 1, 16, 16, 0, 0, 1, bits, len(image), 22) + image


def dds(kind: bytes, block: bytes) -> bytes:
    """Returns DirectDraw's surface of 4 by 4 pixels in one block."""
    head = struct.pack("<7I44x", 124, 0x1007, 4, 4, 8, 0, 0) + struct.pack("<II4s5I", 32, 4, kind, 0, 0, 0, 0, 0)
    return b"DDS " + head + struct.pack("<5I", 0x1000, 0, 0, 0, 0) + block


def flc(indices: np.ndarray, palette: np.ndarray) -> bytes:
    """Returns Autodesk's animation of one frame: a palette of 256 colours, and uncompressed pixels."""
    height, width = indices.shape
    colours = struct.pack("<IHHBB", 6 + 4 + 768, 4, 1, 0, 0) + palette.tobytes()
    pixels = struct.pack("<IH", 6 + indices.size, 16) + indices.tobytes()
    frame = struct.pack("<IHH8x", 16 + len(colours) + len(pixels), 0xF1FA, 2) + colours + pixels
    return struct.pack("<IHHHHHHI108x", 128 + len(frame), 0xAF12, 1, width, height, 8, 3, 50) + frame


def pixar(colours: np.ndarray) -> bytes:
    height, width = colours.shape[:2]
    head = b"\x80\xe8\0\0" + bytes(412) + struct.pack("<HH4xHH", height, width, 14, 2)
    return head.ljust(1024, b"\0") + colours.tobytes()
