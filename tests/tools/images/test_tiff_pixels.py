"""Tests that every kind of TIFF decodes to the colours that its tags say, or is refused.

``tests.helpers.image_bytes`` builds the files; the expected values are calculated here from TIFF 6.0.
"""

import io
import itertools
import struct
import zlib

import numpy as np
import pytest
import tifffile
from PIL import Image

from tests.helpers.image_bytes import tiff
from tools.errors import ImageError
from tools.images import decode

HEIGHT, WIDTH = 5, 13
BLACK_IS_ZERO, RGB, PALETTE, CMYK, YCBCR = 1, 2, 3, 5, 6
NOTHING, PREMULTIPLIED, STRAIGHT = 0, 1, 2
UNKNOWN = "whose meaning is not known: convert it to 8-bit RGB"
OTHER_KIND = (
    r"the image cannot be decoded \(it is TIFF, damaged or of a kind that is not known: convert it to 8-bit RGB\)"
)


def levels(channels, bits, seed=0):
    """Returns random samples that include the smallest and the largest."""
    values = np.random.default_rng(seed).integers(0, 2**bits, (HEIGHT, WIDTH, channels))
    values[0, 0], values[0, 1] = 0, 2**bits - 1
    return values


def as_8_bits(values, bits):
    return values * 255 / (2**bits - 1)


def as_rgb(grey):
    return np.repeat(grey, 3, axis=-1)


def over_white(colour, opacity):
    return colour * opacity / 255 + 255 - opacity


def of_inks(inks):
    return (255 - inks[..., :3]) * (255 - inks[..., 3:]) / 255


def assert_decodes_to(content, expected, tolerance=1.0):
    assert np.abs(decode(content) - np.asarray(expected, float)).max() <= tolerance


def assert_refused(content, match):
    with pytest.raises(ImageError, match=match):
        decode(content)


# Grey. The tolerance of half a step is for rounding.


@pytest.mark.parametrize("deflated", [False, True])
@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("bits", [1, 2, 4, 8, 16])
@pytest.mark.parametrize("zero", ["white", "black"])
def test_grey(zero, bits, order, deflated):
    values = levels(1, bits)
    content = tiff(values, bits, 0 if zero == "white" else 1, order=order, deflated=deflated)
    grey = as_rgb(as_8_bits(values, bits))
    if (zero, bits, order) == ("white", 16, ">"):
        assert_refused(content, OTHER_KIND)
    else:
        assert_decodes_to(content, 255 - grey if zero == "white" else grey, tolerance=0.5)


def test_white_is_zero_in_numbers():
    """Values worked out by hand: 65535 is black, and 129 of 65535 is not yet 254.5."""
    content = tiff(np.array([[[0], [128], [129], [32896], [65535]]]), 16, 0)
    assert decode(content)[0, :, 0].tolist() == [255, 255, 254, 127, 0]


@pytest.mark.parametrize("deflated", [False, True])
def test_grey_of_12_bits(deflated):
    values = levels(1, 12)
    assert_decodes_to(tiff(values, 12, 1, deflated=deflated), as_rgb(as_8_bits(values, 12)), tolerance=0.5)
    assert_refused(tiff(values, 12, 0, deflated=deflated), OTHER_KIND)


@pytest.mark.parametrize("deflated", [False, True])
@pytest.mark.parametrize(("bits", "photometric"), [(1, 0), (1, 1), (2, 0), (4, 1), (8, 1), (8, 2), (16, 1)])
def test_bits_in_the_other_order(bits, photometric, deflated):
    values = levels(3 if photometric == RGB else 1, bits)
    colours = as_8_bits(values, bits) if photometric == RGB else as_rgb(as_8_bits(values, bits))
    content = tiff(values, bits, photometric, deflated=deflated, reversed_bits=True)
    assert_decodes_to(content, colours if photometric else 255 - colours, tolerance=0.5)


@pytest.mark.parametrize(("bits", "compression"), [(1, 1), (8, 1), (8, 8), (16, 1), (16, 8)])
def test_whether_zero_is_black_has_to_be_said(bits, compression):
    content = tiff(levels(1, bits), bits, None, deflated=compression == 8)
    assert_refused(content, f"PhotometricInterpretation is missing.*{UNKNOWN}")


