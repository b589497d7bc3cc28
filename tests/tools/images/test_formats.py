"""Tests that each format is recognized by its first bytes and decodes correctly, and that programs never run."""

import io
import struct
import warnings

import numpy as np
import pytest
from PIL import Image

from tests.helpers.image_bytes import packed, png, tiff
from tests.helpers.image_files import bgr, bmp, dds, flc, gif, icon, pcx, pixar, psd, sgi, sun, tga
from tools.errors import ImageError
from tools.images import decode
from tools.images.decoding import HEAD_BYTES, IMAGE_SUFFIXES, image_format
from tools.images.formats import allowed_formats
from tools.images.pixel_meanings import pixel_meaning

HEIGHT, WIDTH = 16, 16
GENERATOR = np.random.default_rng(0)
COLOURS = GENERATOR.integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)
PALETTE = GENERATOR.integers(0, 256, (256, 3), np.uint8)
INDICES = COLOURS[..., 0]
BITS = INDICES & 1
FLAT = np.broadcast_to(np.uint8([200, 100, 50]), [32, 32, 3])


def saved(colours, kind, **options):
    stream = io.BytesIO()
    Image.fromarray(colours).save(stream, kind, **options)
    return stream.getvalue()


def as_rgb(grey):
    return np.repeat(grey[..., np.newaxis], 3, axis=-1)


def msp():
    words = [0x6144, 0x4D6E, WIDTH, HEIGHT, 1, 1, 1, 1, WIDTH, HEIGHT, 0, 0]
    return struct.pack("<16H", *words, np.bitwise_xor.reduce(words), 0, 0, 0) + packed(BITS, 1)


def qoi():
    pixels = b"".join(b"\xfe" + pixel.tobytes() for pixel in COLOURS.reshape(-1, 3))
    return b"qoif" + struct.pack(">IIBB", WIDTH, HEIGHT, 3, 0) + pixels + bytes(7) + b"\1"


def xbm():
    data = ", ".join(f"0x{byte:02x}" for byte in np.packbits(BITS, axis=1, bitorder="little").ravel())
    size = f"#define a_width {WIDTH}\n#define a_height {HEIGHT}\n"
    return f"{size}static char a_bits[] = {{\n{data} }};\n".encode()


def photo_cd():
    """Returns Kodak's base image of one colour. PhotoYCC scales luma by 1.3584; chroma 156 and 137 mean no colour."""
    rows = bytes([100]) * 2 * 768 + bytes([156]) * 384 + bytes([137]) * 384
    return bytes(2048) + b"PCD_" + bytes(94 * 2048 - 4) + bytes(2048) + rows * 256


def ftex():
    directory = struct.pack("<7i", 0, WIDTH, HEIGHT, 1, 1, 1, 32)
    return b"FTEX" + directory + struct.pack("<i", COLOURS.size) + COLOURS.tobytes()


def gbr():
    opaque = np.dstack([COLOURS, np.full([HEIGHT, WIDTH], 255, np.uint8)])
    return struct.pack(">5I4sI", 30, 2, WIDTH, HEIGHT, 4, b"GIMP", 10) + b"a\0" + opaque.tobytes()


ROWS = [row.tobytes() for row in bgr(COLOURS)]
BITMAP = bmp(ROWS, WIDTH, 24)
XPM = b'/* XPM */\nstatic char *a[] = {\n"2 2 3 1",\n"a c #FF0000",\n"b c #00ff80",\n". c None",\n"ab",\n".a"};\n'
TEXTURE = dds(b"DXT1", struct.pack("<HHI", 0xF800, 0, 0))

