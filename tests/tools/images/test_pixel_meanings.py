"""Tests that every format but TIFF decodes to the colours that its specification says, or is refused.

``test_tiff_pixels`` tests TIFF. The files are built byte by byte, or written by Pillow without loss. The expected
values are calculated here.
"""

import io
import struct

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from tests.helpers.image_bytes import packed, png, png_chunk
from tests.helpers.image_files import bgr, bmp, dds, gif, icon, pcx, psd, sgi, sun, tga
from tools.errors import ImageError
from tools.images import decode

HEIGHT, WIDTH = 5, 14
UNKNOWN = "whose meaning is not known: convert it to 8-bit RGB"
OTHER_KIND = "the image cannot be decoded (it is {}, damaged or of a kind that is not known: convert it to 8-bit RGB)"


def noise(*shape, below=256, seed=0):
    values = np.random.default_rng(seed).integers(0, below, shape)
    return values.astype(np.uint8) if below <= 256 else values


def as_rgb(grey):
    return np.repeat(np.reshape(grey, [*np.shape(grey)[:2], 1]), 3, axis=-1)


def as_8_bits(values, largest):
    return values.astype(float) * 255 / largest


def over_white(colour, opacity):
    opacity = np.reshape(opacity, [*np.shape(colour)[:2], 1]) / 255
    return colour * opacity + 255 * (1 - opacity)


def saved(image, kind, **options):
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def assert_decodes_to(content, expected, tolerance=0.0):
    assert np.abs(decode(content) - np.asarray(expected, float)).max() <= tolerance


def assert_refused(content, message):
    with pytest.raises(ImageError) as error:
        decode(content)
    assert message in str(error.value)


# PNG.


@pytest.mark.parametrize("bits", [1, 2, 4, 8, 16])
@pytest.mark.parametrize("transparent", [False, True])
def test_png_grey(bits, transparent):
    """One value, in the file's own bits, may be transparent."""
    values = noise(HEIGHT, WIDTH, below=2**bits)
    chunk = png_chunk(b"tRNS", struct.pack(">H", values[2, 3])) if transparent else b""
    expected = as_rgb(as_8_bits(values, 2**bits - 1))
    if transparent:
        expected[values == values[2, 3]] = 255
    assert_decodes_to(png(values, bits, 0, chunk), expected, tolerance=0.5)


@pytest.mark.parametrize("bits", [8, 16])
def test_png_colours_with_a_transparent_one(bits):
    values = noise(HEIGHT, WIDTH, 3, below=2**bits)
    content = png(values, bits, 2, png_chunk(b"tRNS", struct.pack(">HHH", *values[2, 3])))
    if bits == 16:
        assert_refused(content, f"a transparent colour of 16 bits a channel, {UNKNOWN}")
    else:
        expected = values.copy()
        expected[2, 3] = 255
        assert_decodes_to(content, expected)


@pytest.mark.parametrize(("colour_type", "channels"), [(2, 3), (4, 2), (6, 4)])
def test_png_of_16_bits(colour_type, channels):
    """Results are within 1 of value / 257, and within 2 where opacity is equally coarse."""
    values = noise(HEIGHT, WIDTH, channels, below=65536)
    exact = values / 257
    colours = as_rgb(exact[..., 0]) if channels == 2 else exact[..., :3]
    expected = colours if channels == 3 else over_white(colours, exact[..., -1])
    assert_decodes_to(png(values, 16, colour_type), expected, tolerance=1 if channels == 3 else 2)


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_png_palette(bits):
    palette, opacity = noise(2**bits, 3), noise(2 ** (bits - 1), seed=1)
    values = noise(HEIGHT, WIDTH, below=2**bits, seed=2)
    chunks = png_chunk(b"PLTE", palette.tobytes())
    assert_decodes_to(png(values, bits, 3, chunks), palette[values])
    chunks += png_chunk(b"tRNS", opacity.tobytes())  # the other colours are opaque
    all_opacity = np.concatenate([opacity, np.full(len(opacity), 255)])[values]
    assert_decodes_to(png(values, bits, 3, chunks), over_white(palette[values], all_opacity), tolerance=1)


