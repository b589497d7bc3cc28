"""Tests decoding and listing of image files.

The expected result is calculated here from the pixels that the file was made of. Files that Pillow does not write are
built byte by byte.
"""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, ImageOps, UnidentifiedImageError

from tools.errors import ImageError, InputError
from tools.images import decode, open_inputs
from tools.images.decoding import IMAGE_SUFFIXES

ORIENTATION = 0x0112

# EXIF 2.3, tag 0x0112: the sides of the upright image where row 0 and column 0 of the stored one are.
SIDES = {
    1: ("top", "left"),
    2: ("top", "right"),
    3: ("bottom", "right"),
    4: ("bottom", "left"),
    5: ("left", "top"),
    6: ("right", "top"),
    7: ("right", "bottom"),
    8: ("left", "bottom"),
}


# Warnings of broken EXIF data, or of size: the command ignores them.
PILLOWS_WARNINGS = r"ignore:::PIL\..*"


def names_of(inputs):
    """Returns the names of the images in the inputs, in order."""
    opened = open_inputs(inputs)
    return [opened.name(i) for i in range(len(opened))]


def noise(*shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def grey_as_rgb(grey):
    return np.repeat(np.asarray(grey, np.uint8)[..., np.newaxis], 3, axis=-1)


def over_white(colour, opacity):
    """Blends colours of opacity 0 to 255 with white."""
    share = np.asarray(opacity)[..., np.newaxis] / 255
    return np.asarray(colour) * share + 255 * (1 - share)


def png_chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def write_png(path, values, bits, colour_type, extra=b"", size=None):
    """Writes a PNG file of one row of values, or with a wrong size in its header."""
    width, height = size or (len(values), 1)
    header = struct.pack(">IIBBBBB", width, height, bits, colour_type, 0, 0, 0)
    row = b"\0" + np.asarray(values).astype(">u2" if bits == 16 else "u1").tobytes()
    chunks = png_chunk(b"IHDR", header) + extra + png_chunk(b"IDAT", zlib.compress(row)) + png_chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunks)
    return path


def encoded(array, kind, **options):
    stream = io.BytesIO()
    Image.fromarray(array).save(stream, kind, **options)
    return stream.getvalue()


def assert_decodes_to(path, expected, tolerance=0):
    picture = decode(path)
    assert picture.dtype == np.uint8
    assert picture.shape == np.shape(expected)
    assert np.abs(picture.astype(float) - expected).max() <= tolerance


# Files that decode.


@pytest.mark.parametrize("kind", ["BMP", "PNG", "TIFF", "PPM"])
def test_colour(tmp_path, kind):
    pixels = noise(13, 7, 3)
    path = tmp_path / "colour"
    path.write_bytes(encoded(pixels, kind))
    assert_decodes_to(path, pixels)
    assert np.array_equal(decode(str(path)), pixels)


def test_lossless_webp(tmp_path):
    pixels = noise(13, 7, 3)
    (tmp_path / "a.webp").write_bytes(encoded(pixels, "WEBP", lossless=True))
    assert_decodes_to(tmp_path / "a.webp", pixels)


def test_jpeg(tmp_path):
    """JPEG keeps a flat colour except for rounding, also in a progressive file."""
    pixels = np.full([16, 24, 3], (200, 100, 50), np.uint8)
    for options in ({}, {"progressive": True}):
        (tmp_path / "a.jpg").write_bytes(encoded(pixels, "JPEG", quality=95, **options))
        assert_decodes_to(tmp_path / "a.jpg", pixels, tolerance=2)


def test_the_suffix_does_not_count(tmp_path):
    pixels = noise(5, 4, 3)
    (tmp_path / "a.jpg").write_bytes(encoded(pixels, "PNG"))
    assert_decodes_to(tmp_path / "a.jpg", pixels)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF"])
def test_grey(tmp_path, kind):
    grey = np.full([16, 8], 77, np.uint8) if kind == "JPEG" else noise(16, 8)
    (tmp_path / "a").write_bytes(encoded(grey, kind))
    assert_decodes_to(tmp_path / "a", grey_as_rgb(grey), tolerance=1 if kind == "JPEG" else 0)


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_grey_of_16_bits(tmp_path, kind):
    """Divides by 257 and rounds: 128 is still black, 129 is not; clipping would give 255 almost everywhere."""
    wide = np.array([[0, 128, 129, 385, 386, 40000, 65406, 65407, 65535]], np.uint16)
    (tmp_path / "a").write_bytes(encoded(wide, kind))
    assert_decodes_to(tmp_path / "a", grey_as_rgb([[0, 0, 1, 1, 2, 156, 254, 255, 255]]))