@pytest.mark.parametrize(
    ("bits", "kind", "match"),
    [
        (8, 2, "signed pixels, whose range is not known"),
        (16, 2, "I pixels, whose range is not known"),
        (32, 1, "I pixels, whose range is not known"),
        (32, 2, "I pixels, whose range is not known"),
        (32, 3, "F pixels, whose range is not known"),
        (16, 3, OTHER_KIND),
        (8, 4, OTHER_KIND),
    ],
)
@pytest.mark.parametrize("deflated", [False, True])
def test_numbers_without_a_white(bits, kind, match, deflated):
    """These values would all be valid for grey of 7 or 15 bits."""
    content = tiff(levels(1, 7), bits, BLACK_IS_ZERO, {339: ("H", [kind])}, deflated=deflated)
    assert_refused(content, match)


# Colours, opacity and extra channels. 16 bits of a colour are cut to 8, an error of less than 1.


@pytest.mark.parametrize("deflated", [False, True])
@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("extra", [(), (NOTHING,), (NOTHING, NOTHING), (STRAIGHT,), (PREMULTIPLIED,)])
def test_colours(extra, bits, order, deflated):
    values = levels(3 + len(extra), 8)
    if PREMULTIPLIED in extra:
        values[..., :3] = values[..., :3] * values[..., 3:] // 255
    colours, opacity = values[..., :3], values[..., 3:4]
    expected = colours
    if STRAIGHT in extra:
        expected = over_white(colours, opacity)
    elif PREMULTIPLIED in extra:
        expected = colours + 255 - opacity
    tags = {338: ("H", extra)} if extra else None
    content = tiff(values * (257 if bits == 16 else 1), bits, RGB, tags, order=order, deflated=deflated)
    if bits == 16 and len(extra) == 2:
        assert_refused(content, OTHER_KIND)
    else:
        assert_decodes_to(content, expected)


@pytest.mark.parametrize("bits", [8, 16])
def test_16_bits_are_within_1(bits):
    values = levels(3, bits)
    assert_decodes_to(tiff(values, bits, RGB), as_8_bits(values, bits), tolerance=1 if bits == 16 else 0)


@pytest.mark.parametrize("deflated", [False, True])
@pytest.mark.parametrize("extra", [NOTHING, PREMULTIPLIED, STRAIGHT])
def test_grey_and_opacity(extra, deflated):
    values = levels(2, 8)
    if extra == PREMULTIPLIED:
        values[..., 0] = values.min(axis=-1)
    grey, opacity = as_rgb(values[..., :1]), values[..., 1:]
    expected = {NOTHING: grey, PREMULTIPLIED: grey + 255 - opacity, STRAIGHT: over_white(grey, opacity)}
    content = tiff(values, 8, BLACK_IS_ZERO, {338: ("H", [extra])}, deflated=deflated)
    assert_decodes_to(content, expected[extra], tolerance=1.5)


@pytest.mark.parametrize("photometric", [0, 1])
def test_opacity_that_is_not_named_or_of_16_bits(photometric):
    assert_refused(tiff(levels(2, 8), 8, photometric), OTHER_KIND)
    assert_refused(tiff(levels(2, 16), 16, photometric, {338: ("H", [2])}), OTHER_KIND)


@pytest.mark.parametrize("deflated", [False, True])
@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_palette(bits, order, deflated):
    palette = levels(2**bits * 3, 16)[2, 3]
    values = levels(1, bits)
    content = tiff(values, bits, PALETTE, {320: ("H", palette)}, order=order, deflated=deflated)
    assert_decodes_to(content, as_8_bits(palette.reshape(3, -1).T[values[..., 0]], 16))


@pytest.mark.parametrize("extra", [NOTHING, STRAIGHT])
def test_palette_and_opacity(extra):
    palette, values = levels(768, 16)[2, 3], levels(2, 8)
    colours = as_8_bits(palette.reshape(3, -1).T[values[..., 0]], 16)
    content = tiff(values, 8, PALETTE, {320: ("H", palette), 338: ("H", [extra])})
    assert_decodes_to(content, over_white(colours, values[..., 1:]) if extra else colours, tolerance=1.5)


def test_palette_of_8_bits():
    """Old programs wrote palettes of 8 bits, and libtiff guesses which are; a palette of zeros is black either way."""
    palette, values = levels(768, 8)[2, 3], levels(1, 8)
    assert_refused(tiff(values, 8, PALETTE, {320: ("H", palette)}), f"a palette of 8 bits, {UNKNOWN}")
    assert_decodes_to(tiff(values, 8, PALETTE, {320: ("H", [0] * 768)}), np.zeros([HEIGHT, WIDTH, 3]), tolerance=0)


# Inks.


