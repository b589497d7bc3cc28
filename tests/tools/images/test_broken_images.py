"""Tests a thousand images, a hundred of them broken in twenty ways, with error messages that were written by hand."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from tools.cli import main
from tools.features import load

GOOD, BROKEN = 900, 100

UNKNOWN, BAD = "the file is not an image of a known format", "the image cannot be decoded"


def encoded(form, mode="RGB", size=(64, 48)):
    stream = io.BytesIO()
    pixels = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), np.uint8)
    Image.fromarray(pixels).convert(mode).save(stream, form)
    return stream.getvalue()


def png_chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def bomb(width, height):
    """Returns a PNG of one bit a pixel, all zero: 112 MB of rows, and 900 million pixels, in a tenth of a megabyte."""
    packer = zlib.compressobj(9)
    rows = b"".join(packer.compress(bytes(1 + width // 8)) for _ in range(height)) + packer.flush()
    header = png_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + png_chunk(b"IDAT", rows) + png_chunk(b"IEND", b"")


def changed(content, place, byte):
    return content[:place] + bytes([byte]) + content[place + 1 :]


def ways():
    """Maps each kind of damage to the image's bytes and the expected message."""
    jpeg, png, gif, bmp, tiff, webp = map(encoded, ("JPEG", "PNG", "GIF", "BMP", "TIFF", "WEBP"))
    return {
        "empty": (b"", "the file is empty"),
        "text": (b"not an image\n", UNKNOWN),
        "html": (b"<!doctype html><html><body>404 Not Found</body></html>", UNKNOWN),
        "zeros": (bytes(5000), UNKNOWN),
        "noise": (np.random.default_rng(1).bytes(5000), UNKNOWN),
        "pdf": (b"%PDF-1.7\n" + bytes(100), UNKNOWN),
        "zip": (b"PK\x03\x04" + bytes(100), UNKNOWN),
        "svg": (b'<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"/>', UNKNOWN),
        "jpeg-header": (jpeg[:20], (UNKNOWN, BAD)),
        "jpeg-cut": (jpeg[: len(jpeg) // 3], BAD),
        "jpeg-end": (jpeg[:-40], BAD),
        "png-cut": (png[: len(png) // 2], BAD),
        "png-checksum": (changed(png, png.index(b"IDAT") + 500, png[png.index(b"IDAT") + 500] ^ 255), BAD),
        "png-signature": (changed(png, 1, 0), UNKNOWN),
        "png-no-pixels": (png[:16] + bytes(4) + png[20:], (UNKNOWN, BAD)),
        "gif-cut": (gif[: len(gif) // 2], BAD),
        "bmp-cut": (bmp[: len(bmp) // 2], BAD),
        "tiff-cut": (tiff[: len(tiff) // 2], (UNKNOWN, BAD)),
        "webp-cut": (webp[: len(webp) // 2], (UNKNOWN, BAD)),
        "bomb": (bomb(30_000, 30_000), "the image is too large"),
    }


@pytest.mark.filterwarnings("ignore::Warning:PIL.*")
def test_a_thousand_images(tmp_path, tiny_checkpoint, capfd):
    """900 rows are bit-identical to those of a run without the broken images; 100 have the right message."""
    generator = np.random.default_rng(0)
    good, mixed = tmp_path / "good", tmp_path / "mixed"
    good.mkdir()
    mixed.mkdir()
    broken = set(generator.choice(GOOD + BROKEN, BROKEN, replace=False).tolist())
    kinds = list(ways().items())
    assert len(kinds) == 20
    expected = {}
    for i in range(GOOD + BROKEN):
        path = good / f"{i:04d}.png"
        Image.fromarray(generator.integers(0, 256, (40 + i % 5, 40, 3), np.uint8)).save(path)
        if i in broken:
            way, (content, sentence) = kinds[len(expected) % 20]
            expected[i] = (way, sentence if isinstance(sentence, tuple) else (sentence,))
            (mixed / path.name).write_bytes(content)
        else:
            (mixed / path.name).hardlink_to(path)
    arguments = ["--checkpoint", str(tiny_checkpoint), "--end-points", "global_pool"]
    assert main(["features", str(good), *arguments, "--output", str(tmp_path / "a")]) == 0
    assert main(["features", str(mixed), *arguments, "--output", str(tmp_path / "b"), "--shards", "7"]) == 1
    stdout, stderr = capfd.readouterr()
    assert f"900 images done, 100 failed: {tmp_path / 'b'}\n" in stdout
    assert "Traceback" not in stderr
    loaded = load(tmp_path / "b")
    index = list(loaded.index)
    assert {row.row for row in index if row.status == "failed"} == broken
    for i, (way, sentences) in expected.items():
        assert index[i].error.startswith(sentences), (way, index[i].error)
    others = [i for i in range(GOOD + BROKEN) if i not in broken]
    features = np.asarray(loaded.arrays["global_pool"])
    assert features[others].tobytes() == load(tmp_path / "a").arrays["global_pool"][others].tobytes()
    assert np.isnan(features[sorted(broken)]).all()
    assert sum(loaded.run["counts"]["reasons"].values()) == 100
    assert "failed, 5: the image is too large\n" in stderr