# The format, a file of it, the pixels that it decodes to, and the error of the format itself.
FILES = {
    "AVIF": (saved(FLAT, "AVIF", quality=100, subsampling="4:4:4"), FLAT, 2),
    "BMP": (BITMAP, COLOURS, 0),
    "DCX": (struct.pack("<III", 0x3ADE68B1, 12, 0) + pcx(COLOURS, 8), COLOURS, 0),
    "DDS": (TEXTURE, np.broadcast_to([255, 0, 0], [4, 4, 3]), 0),
    "DIB": (BITMAP[14:], COLOURS, 0),
    "FLI": (flc(INDICES, PALETTE), PALETTE[INDICES], 0),
    "FTEX": (ftex(), COLOURS, 0),
    "GBR": (gbr(), COLOURS, 0),
    "GIF": (gif(INDICES % 8, PALETTE[:8]), PALETTE[INDICES % 8], 0),
    "ICNS": (saved(FLAT, "ICNS"), np.broadcast_to(FLAT[0, 0], [1024, 1024, 3]), 0),
    "ICO": (icon(bgr(COLOURS[::-1]).tobytes(), 0 * BITS, 24), COLOURS, 0),
    "JPEG": (saved(FLAT, "JPEG", quality=95), FLAT, 2),
    "JPEG2000": (saved(COLOURS, "JPEG2000"), COLOURS, 0),
    "MSP": (msp(), as_rgb(255 * BITS), 0),
    "PCD": (photo_cd(), np.full([512, 768, 3], 135.84), 1),
    "PCX": (pcx(COLOURS, 8), COLOURS, 0),
    "PIXAR": (pixar(COLOURS), COLOURS, 0),
    "PNG": (png(COLOURS, 8, 2), COLOURS, 0),
    "PPM": (b"P6 16 16 255\n" + COLOURS.tobytes(), COLOURS, 0),
    "PSD": (psd(COLOURS, 3), COLOURS, 0),
    "QOI": (qoi(), COLOURS, 0),
    "SGI": (sgi(COLOURS), COLOURS, 0),
    "SUN": (sun(bgr(COLOURS).tobytes(), (HEIGHT, WIDTH), 24), COLOURS, 0),
    "TGA": (tga(bgr(COLOURS).tobytes(), (HEIGHT, WIDTH), 2, 24, 0x20), COLOURS, 0),
    "TIFF": (tiff(COLOURS, 8, 2), COLOURS, 0),
    "WEBP": (saved(COLOURS, "WEBP", lossless=True), COLOURS, 0),
    # A set bit is the foreground: black ink.
    "XBM": (xbm(), as_rgb(255 - 255 * BITS), 0),
    "XPM": (XPM, [[[255, 0, 0], [0, 255, 128]], [[255, 255, 255], [255, 0, 0]]], 0),
}

OTHERS = {
    "eps": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n0 0 9 9 rectfill\n%%EOF\n",
    "eps of DOS": struct.pack("<IIIIIII", 0xC6D3D0C5, 30, 99, 0, 0, 0, 0) + b"\xff\xff%!PS-Adobe-3.0 EPSF-3.0\n",
    "ps": b"%!\n%%BoundingBox: 0 0 9 9\nshowpage\n",
    "ps of a printer": b"\x04%!PS-Adobe-3.0\n",
    "pdf": b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n1 0 obj\n",
    "wmf": b"\xd7\xcd\xc6\x9a\0\0" + struct.pack("<hhhhH", 0, 0, 9, 9, 96) + bytes(30),
    "emf": struct.pack("<II", 1, 108) + bytes(32) + b" EMF" + bytes(60),
    "hdf": b"\x89HDF\r\n\x1a\n" + bytes(99),
    "fits": b"SIMPLE  =                    T".ljust(80) + b"BITPIX  =                    8".ljust(80),
    "grib": b"GRIB\0\0\0\1" + bytes(99),
    "mpeg": b"\0\0\1\xb3\x10\0\x10\x13" + bytes(99),
    "heic": b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(99),
    "mp4": b"\0\0\0\x18ftypisom\0\0\0\0isomiso2" + bytes(99),
    "header of C": b"#define WIDTH 16\n#define OTHER 3\nint main(void);\n",
    "text": b"P1 is a name, BM another\n",
    "a list": b"\n1 2 3\n",
    "zip": b"PK\3\4\x14" + bytes(99),
    "font": b"\0\1\0\0\0\x0f\0\x80" + bytes(99),
    "pickle": b"\x80\4\x95\x10\0\0\0\0" + bytes(99),
    "zeros": bytes(4096),
    "nothing": b"",
    "sound": b"RIFF\x24\0\0\0WAVEfmt " + bytes(99),
}