@pytest.mark.parametrize("deflated", [False, True])
@pytest.mark.parametrize("bits", [8, 16])
def test_inks(bits, deflated):
    values = levels(4, bits)
    expected = of_inks(as_8_bits(values, bits))
    tags = {332: ("H", [1]), 336: ("H", [0, 255])}
    for given in ({}, tags):
        content = tiff(values, bits, CMYK, given, deflated=deflated)
        assert_decodes_to(content, expected, tolerance=1 if bits == 8 else 2)


@pytest.mark.parametrize("tag", [(332, [2]), (334, [5]), (336, [255, 0])])
def test_other_inks(tag):
    content = tiff(levels(4, 8), 8, CMYK, {tag[0]: ("H", tag[1])})
    assert_refused(content, f"other inks than cyan, magenta, yellow and black, or inverted ones, {UNKNOWN}")


# YCbCr, by the coefficients of CCIR 601.


def of_ycbcr(values):
    y, b, r = np.moveaxis(values.astype(float), -1, 0)
    red, green, blue = y + 1.402 * (r - 128), y - 0.344136 * (b - 128) - 0.714136 * (r - 128), y + 1.772 * (b - 128)
    return np.clip(np.stack([red, green, blue], axis=-1), 0, 255)


def test_ycbcr_for_each_pixel():
    values, tags = levels(3, 8), {530: ("H", [1, 1])}
    assert_decodes_to(tiff(values, 8, YCBCR, tags, deflated=True), of_ycbcr(values), tolerance=1.5)
    assert_refused(tiff(values, 8, YCBCR, tags), f"YCbCr pixels that are not compressed, {UNKNOWN}")


def test_ycbcr_for_four_pixels_at_once():
    y, shared = levels(1, 8)[:4, :8], 100 + levels(2, 8)[:2, :4] % 56
    blocks = y.reshape(2, 2, 4, 2).swapaxes(1, 2).reshape(2, 4, 4)
    data = np.concatenate([blocks, shared], axis=-1).astype(np.uint8).tobytes()
    values = np.concatenate([y, shared.repeat(2, axis=0).repeat(2, axis=1)], axis=-1)
    tags = {530: ("H", [2, 2])}
    content = tiff(values, 8, YCBCR, tags, data=zlib.compress(data), compression=8)
    assert_decodes_to(content, of_ycbcr(values), tolerance=1.5)
    for given in (tags, None):
        assert_refused(tiff(values, 8, YCBCR, given, data=data), f"YCbCr pixels that are not compressed, {UNKNOWN}")


@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
def test_jpeg_inside(mode):
    """JPEG keeps a flat colour except for rounding; libtiff makes the colours."""
    colour = {"L": 90, "RGB": (200, 100, 50), "CMYK": (40, 80, 160, 20)}[mode]
    stream = io.BytesIO()
    Image.new(mode, (16, 16), colour).save(stream, "TIFF", compression="jpeg", quality=95)
    expected = of_inks(np.array(colour)) if mode == "CMYK" else np.broadcast_to(colour, 3)
    assert_decodes_to(stream.getvalue(), np.broadcast_to(expected, [16, 16, 3]), tolerance=3)


# Kinds for which Pillow has no mode, or none whose colours are known.


@pytest.mark.parametrize("bits", [1, 8, 16])
@pytest.mark.parametrize("photometric", [4, 9, 10, 32803, 32844, 32845, 34892, 7, 65535])
def test_other_interpretations(photometric, bits):
    for channels in (1, 3, 4):
        assert_refused(tiff(levels(channels, bits), bits, photometric), OTHER_KIND)


def test_cielab():
    assert_refused(tiff(levels(3, 8), 8, 8), f"LAB pixels, {UNKNOWN}")


@pytest.mark.parametrize(("bits", "photometric", "channels"), [(2, 2, 3), (4, 2, 3), (32, 2, 3), (4, 5, 4), (8, 5, 3)])
def test_other_numbers_of_bits_and_channels(bits, photometric, channels):
    assert_refused(tiff(levels(channels, bits), bits, photometric), OTHER_KIND)


@pytest.mark.parametrize("kind", [1, 4, 5])
def test_previews_and_masks(kind):
    """Cameras' raw files begin with these; the third kind of page, 2, is a page."""
    values = levels(3, 8)
    assert_refused(tiff(values, 8, RGB, {254: ("I", [kind])}), f"a preview or a mask.*{UNKNOWN}")
    assert_decodes_to(tiff(values, 8, RGB, {254: ("I", [2])}), values, tolerance=0)


# Channels that are stored one after the other.

PLANES = list(
    itertools.product([(RGB, ()), (RGB, (0,)), (RGB, (2,)), (CMYK, ()), (1, (2,)), (1, (1,))], [8, 16], [0, 1])
)