@pytest.mark.parametrize("chunk", [(b"gAMA", struct.pack(">I", 100_000)), (b"sRGB", b"\0"), (b"sBIT", b"\5\6\5")])
def test_profiles_are_not_applied(chunk):
    values = noise(HEIGHT, WIDTH, 3)
    assert_decodes_to(png(values, 8, 2, png_chunk(*chunk)), values)


# JPEG.


def tensorflows(content):
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        return session.run(tf.io.decode_jpeg(content, channels=3, dct_method="INTEGER_ACCURATE")).astype(float)


def jpeg_of_inks():
    """Returns a flat JPEG, and the place of the marker by which Adobe says that the inks are inverted."""
    content = saved(Image.new("CMYK", (16, 16), (40, 80, 160, 20)), "JPEG", quality=100)
    return content, content.index(b"\xff\xee\0\x0eAdobe")


def test_inks_of_adobe_and_of_others():
    content, place = jpeg_of_inks()
    others = content[:place] + content[place + 16 :]
    adobes = (255 - np.array([40, 80, 160])) * (255 - 20) / 255
    assert_decodes_to(content, np.broadcast_to(adobes, [16, 16, 3]), tolerance=2)
    assert_decodes_to(others, np.broadcast_to(np.array([40, 80, 160]) * 20 / 255, [16, 16, 3]), tolerance=2)
    for one in (content, others):
        assert_decodes_to(one, tensorflows(one), tolerance=2)


def test_ycck():
    content, place = jpeg_of_inks()
    content = content[: place + 15] + b"\2" + content[place + 16 :]
    assert_decodes_to(content, tensorflows(content), tolerance=2)


def test_rgb_in_a_jpeg():
    content = saved(Image.new("RGB", (16, 16), (200, 50, 90)), "JPEG", quality=100, keep_rgb=True)
    assert_decodes_to(content, np.broadcast_to([200, 50, 90], [16, 16, 3]), tolerance=1)


def test_jpeg_of_12_bits():
    content = saved(Image.new("RGB", (16, 16)), "JPEG")
    place = content.index(b"\xff\xc0") + 4
    assert_refused(content[:place] + b"\x0c" + content[place + 1 :], OTHER_KIND.format("JPEG"))


def test_first_of_several_jpegs():
    first, second = Image.new("RGB", (16, 16), (200, 50, 90)), Image.new("RGB", (16, 16))
    content = saved(first, "MPO", save_all=True, append_images=[second], quality=100)
    assert_decodes_to(content, np.broadcast_to([200, 50, 90], [16, 16, 3]), tolerance=2)


# JPEG 2000, without loss. A number of bits other than the encoder's goes into the header, and 0 stays half of white.


def jpeg2000(values, bits, said):
    wide = np.uint16 if bits == 16 else np.uint8
    stored = (values + 2 ** (bits - 1) - 2 ** (said - 1)).astype(wide)
    content = bytearray(saved(Image.fromarray(stored), "JPEG2000", no_jp2=True, mct=0))
    for i in range(content[41]):
        content[42 + 3 * i] = said - 1
    return bytes(content)


@pytest.mark.parametrize("bits", [8, 9, 12, 16])
def test_jpeg2000_of_8_bits_and_more(bits):
    values = noise(HEIGHT, WIDTH, below=2**bits)
    content = jpeg2000(values, 8 if bits == 8 else 16, bits)
    assert_decodes_to(content, as_rgb(as_8_bits(values, 2**bits - 1)), tolerance=1)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("bits", [1, 4, 7])
def test_jpeg2000_of_fewer_bits(bits, channels):
    content = jpeg2000(noise(HEIGHT, WIDTH, channels, below=2**bits).squeeze(), 8, bits)
    assert_refused(content, f"fewer than 8 bits, or of several kinds, {UNKNOWN}")


def test_jpeg2000_of_signed_numbers():
    content = bytearray(jpeg2000(noise(HEIGHT, WIDTH), 8, 8))
    content[42] |= 0x80
    assert_refused(bytes(content), f"of several kinds, {UNKNOWN}")


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_jpeg2000_in_its_container(channels):
    values = noise(HEIGHT, WIDTH, channels)
    colours = values[..., :3] if channels > 2 else as_rgb(values[..., 0])
    content = saved(Image.fromarray(values.squeeze()), "JPEG2000")
    assert_decodes_to(content, colours if channels % 2 else over_white(colours, values[..., -1]), tolerance=1)
    place = content.index(b"ihdr") + 14
    refused = content[:place] + b"\3" + content[place + 1 :]
    assert_refused(refused, f"fewer than 8 bits, or of several kinds, {UNKNOWN}")


