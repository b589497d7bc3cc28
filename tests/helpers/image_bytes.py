"""Builds image files byte by byte from the formats' specifications."""

import struct
import zlib
from collections.abc import Mapping, Sequence

import numpy as np

__all__ = ["packed", "png", "png_chunk", "tiff"]

_TIFF_TYPES = {"B": 1, "H": 3, "I": 4, "b": 6}


def png_chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def packed(values: np.ndarray, bits: int, order: str = ">") -> bytes:
    """Returns rows of samples of some bits each, the first in the highest bits, each row filled up to a byte.

    Args:
      values: whole numbers [height, samples].
      bits: bits per sample.
      order: byte order of samples of 16 or 32 bits.
    """
    if bits >= 16:
        return values.astype(f"{order}u{bits // 8}").tobytes()
    shifts = np.arange(bits)[::-1]
    return np.packbits(
        (values[..., np.newaxis] >> shifts & 1).reshape(len(values), -1).astype(np.uint8), axis=1
    ).tobytes()


def png(values: np.ndarray, bits: int, colour_type: int, extra: bytes = b"") -> bytes:
    """Returns a PNG of samples [height, width] or [height, width, channels]; ``extra``: chunks before the pixels."""
    height, width = values.shape[:2]
    row_bytes = packed(values.reshape(height, -1), bits)
    size = len(row_bytes) // height
    rows = b"".join(b"\0" + row_bytes[i : i + size] for i in range(0, len(row_bytes), size))
    header = png_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, colour_type, 0, 0, 0))
    pixels = png_chunk(b"IDAT", zlib.compress(rows))
    return b"\x89PNG\r\n\x1a\n" + header + extra + pixels + png_chunk(b"IEND", b"")


def tiff(
    values: np.ndarray,
    bits: int,
    photometric: int | None,
    tags: Mapping[int, tuple[str, Sequence[int]]] | None = None,
    *,
    order: str = "<",
    planar: bool = False,
    deflated: bool = False,
    reversed_bits: bool = False,
    data: bytes | None = None,
    compression: int = 1,
) -> bytes:
    """Returns a TIFF file of one strip, or of one strip per channel.

    Args:
      values: samples [height, width, channels].
      bits: bits per sample.
      photometric: the tag PhotometricInterpretation; None omits it.
      tags: further tags: the number, with the kind (B, H, I: 8, 16, 32 bits) and the values.
      order: "<" for II, ">" for MM.
      planar: whether each channel is stored by itself.
      deflated: whether the strips are compressed.
      reversed_bits: FillOrder 2: the first sample in the lowest bits.
      data, compression: the one strip in place of the values, and the tag that says how it is compressed.
    """
    height, width, channels = values.shape
    planes = [values[..., i] for i in range(channels)] if planar else [values.reshape(height, -1)]
    strips = [data] if data is not None else [packed(plane, bits, order) for plane in planes]
    if deflated:
        strips, compression = [zlib.compress(strip) for strip in strips], 8
    if reversed_bits:
        strips = [bytes(int(f"{byte:08b}"[::-1], 2) for byte in strip) for strip in strips]
    everything = {
        256: ("I", [width]),
        257: ("I", [height]),
        258: ("H", [bits] * channels),
        259: ("H", [compression]),
        273: ("I", list(np.cumsum([8, *map(len, strips)])[:-1])),
        277: ("H", [channels]),
        278: ("I", [height]),
        279: ("I", list(map(len, strips))),
        284: ("H", [2 if planar else 1]),
        **({} if photometric is None else {262: ("H", [photometric])}),
        **({266: ("H", [2])} if reversed_bits else {}),
        **(tags or {}),
    }
    pixels = b"".join(strips)
    pixels += bytes(len(pixels) % 2)
    start = 8 + len(pixels)
    place = start + 2 + 12 * len(everything) + 4
    entries, far = b"", b""
    for tag, (kind, numbers) in sorted(everything.items()):
        field = struct.pack(f"{order}{len(numbers)}{kind}", *map(int, numbers))
        entries += struct.pack(f"{order}HHI", tag, _TIFF_TYPES[kind], len(numbers))
        if len(field) <= 4:
            entries += field.ljust(4, b"\0")
        else:
            entries += struct.pack(f"{order}I", place + len(far))
            far += field + bytes(len(field) % 2)
    head = (b"II" if order == "<" else b"MM") + struct.pack(f"{order}HI", 42, start)
    return head + pixels + struct.pack(f"{order}H", len(everything)) + entries + bytes(4) + far