@pytest.mark.parametrize(("kind", "bits", "deflated"), PLANES)
@pytest.mark.parametrize("order", "<>")
def test_planes(kind, bits, deflated, order):
    """The result equals that of the same channels stored together, or the file is refused."""
    photometric, extra = kind
    values = levels({RGB: 3, CMYK: 4, 1: 1}[photometric] + len(extra), 8) * (257 if bits == 16 else 1)
    tags = {338: ("H", extra)} if extra else None
    content = tiff(values, bits, photometric, tags, order=order, planar=True, deflated=bool(deflated))
    if photometric == 1 or (extra == (NOTHING,) and not deflated):
        assert_refused(content, f"one after the other.*{UNKNOWN}|{OTHER_KIND}")
    elif bits == 16 and not deflated:
        assert_refused(content, f"one after the other.*{UNKNOWN}")
    else:
        together = tiff(values, bits, photometric, tags, order=order)
        assert_decodes_to(content, decode(together), tolerance=0)


def test_planes_that_pillow_mixes_up():
    refused = f"one after the other.*{UNKNOWN}"
    assert_refused(tiff(levels(3, 8), 8, RGB, planar=True, reversed_bits=True), refused)
    assert_refused(tiff(levels(4, 8), 8, RGB, planar=True, deflated=True), refused)
    assert_refused(tiff(levels(3, 8), 8, YCBCR, planar=True, deflated=True), refused)


def test_big_tiff():
    values = levels(1, 16)
    rows = values.astype("<u2").tobytes()
    tags = {256: WIDTH, 257: HEIGHT, 258: 16, 259: 1, 262: 0, 273: 16, 277: 1, 278: HEIGHT, 279: len(rows)}
    entries = b"".join(struct.pack("<HHQQ", tag, 4, 1, value) for tag, value in tags.items())
    head = struct.pack("<2sHHHQ", b"II", 43, 8, 0, 16 + len(rows))
    content = head + rows + struct.pack("<Q", len(tags)) + entries + bytes(8)
    assert_decodes_to(content, 255 - as_rgb(as_8_bits(values, 16)), tolerance=0.5)


# Files of another encoder.


@pytest.mark.parametrize("layout", [{"rowsperstrip": 5}, {"tile": (16, 16)}, {"bigtiff": True}, {"predictor": True}])
@pytest.mark.parametrize("compression", [None, "zlib"])
@pytest.mark.parametrize("photometric", ["miniswhite", "minisblack", "rgb"])
@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
def test_what_tifffile_writes(kind, photometric, compression, layout):
    if "predictor" in layout:
        compression = "zlib"
    values = np.random.default_rng(0).integers(0, np.iinfo(kind).max + 1, (40, 50, 3), kind)
    values = values if photometric == "rgb" else values[..., 0]
    stream = io.BytesIO()
    tifffile.imwrite(stream, values, photometric=photometric, compression=compression, byteorder="<", **layout)
    colours = values.reshape(40, 50, -1) * (255 / np.iinfo(kind).max)
    expected = 255 - colours if photometric == "miniswhite" else colours
    assert_decodes_to(stream.getvalue(), np.broadcast_to(expected, [40, 50, 3]))


@pytest.mark.parametrize("zero", [0, 1])
@pytest.mark.parametrize("compression", ["group3", "group4", "tiff_ccitt", "packbits"])
def test_fax(compression, zero):
    bits = levels(1, 1)[..., 0].astype(bool)
    stream = io.BytesIO()
    Image.fromarray(bits).save(stream, "TIFF", compression=compression)
    black, white = (struct.pack("<HHIHH", 262, 3, 1, photometric, 0) for photometric in (1, 0))
    content = stream.getvalue()
    assert (black in content) != (white in content)
    stored = 1 if black in content else 0
    content = content.replace(black, white) if zero < stored else content.replace(white, black)
    grey = as_rgb(255 * bits[..., np.newaxis].astype(float))
    assert_decodes_to(content, grey if zero == stored else 255 - grey, tolerance=0)


@pytest.mark.parametrize("orientation", [3, 6])
def test_the_negative_is_turned_too(orientation):
    values = levels(1, 16)
    upright = 255 - as_rgb(as_8_bits(values, 16))
    turned = upright[::-1, ::-1] if orientation == 3 else upright[::-1].swapaxes(0, 1)
    assert_decodes_to(tiff(values, 16, 0, {274: ("H", [orientation])}), turned, tolerance=0.5)