# Portable maps, with any largest number.


@pytest.mark.parametrize("largest", [1, 3, 100, 255, 256, 1000, 4095, 65535])
@pytest.mark.parametrize("kind", [2, 3, 5, 6])
def test_portable_maps(kind, largest):
    values = noise(HEIGHT, WIDTH, 1 if kind in (2, 5) else 3, below=largest + 1)
    numbers = " ".join(map(str, values.ravel())).encode()
    content = values.astype(">u2" if largest > 255 else "u1").tobytes() if kind > 3 else numbers
    expected = np.broadcast_to(as_8_bits(values, largest), [HEIGHT, WIDTH, 3])
    assert_decodes_to(
        b"P%d\n# a comment\n%d %d\n%d\n" % (kind, WIDTH, HEIGHT, largest) + content, expected, tolerance=0.6
    )


def test_portable_bits_are_ink():
    bits = noise(HEIGHT, WIDTH, below=2)
    assert_decodes_to(b"P4 %d %d\n" % (WIDTH, HEIGHT) + packed(bits, 1), as_rgb(255 - 255 * bits.astype(int)))


def test_portable_floats():
    content = b"Pf\n%d %d\n-1.0\n" % (WIDTH, HEIGHT) + np.zeros([HEIGHT, WIDTH], "<f4").tobytes()
    assert_refused(content, "the image has F pixels, whose range is not known")


# TGA: the descriptor says which corner is first, and how many bits are opacity.

CORNERS = {0x00: np.s_[::-1], 0x10: np.s_[::-1, ::-1], 0x20: np.s_[:], 0x30: np.s_[:, ::-1]}
SIZE = (HEIGHT, WIDTH)


@pytest.mark.parametrize("corner", CORNERS)
def test_tga(corner):
    values, order = noise(HEIGHT, WIDTH, 4), CORNERS[corner]
    colours, opacity = values[..., :3], values[..., 3]
    rows = bgr(values)[order].tobytes()
    assert_decodes_to(tga(bgr(colours)[order].tobytes(), SIZE, 2, 24, corner), colours)
    assert_decodes_to(tga(rows, SIZE, 2, 32, corner), colours)
    assert_decodes_to(tga(rows, SIZE, 2, 32, corner | 8), over_white(colours, opacity), tolerance=1)
    grey = values[..., [0, 3]]
    assert_decodes_to(tga(grey[order][..., 0].tobytes(), SIZE, 3, 8, corner), as_rgb(values[..., 0]))
    assert_decodes_to(tga(grey[order].tobytes(), SIZE, 3, 16, corner), as_rgb(values[..., 0]))
    expected = over_white(as_rgb(values[..., 0]), opacity)
    assert_decodes_to(tga(grey[order].tobytes(), SIZE, 3, 16, corner | 8), expected, tolerance=1)


def test_tga_of_16_bits():
    fives, high = noise(HEIGHT, WIDTH, 3, below=32).astype(int), noise(HEIGHT, WIDTH, below=2, seed=1).astype(int)
    words = (high << 15 | fives[..., 0] << 10 | fives[..., 1] << 5 | fives[..., 2]).astype("<u2").tobytes()
    assert_decodes_to(tga(words, SIZE, 2, 16, 0x20), fives * 255 / 31, tolerance=1)
    assert_refused(tga(words, SIZE, 2, 16, 0x21), f"one bit of opacity, {UNKNOWN}")


@pytest.mark.parametrize("first", [0, 10])
def test_tga_palette(first):
    palette, indices = noise(64, 4), noise(HEIGHT, WIDTH, below=64, seed=1)
    pixels = (indices + first).tobytes()
    colours, opacity = palette[indices][..., :3], palette[indices][..., 3]
    assert_decodes_to(tga(pixels, SIZE, 1, 8, 0x20, bgr(palette[:, :3]).tobytes(), 24, first), colours)
    assert_decodes_to(tga(pixels, SIZE, 1, 8, 0x20, bgr(palette).tobytes(), 32, first), colours)
    content = tga(pixels, SIZE, 1, 8, 0x28, bgr(palette).tobytes(), 32, first)
    assert_decodes_to(content, over_white(colours, opacity), tolerance=1)