def test_every_level_of_8_bits_survives_as_16(tmp_path):
    levels = np.arange(256)[np.newaxis]
    (tmp_path / "a.png").write_bytes(encoded((levels * 257).astype(np.uint16), "PNG"))
    assert_decodes_to(tmp_path / "a.png", grey_as_rgb(levels))


def test_grey_of_16_bits_with_a_transparent_value(tmp_path):
    path = write_png(tmp_path / "a.png", [0, 300, 301, 65535], 16, 0, extra=png_chunk(b"tRNS", struct.pack(">H", 300)))
    assert_decodes_to(path, grey_as_rgb([[0, 255, 1, 255]]))


def test_colour_of_16_bits(tmp_path):
    levels = noise(9, 3)
    path = write_png(tmp_path / "a.png", levels.astype(np.uint16) * 257, 16, 2)
    assert_decodes_to(path, levels[np.newaxis])


def test_grey_and_opacity_of_16_bits(tmp_path):
    grey, opacity = np.array([200, 200, 200, 10]), np.array([255, 128, 0, 51])
    path = write_png(tmp_path / "a.png", np.stack([grey, opacity], axis=-1) * 257, 16, 4)
    assert_decodes_to(path, over_white(grey_as_rgb(grey), opacity)[np.newaxis], tolerance=1)


@pytest.mark.parametrize("channels", [2, 4])
@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_opacity_is_over_white(tmp_path, channels, kind):
    pixels = noise(12, 17, channels)
    pixels[0, :3, -1] = (0, 255, 128)
    (tmp_path / "a").write_bytes(encoded(pixels, kind))
    colour = pixels[..., :-1] if channels == 4 else grey_as_rgb(pixels[..., 0])
    assert_decodes_to(tmp_path / "a", over_white(colour, pixels[..., -1]), tolerance=1)


def palette_image(indices, palette):
    image = Image.frombytes("P", indices.shape[::-1], indices.tobytes())
    image.putpalette(palette.tobytes())
    return image


def test_palette(tmp_path):
    palette, indices = noise(16, 3), noise(9, 11, seed=1) % 16
    palette_image(indices, palette).save(tmp_path / "a.png")
    assert_decodes_to(tmp_path / "a.png", palette[indices])


def test_palette_with_an_opacity_for_each_colour(tmp_path):
    palette, indices, opacity = noise(16, 3), noise(9, 11, seed=1) % 16, noise(16, seed=2)
    palette_image(indices, palette).save(tmp_path / "a.png", transparency=opacity.tobytes())
    assert_decodes_to(tmp_path / "a.png", over_white(palette, opacity)[indices], tolerance=1)


@pytest.mark.parametrize("kind", ["GIF", "PNG"])
def test_palette_with_one_transparent_colour(tmp_path, kind):
    palette, indices = noise(16, 3), noise(9, 11, seed=1) % 16
    palette_image(indices, palette).save(tmp_path / "a", kind, transparency=3)
    expected = palette[indices]
    expected[indices == 3] = 255
    assert_decodes_to(tmp_path / "a", expected)


def test_colour_with_one_transparent_colour(tmp_path):
    pixels = noise(1, 6, 3)
    path = write_png(tmp_path / "a.png", pixels[0], 8, 2, extra=png_chunk(b"tRNS", struct.pack(">HHH", *pixels[0, 2])))
    expected = pixels.copy()
    expected[0, 2] = 255
    assert_decodes_to(path, expected)


@pytest.mark.parametrize("kind", ["BMP", "PNG", "TIFF"])
def test_one_bit(tmp_path, kind):
    bits = noise(10, 13) > 127
    (tmp_path / "a").write_bytes(encoded(bits, kind))
    assert_decodes_to(tmp_path / "a", grey_as_rgb(bits * 255))