@pytest.mark.parametrize("name", FILES)
def test_format_by_content(name, tmp_path):
    """The suffix does not count."""
    content, expected, tolerance = FILES[name]
    assert image_format(content[:HEAD_BYTES]) == name
    (tmp_path / "a.eps").write_bytes(content)
    for file in (content, tmp_path / "a.eps"):
        assert np.abs(decode(file) - np.asarray(expected, float)).max() <= tolerance


def test_every_format_has_a_file():
    assert set(allowed_formats()) == set(FILES)
    programs = {"EPS", "PDF", "PS", "WMF"}
    stubs = {"BUFR", "GRIB", "HDF5", "MPEG"}
    assert not set(allowed_formats()) & (programs | stubs)


def test_every_suffix_that_pillow_knows_is_of_an_allowed_format():
    Image.init()
    allowed = set(allowed_formats()) | {"MPO"}
    assert {Image.EXTENSION.get(suffix, suffix) for suffix in IMAGE_SUFFIXES - {".mpo"}} <= allowed
    assert {".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp", ".jp2", ".tga"} <= IMAGE_SUFFIXES
    assert not {".eps", ".ps", ".pdf", ".wmf", ".emf", ".h5", ".mpg"} & IMAGE_SUFFIXES


@pytest.mark.parametrize("name", OTHERS)
def test_no_image_by_content(name):
    assert image_format(OTHERS[name]) is None


@pytest.mark.parametrize("suffix", [".eps", ".ps", ".png", ".jpg", ""])
@pytest.mark.parametrize("name", ["eps", "eps of DOS", "ps", "ps of a printer", "pdf", "wmf", "emf"])
def test_programs_are_not_opened(name, suffix, tmp_path, monkeypatch):
    def opened(*_, **__):
        raise AssertionError("a program was opened")

    monkeypatch.setattr("PIL.EpsImagePlugin.EpsImageFile._open", opened)
    monkeypatch.setattr("PIL.EpsImagePlugin.Ghostscript", opened)
    monkeypatch.setattr("PIL.WmfImagePlugin.WmfStubImageFile._open", opened)
    monkeypatch.setattr("subprocess.Popen.__init__", opened)
    path = tmp_path / f"a{suffix}"
    path.write_bytes(OTHERS[name])
    for file in (path, OTHERS[name]):
        with pytest.raises(ImageError) as error:
            decode(file)
        assert str(error.value).startswith("the file is not an image of a known format")
        assert ("PostScript is a program" in str(error.value)) == ("ps" in name)


def test_pillows_own_files_are_known():
    """Tries all modes that each format stores; IM, SPIDER and similar formats are omitted on purpose."""
    Image.init()
    seen = set()
    for kind in set(Image.SAVE) & {*allowed_formats(), "MPO"}:
        for mode in ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16"):
            stream = io.BytesIO()
            try:
                Image.new("L", (20, 10)).convert(mode).save(stream, kind)
            except (OSError, ValueError, KeyError):
                continue  # the format has no such mode
            assert image_format(stream.getvalue()) == kind.replace("MPO", "JPEG"), (kind, mode)
            seen.add(kind)
    assert len(seen) >= 15


@pytest.mark.parametrize("name", FILES)
def test_the_beginning_of_a_file_is_no_image(name):
    """One sentence is the result, whatever is missing."""
    content = FILES[name][0]
    for count in (4, 20, len(content) // 3):
        with warnings.catch_warnings(), pytest.raises(ImageError) as error:
            warnings.simplefilter("ignore")
            decode(content[:count])
        assert "\n" not in str(error.value)


MEANT = {"1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBX", "RGBa", "CMYK", "YCbCr"}


@pytest.mark.parametrize("mode", [*sorted(MEANT), "F", "HSV", "I", "I;16", "I;16B", "I;16L", "I;16N", "LAB"])
def test_modes_by_themselves(mode):
    """Numbers of more than 8 bits have no white if the format does not define one."""
    image = Image.new(mode, (1, 1))
    if mode in MEANT:
        assert pixel_meaning(image) == (65535, False, False, None)
        return
    expected = "whose meaning is not known" if mode in ("HSV", "LAB") else "whose range is not known"
    with pytest.raises(ImageError, match=f"the image has {mode} pixels, {expected}"):
        pixel_meaning(image)