# BMP.

FOUR_MASKS = (0xFF0000, 0xFF00, 0xFF, 0xFF000000)


@pytest.mark.parametrize("header", [12, 40, 64, 108, 124])
def test_bmp_of_24_bits(header):
    values = noise(HEIGHT, WIDTH, 3)
    rows = [row.tobytes() for row in bgr(values)]
    assert_decodes_to(bmp(rows, WIDTH, 24, header=header), values)
    if header != 12:
        assert_decodes_to(bmp(rows, WIDTH, 24, header=header, top_down=True), values)


@pytest.mark.parametrize("header", [40, 56, 108, 124])
def test_bmp_of_32_bits(header):
    """The fourth byte is opacity only where a mask says so."""
    values = noise(HEIGHT, WIDTH, 4)
    colours, rows = values[..., :3], [row.tobytes() for row in bgr(values)]
    assert_decodes_to(bmp(rows, WIDTH, 32, header=header), colours)
    no_opacity = (*FOUR_MASKS[:3], *([0] if header > 40 else []))
    assert_decodes_to(bmp(rows, WIDTH, 32, compression=3, masks=no_opacity, header=header), colours)
    if header > 40:
        content = bmp(rows, WIDTH, 32, compression=3, masks=FOUR_MASKS, header=header)
        assert_decodes_to(content, over_white(colours, values[..., 3]), tolerance=1)


@pytest.mark.parametrize("bits", [(5, 5, 5), (5, 6, 5), (4, 4, 4)])
def test_bmp_of_16_bits(bits):
    largest = 2 ** np.array(bits) - 1
    values = noise(HEIGHT, WIDTH, 3).astype(int) % (largest + 1)
    shifts = [bits[1] + bits[2], bits[2], 0]
    rows = [row.tobytes() for row in (values << shifts).sum(axis=-1).astype("<u2")]
    content = bmp(rows, WIDTH, 16, compression=3, masks=[int(x) << s for x, s in zip(largest, shifts, strict=True)])
    if bits == (4, 4, 4):
        assert_refused(content, "Unsupported BMP bitfields layout")
    else:
        assert_decodes_to(content, values * 255 / largest, tolerance=1)
    if bits == (5, 5, 5):
        assert_decodes_to(bmp(rows, WIDTH, 16), values * 255 / largest, tolerance=1)


@pytest.mark.parametrize("header", [12, 40])
@pytest.mark.parametrize("bits", [1, 4, 8])
def test_bmp_palette(bits, header):
    indices = noise(HEIGHT, WIDTH, below=2**bits, seed=1)
    falling = as_rgb(np.linspace(255, 0, 2**bits)[np.newaxis])[0].astype(np.uint8)
    for palette in (noise(2**bits, 3), falling):
        entries = np.pad(bgr(palette), [(0, 0), (0, 1)]) if header == 40 else bgr(palette)
        rows = [packed(row[np.newaxis], bits) for row in indices]
        assert_decodes_to(bmp(rows, WIDTH, bits, palette=entries.tobytes(), header=header), palette[indices])


@pytest.mark.parametrize("bits", [4, 8])
def test_bmp_in_runs(bits):
    """Decodes three rows from the bottom: a run of eight, eight pixels as they are, and two runs."""
    palette = noise(2**bits, 3)
    rows = (
        [[6] * 8, [1, 2, 3, 4, 5, 6, 7, 8], [9] * 3 + [10] * 5] if bits == 8 else [[6] * 8, list(range(8)), [9, 8] * 4]
    )
    if bits == 8:
        data = bytes([8, 6, 0, 0, 0, 8, *rows[1], 0, 0, 3, 9, 5, 10, 0, 1])
    else:
        data = bytes([8, 0x66, 0, 0, 0, 8, 0x01, 0x23, 0x45, 0x67, 0, 0, 4, 0x98, 4, 0x98, 0, 1])
    entries = np.pad(bgr(palette), [(0, 0), (0, 1)]).tobytes()
    content = bmp([data], 8, bits, compression=1 if bits == 8 else 2, palette=entries)
    assert_decodes_to(content, palette[np.array(rows[::-1])])