@pytest.mark.parametrize("ink", [(0, 0, 0, 0), (255, 0, 0, 0), (0, 0, 0, 255), (40, 80, 160, 20)])
def test_cmyk_jpeg(tmp_path, ink):
    """Ink takes light away: cyan, magenta and yellow each take one colour, and black takes all."""
    image = Image.new("CMYK", (16, 16), ink)
    image.save(tmp_path / "a.jpg", quality=100)
    cmy, black = np.array(ink[:3]), ink[3]
    expected = (255 - cmy) * (255 - black) / 255
    assert_decodes_to(tmp_path / "a.jpg", np.broadcast_to(expected, [16, 16, 3]), tolerance=3)


def test_first_frame_of_an_animation(tmp_path):
    frames = [Image.new("RGB", (8, 6), colour) for colour in ("red", "lime", "blue")]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:], duration=100)
    with Image.open(tmp_path / "a.gif") as image:
        assert image.n_frames == 3
    assert_decodes_to(tmp_path / "a.gif", np.broadcast_to([255, 0, 0], [6, 8, 3]))


def test_first_page_of_a_tiff(tmp_path):
    pages = [noise(6, 8, 3, seed=seed) for seed in range(2)]
    images = [Image.fromarray(page) for page in pages]
    images[0].save(tmp_path / "a.tif", save_all=True, append_images=images[1:])
    assert_decodes_to(tmp_path / "a.tif", pages[0])


def stored(upright, orientation):
    """Returns an image as a camera in this orientation would have stored it."""
    rows, columns = SIDES[orientation]
    if rows in ("left", "right"):
        upright = upright.swapaxes(0, 1)
    if rows in ("right", "bottom"):
        upright = upright[::-1]
    return np.ascontiguousarray(upright[:, ::-1] if columns in ("right", "bottom") else upright)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF"])