# GIF, WebP, AVIF.


@pytest.mark.parametrize("transparent", [None, 2])
@pytest.mark.parametrize("background", [0, 5])
def test_gif_frame_in_a_part_of_the_canvas(background, transparent):
    """The canvas outside the frame is empty, whatever the palette's first colour or the background's colour."""
    palette, indices = noise(8, 3), noise(3, 4, below=8, seed=1)
    expected = np.full([6, 7, 3], 255)
    expected[2:5, 1:5] = np.where((indices == transparent)[..., np.newaxis], 255, palette[indices])
    place = {"canvas": (6, 7), "corner": (2, 1), "background": background, "transparent": transparent}
    assert_decodes_to(gif(indices, palette, **place), expected)


def test_first_frame_of_a_webp_with_opacity():
    values = noise(16, 16, 4)
    values[..., 3] |= 1
    other = Image.new("RGBA", (16, 16), "red")
    options = {"lossless": True, "exact": True}
    expected = over_white(values[..., :3], values[..., 3])
    assert_decodes_to(saved(Image.fromarray(values), "WEBP", **options), expected, tolerance=1)
    animated = saved(Image.fromarray(values), "WEBP", save_all=True, append_images=[other], **options)
    assert_decodes_to(animated, expected, tolerance=1)


def test_first_of_an_animated_png():
    values = noise(HEIGHT, WIDTH, 3)
    content = saved(Image.fromarray(values), "PNG", save_all=True, append_images=[Image.new("RGB", (WIDTH, HEIGHT))])
    assert b"acTL" in content
    assert_decodes_to(content, values)


# Photoshop's.


@pytest.mark.parametrize(
    ("colours", "channels", "layers"),
    [(1, 1, None), (1, 2, -1), (3, 3, None), (3, 4, None), (3, 4, -1), (3, 5, 1), (8, 1, None)],
)
def test_psd(colours, channels, layers):
    """An extra channel is not opacity over white: the merged image is over white already."""
    values = noise(HEIGHT, WIDTH, channels)
    assert_decodes_to(psd(values, colours, layers=layers), values[..., :3] if channels > 2 else as_rgb(values[..., 0]))
    assert_refused(psd(values.astype(int) * 257, colours, 16, layers=layers), OTHER_KIND.format("PSD"))


def test_psd_inks_and_palettes():
    values, palette = noise(HEIGHT, WIDTH, 5), noise(3, 256, seed=1)
    stored = values.astype(int)  # 255 is no ink
    expected = stored[..., :3] * stored[..., 3:4] / 255
    assert_decodes_to(psd(values[..., :4], 4), expected, tolerance=1)
    assert_decodes_to(psd(values, 4), expected, tolerance=1)
    assert_decodes_to(psd(values[..., :1], 2, palette=palette.tobytes()), palette.T[values[..., 0]])


@pytest.mark.parametrize(
    ("colours", "bits", "what"), [(0, 1, "bits"), (7, 8, "bits or channels"), (9, 8, "LAB pixels")]
)
def test_psd_of_other_kinds(colours, bits, what):
    values = noise(HEIGHT, WIDTH, 1 if bits == 1 else 3, below=2**bits)
    assert_refused(psd(values, colours, bits), f"the image has {what}, {UNKNOWN}")


# Icons, and formats of workstations and DOS.


@pytest.mark.parametrize("bits", [8, 24, 32])
def test_icon(bits):
    values, mask, palette = noise(16, 16, 4), noise(16, 16, below=2), noise(256, 4, seed=1)
    if bits == 8:
        content = icon(values[::-1, :, 0].tobytes(), mask, 8, bgr(palette).tobytes())
        expected = np.where(mask[..., np.newaxis], 255, palette[values[..., 0]][..., :3])
    elif bits == 24:
        content = icon(bgr(values[::-1, :, :3]).tobytes(), mask, 24)
        expected = np.where(mask[..., np.newaxis], 255, values[..., :3])
    else:
        content = icon(bgr(values[::-1]).tobytes(), 0 * mask, 32)
        expected = over_white(values[..., :3], values[..., 3])
    assert_decodes_to(content, expected, tolerance=1 if bits == 32 else 0)


def test_cursors_lose_their_opacity_in_pillow():
    content = icon(bytes(768), noise(16, 16, below=2), 24, kind=2)
    assert_refused(content, "the file is not an image of a known format")


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("size", [1, 2])
def test_sgi(channels, size):
    values = noise(HEIGHT, WIDTH, channels)
    colours = values[..., :3] if channels > 1 else as_rgb(values[..., 0])
    expected = over_white(colours, values[..., 3]) if channels == 4 else colours
    wide = values.astype(int) * (257 if size == 2 else 1)
    assert_decodes_to(sgi(wide, size), expected, tolerance=1 if channels == 4 else 0)
    for table in (1, 2, 3):
        assert_refused(sgi(wide, size, table), f"colours by a table elsewhere, {UNKNOWN}")


def test_sun():
    values, palette, bits = noise(HEIGHT, WIDTH, 4), noise(3, 256, seed=1), noise(HEIGHT, 16, below=2)
    colours = values[..., :3]
    assert_decodes_to(sun(bgr(colours).tobytes(), SIZE, 24), colours)
    assert_decodes_to(sun(colours.tobytes(), SIZE, 24, kind=3), colours)
    assert_decodes_to(sun(values[..., 0].tobytes(), SIZE, 8), as_rgb(values[..., 0]))
    assert_decodes_to(sun(values[..., 0].tobytes(), SIZE, 8, palette=palette.tobytes()), palette.T[values[..., 0]])
    assert_decodes_to(sun(packed(bits, 1), (HEIGHT, 16), 1), as_rgb(255 - 255 * bits.astype(int)))
    for kind in (1, 3):
        assert_refused(sun(values.tobytes(), SIZE, 32, kind=kind), f"a filler of 8 bits in each pixel, {UNKNOWN}")


def test_pcx():
    values, vga, ega = noise(HEIGHT, WIDTH, 3), noise(256, 3, seed=1), noise(16, 3, seed=2)
    indices = noise(HEIGHT, WIDTH, below=16, seed=3)
    planes = indices[..., np.newaxis] >> np.arange(4) & 1
    assert_decodes_to(pcx(values, 8), values)
    assert_decodes_to(pcx(values[..., :1], 8), as_rgb(values[..., 0]))
    assert_decodes_to(pcx(values[..., :1], 8, vga=vga.tobytes()), vga[values[..., 0]])
    assert_decodes_to(pcx(planes[..., :1], 1), as_rgb(255 * planes[..., 0]))
    assert_decodes_to(pcx(planes, 1, palette=ega.tobytes()), ega[indices])
    page = pcx(planes, 1, version=3, palette=ega.tobytes())
    for content in (page, struct.pack("<III", 0x3ADE68B1, 12, 0) + page):
        assert_refused(content, f"a palette that is not in the file, {UNKNOWN}")


@pytest.mark.parametrize("kind", [b"DXT1", b"DXT5", b"BC4U", b"ATI2", b"BC5S", b"DXT2"])
def test_blocks_of_textures(kind):
    """Every row has red, blue, and the two colours at the thirds between them."""
    colours = struct.pack("<HHI", 0xF800, 0x001F, 0b11100100 * 0x01010101)
    row = np.broadcast_to([[255, 0, 0], [0, 0, 255], [170, 0, 85], [85, 0, 170]], [4, 4, 3])
    half = bytes([128, 128]) + bytes(6)
    if kind == b"DXT1":
        assert_decodes_to(dds(kind, colours), row, tolerance=1)
    elif kind == b"DXT5":
        assert_decodes_to(dds(kind, half + colours), over_white(row, np.full([4, 4], 128)), tolerance=1)
    else:
        with pytest.raises(ImageError, match=f"one or two channels.*{UNKNOWN}|Unimplemented pixel format"):
            decode(dds(kind, half + half))


@pytest.mark.parametrize("mode", ["L", "LA", "RGB", "RGBA"])
def test_textures_without_blocks(mode):
    values = noise(HEIGHT, WIDTH, len(mode))
    colours = values[..., :3] if "R" in mode else as_rgb(values[..., 0])
    content = saved(Image.fromarray(values.squeeze()), "DDS")
    assert_decodes_to(content, over_white(colours, values[..., -1]) if "A" in mode else colours, tolerance=1)