@pytest.mark.parametrize("orientation", SIDES)
def test_turned_as_exif_says(tmp_path, orientation, kind):
    # Squares of 16 pixels, which JPEG does not mix.
    upright = np.kron(noise(2, 3)[..., np.newaxis] // 2 + 64, np.ones([16, 16, 3], np.uint8))
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    (tmp_path / "a").write_bytes(encoded(stored(upright, orientation), kind, exif=exif))
    assert_decodes_to(tmp_path / "a", upright, tolerance=3 if kind == "JPEG" else 0)


@pytest.mark.parametrize("orientation", SIDES)
def test_16_bits_are_turned_too(tmp_path, orientation):
    upright = noise(3, 5)
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    (tmp_path / "a.png").write_bytes(encoded(stored(upright.astype(np.uint16) * 257, orientation), "PNG", exif=exif))
    assert_decodes_to(tmp_path / "a.png", grey_as_rgb(upright))


@pytest.mark.parametrize("orientation", [0, 9, 255])
def test_an_orientation_that_there_is_not(tmp_path, orientation):
    pixels = noise(4, 6, 3)
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    (tmp_path / "a.png").write_bytes(encoded(pixels, "PNG", exif=exif))
    assert_decodes_to(tmp_path / "a.png", pixels)


# A valid image, with an EXIF tag (the description) that points out of the block.
BROKEN_EXIF = b"Exif\0\0II*\0" + struct.pack("<IHHHII", 8, 1, 0x010E, 2, 1000, 5000)


def picture_with_broken_exif(path):
    pixels = noise(4, 6, 3)
    path.write_bytes(encoded(pixels, "PNG", exif=BROKEN_EXIF))
    with Image.open(path) as image, pytest.warns(UserWarning, match="EXIF|Tag data"):
        ImageOps.exif_transpose(image)
    return pixels


@pytest.mark.filterwarnings(PILLOWS_WARNINGS)
def test_broken_exif_data_does_not_fail(tmp_path):
    pixels = picture_with_broken_exif(tmp_path / "a.png")
    assert_decodes_to(tmp_path / "a.png", pixels)


@pytest.mark.filterwarnings(PILLOWS_WARNINGS)
def test_a_large_picture_is_decoded_and_a_huge_one_refused(tmp_path, monkeypatch):
    """Pillow warns above its limit, and refuses above twice the limit."""
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    large, too_large = noise(10, 15, 3), noise(10, 21, 3)
    (tmp_path / "large.png").write_bytes(encoded(large, "PNG"))
    (tmp_path / "too_large.png").write_bytes(encoded(too_large, "PNG"))
    assert_decodes_to(tmp_path / "large.png", large)
    with pytest.raises(ImageError, match="too large"):
        decode(tmp_path / "too_large.png")


# Files that do not decode.


def reason(path):
    with pytest.raises(ImageError) as error:
        decode(path)
    text = str(error.value)
    assert "\n" not in text
    return text


def test_missing_file(tmp_path):
    assert reason(tmp_path / "a.png") == "there is no such file"


def test_a_file_that_goes_away(tmp_path, monkeypatch):
    """The reason comes from the file itself, which another process can remove in between."""
    (tmp_path / "a.png").write_bytes(b"no image at all")

    def gone(source):
        (tmp_path / "a.png").unlink()
        raise UnidentifiedImageError

    monkeypatch.setattr("tools.images.decoding.open_image", gone)
    assert reason(tmp_path / "a.png") == "the file is not an image of a known format"


def test_empty_file(tmp_path):
    (tmp_path / "a.png").write_bytes(b"")
    assert reason(tmp_path / "a.png") == "the file is empty"


@pytest.mark.parametrize("content", [b"\0", b"hello\n", bytes(10_000), b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff"])
def test_no_image(tmp_path, content):
    (tmp_path / "a.png").write_bytes(content)
    assert reason(tmp_path / "a.png") == "the file is not an image of a known format"


def test_folder(tmp_path):
    assert "cannot be decoded" in reason(tmp_path)


@pytest.mark.parametrize("kind", ["GIF", "JPEG", "PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize("share", [0.3, 0.6, 0.9])
def test_file_cut_short(tmp_path, kind, share):
    content = encoded(noise(64, 64, 3), kind)
    (tmp_path / "a").write_bytes(content[: int(share * len(content))])
    assert "the image cannot be decoded (" in reason(tmp_path / "a")


def test_checksum(tmp_path):
    content = bytearray(encoded(noise(64, 64, 3), "PNG"))
    content[len(content) // 2] ^= 1
    (tmp_path / "a.png").write_bytes(content)
    assert "cannot be decoded" in reason(tmp_path / "a.png")


def test_decompression_bomb(tmp_path, monkeypatch):
    """The header says four billion pixels, in a file of some bytes: it is refused before any pixel is decoded."""
    path = write_png(tmp_path / "a.png", [0], 8, 0, size=(65_000, 65_000))
    assert path.stat().st_size < 100
    loaded = []
    monkeypatch.setattr(Image.Image, "load", lambda image: loaded.append(image))
    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", lambda image: loaded.append(image))
    assert reason(path).startswith("the image is too large (")
    assert loaded == []


@pytest.mark.parametrize("pixels", [np.zeros([4, 4], np.float32), np.full([4, 4], -1, np.int32)])
def test_pixels_of_unknown_range(tmp_path, pixels):
    (tmp_path / "a.tif").write_bytes(encoded(pixels, "TIFF"))
    mode = "F" if pixels.dtype == np.float32 else "I"
    assert reason(tmp_path / "a.tif") == f"the image has {mode} pixels, whose range is not known"


@pytest.mark.parametrize("error", [RuntimeError, struct.error, IndexError, MemoryError, EOFError, SyntaxError])
def test_whatever_a_decoder_raises(tmp_path, monkeypatch, error):
    (tmp_path / "a.png").write_bytes(encoded(noise(4, 4, 3), "PNG"))

    def broken(image, in_place):
        raise error("one line\nand another")

    monkeypatch.setattr(ImageOps, "exif_transpose", broken)
    assert reason(tmp_path / "a.png") == "the image cannot be decoded (one line and another)"


def test_a_decoder_that_says_nothing(tmp_path, monkeypatch):
    (tmp_path / "a.png").write_bytes(encoded(noise(4, 4, 3), "PNG"))

    def broken(image, in_place):
        raise EOFError

    monkeypatch.setattr(ImageOps, "exif_transpose", broken)
    assert reason(tmp_path / "a.png") == "the image cannot be decoded (EOFError)"


@pytest.mark.filterwarnings(PILLOWS_WARNINGS)
@pytest.mark.parametrize("kind", ["BMP", "GIF", "JPEG", "PNG", "WEBP"])
def test_damaged_files_are_images_or_image_errors(tmp_path, kind):
    """Bytes are changed at random, mostly in the headers. No other exception and no other kind of array may result."""
    rng = np.random.default_rng(0)
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    options = {"exif": exif} if kind in ("JPEG", "PNG", "WEBP") else {}
    content = np.frombuffer(encoded(noise(9, 14, 3), kind, **options), np.uint8)
    outcomes = {"image": 0, "error": 0}
    path = tmp_path / "a"
    for _ in range(200):
        damaged = content.copy()
        places = rng.integers(0, min(len(content), 200), rng.integers(1, 6))
        damaged[places] = rng.integers(0, 256, len(places))
        path.write_bytes(damaged.tobytes())
        try:
            picture = decode(path)
        except ImageError:
            outcomes["error"] += 1
        else:
            outcomes["image"] += 1
            assert picture.dtype == np.uint8
            assert picture.ndim == 3
            assert picture.shape[-1] == 3
    assert outcomes["error"] > 0
    assert sum(outcomes.values()) == 200


# Listing. It does not matter here whether a file holds an image.


@pytest.fixture
def folder(tmp_path):
    """Returns a tree of files, some of which have an image's suffix."""
    for name in ("b.png", "a.JPG", "notes.txt", "z/c.jpeg", "z/deep/d.TIFF", "a/e.webp", "a/README", "m.png/f.gif"):
        path = tmp_path / "pictures" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
    return tmp_path / "pictures"


def under(folder, *names):
    return [str(folder / name) for name in names]


def test_folder_is_searched_and_sorted(folder):
    expected = under(folder, "a.JPG", "a/e.webp", "b.png", "m.png/f.gif", "z/c.jpeg", "z/deep/d.TIFF")
    assert names_of([folder]) == sorted(expected)
    assert names_of([str(folder)]) == sorted(expected)
    assert names_of([f"{folder}/"]) == sorted(expected)


def test_the_current_folder(folder, monkeypatch):
    monkeypatch.chdir(folder / "z")
    assert names_of(["."]) == names_of([""]) == ["c.jpeg", "deep/d.TIFF"]


@pytest.mark.parametrize("suffix", sorted(IMAGE_SUFFIXES))
def test_suffixes_in_both_cases(tmp_path, suffix):
    names = [f"a{suffix}", f"b{suffix.upper()}", f"c{suffix.capitalize()}"]
    for name in (*names, f"d{suffix}x", suffix[1:]):
        (tmp_path / name).write_bytes(b"")
    assert names_of([tmp_path]) == under(tmp_path, *names)


def test_order_and_repetitions_are_kept(folder):
    given = under(folder, "z/c.jpeg", "notes.txt", "b.png", "z/c.jpeg")
    assert names_of(given) == given
    both = names_of([folder / "z", folder / "b.png", folder / "a"])
    assert both == under(folder, "z/c.jpeg", "z/deep/d.TIFF", "b.png", "a/e.webp")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_list(folder, tmp_path, encoding):
    """Blank lines and spaces around a path do not count, and missing files are reported when they are read."""
    text = f"{folder}/z/c.jpeg\n\n  {folder}/größe.png \r\nmissing.png\n{folder}/a.JPG"
    (tmp_path / "list.txt").write_bytes(text.encode(encoding))
    listed = [*under(folder, "z/c.jpeg", "größe.png"), "missing.png", *under(folder, "a.JPG")]
    assert names_of([f"@{tmp_path}/list.txt"]) == listed
    mixed = names_of([folder / "b.png", f"@{tmp_path}/list.txt", folder / "a"])
    assert mixed == [*under(folder, "b.png"), *listed, *under(folder, "a/e.webp")]


@pytest.mark.parametrize(
    ("content", "match"),
    [(b"\xff\xfea\0", "cannot be read.*decode"), (None, "cannot be read.*No such file"), (b"\n \n", "No images found")],
)
def test_list_that_is_none(tmp_path, content, match):
    path = tmp_path / "list.txt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match=match) as error:
        names_of([f"@{path}"])
    assert str(path) in str(error.value)


def test_missing_input(folder):
    with pytest.raises(InputError, match=r"no file or folder .*nowhere\.png"):
        names_of([folder / "b.png", folder / "nowhere.png"])


def test_folder_without_images(tmp_path):
    (tmp_path / "notes.txt").write_text("")
    with pytest.raises(
        InputError, match=r"No images found in .* \(skipped files that are not images: 1\): give images"
    ):
        names_of([tmp_path])


def test_no_inputs():
    with pytest.raises(InputError, match="No images"):
        names_of([])
