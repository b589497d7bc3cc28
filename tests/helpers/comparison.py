"""Compares what two checkouts print and write: ``python -m tests.helpers.comparison BEFORE [AFTER]``.

BEFORE and AFTER are folders with a checkout each (AFTER: by default this one). Every command runs in both, on the same
checkpoint and images. Printed tables, figures and JSON must be equal to the byte; sentences that differ are shown, for
a reader to judge. Written files must be equal to the byte, except for times and versions.
"""

import contextlib
import difflib
import io
import json
import os
import re
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

__all__ = ["COMMANDS", "Difference", "compare_folders", "compare_outputs", "main"]

_FEATURES = "features images --checkpoint resnet_v2_50.ckpt --end-points global_pool,block1/unit_1 --pool mean"

# One command per line; {digits} is the checkpoint that ships with a checkout.
COMMANDS = f"""
nets
nets --json
nets resnet_v2_50
nets resnet_v2_50 --json
nets resnet_keras_18 --layers
nets resnet_keras_18 --layers --json
inspect resnet_v2_50.ckpt
inspect resnet_v2_50.ckpt --json
inspect resnet_v2_50.ckpt --variables
inspect {{digits}} --check
weights
weights --json
weights resnet_v2_50
{_FEATURES} --output npy
{_FEATURES} --output parquet --format parquet
{_FEATURES} --output tfrecord --format tfrecord
{_FEATURES} --output half --dtype float16
{_FEATURES} --output shards --shards 3 --batch-size 4
merge shards --output merged
convert resnet_v2_50.ckpt converted/resnet_v2_50.npz
convert resnet_v2_50.ckpt converted/resnet_v2_50.safetensors
convert resnet_v2_50.ckpt converted/v1.ckpt --format V1
convert resnet_v2_50.ckpt converted/model.keras
convert converted/model.keras converted/back.ckpt
convert resnet_basic_18.ckpt converted/resnet18.pth
convert converted/resnet18.pth converted/resnet18.ckpt
convert resnet_v2_50.ckpt converted/renamed.ckpt --to-scope model --num-classes 1000
classify images --checkpoint resnet_v2_50.ckpt --json
classify images --checkpoint resnet_v2_50.ckpt --top 2
demo
""".strip().splitlines()

# Fields of JSON that hold times or versions, and so may differ.
_VARYING = {"seconds", "images_per_second", "versions", "date_saved", "keras_version", "shared_object_id"}

# Notes of a conversion from a Keras file contain a date.
_OF_KERAS = re.compile(r"[0-9a-f]{64}")

# Durations, rates and the version in printed text.
_VARYING_TEXT = re.compile(r"\b[\d.]+ (s|ms|images/s)\b")


class Difference(NamedTuple):
    """A difference between two checkouts.

    what: the command or the file.
    shown: the lines that differ.
    is_sentence: whether only prose differs, which is allowed.
    """

    what: str
    shown: str
    is_sentence: bool


def compare_outputs(what: str, before: str, after: str) -> list[Difference]:
    """Compares what a command printed; lines with figures or columns must be equal to the byte."""
    with contextlib.suppress(ValueError):
        if _stable(json.loads(before)) == _stable(json.loads(after)):
            return []
    lines = [_VARYING_TEXT.sub("<time>", text).splitlines() for text in (before, after)]
    if lines[0] == lines[1]:
        return []
    shown = "\n".join(difflib.unified_diff(*lines, "before", "after", lineterm="", n=0))
    changed = [line for line in shown.splitlines()[2:] if line[:1] in "+-"]
    return [Difference(what, shown, not any(re.search(r"\d|\S {2,}\S|[\[\]{}]", line[1:]) for line in changed))]


def compare_folders(before: Path, after: Path) -> list[Difference]:
    """Compares all files of two folders to the byte, except for times and versions in JSON and in Keras' archives."""
    files = [{str(file.relative_to(top)) for file in top.rglob("*") if file.is_file()} for top in (before, after)]
    missing = [Difference(name, f"{name} is in one folder only", False) for name in sorted(files[0] ^ files[1])]
    return missing + [
        Difference(name, f"the contents of {name} differ", False)
        for name in sorted(files[0] & files[1])
        if _content(before / name) != _content(after / name)
    ]


def _content(file: Path) -> Any:
    if file.suffix == ".json":
        # Names instead of absolute paths, since the commands ran in different folders.
        text = re.sub(r'"/[^"]*/([^"/]+)"', r'"\1"', file.read_text(encoding="utf-8"))
        return _stable(json.loads(_OF_KERAS.sub("<sha256>", text) if ".keras" in text + file.name else text))
    if file.name == "images.npz":
        with np.load(file) as arrays:
            return {name: arrays[name].tobytes() for name in arrays if name != "version"}  # without the times of change
    if file.suffix == ".keras":
        with zipfile.ZipFile(file) as archive:
            return {name: _part_of_keras(name, archive.read(name)) for name in archive.namelist()}
    return file.read_bytes()


def _part_of_keras(name: str, content: bytes) -> Any:
    if name.endswith(".h5"):
        return _datasets(content)
    return _stable(json.loads(content)) if name.endswith(".json") else content


def _datasets(content: bytes) -> dict[str, bytes]:
    """Returns the arrays in an HDF5 file, which itself holds the times at which they were made."""
    import h5py

    found = {}
    with h5py.File(io.BytesIO(content)) as file:
        file.visititems(lambda name, item: found.update({name: item[()].tobytes()} if hasattr(item, "dtype") else {}))
    return found


def _stable(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _stable(item) for key, item in value.items() if key not in _VARYING}
    return list(map(_stable, value)) if isinstance(value, list) else value


def _make_material(folder: Path) -> None:
    """Writes checkpoints with random values, and photographs that ship inside scikit-image, some of them damaged."""
    import skimage.data
    from PIL import Image

    from tools.runtime.importing import import_tensorflow

    import_tensorflow()
    from tests.helpers.corpus import save_v2, weights

    (folder / "images" / "more").mkdir(parents=True)
    (folder / "converted").mkdir()
    for name in ("resnet_v2_50", "resnet_basic_18"):
        save_v2(folder / f"{name}.ckpt", weights(name))
    for i, name in enumerate(("astronaut", "coffee", "chelsea", "camera", "coins", "rocket")):
        pixels = getattr(skimage.data, name)()
        for part in range(3):
            place = folder / "images" / ("more" if part else "") / f"{name}_{part}.{'png' if i % 2 else 'jpg'}"
            Image.fromarray(np.ascontiguousarray(pixels[part * 40 :, part * 20 :])).save(place)
    (folder / "images" / "broken.jpg").write_bytes((folder / "images" / "astronaut_0.jpg").read_bytes()[:2000])
    (folder / "images" / "notes.txt").write_text("no image\n", encoding="utf-8")


def _run(command: str, checkout: Path, folder: Path) -> tuple[int, str]:
    # Under one name, since the demo records where its images are.
    place = folder.parents[1] / "checkout"
    place.unlink(missing_ok=True)
    place.symlink_to(checkout)
    arguments = command.format(digits=place / "checkpoints" / "resnet_v2_tiny_digits.ckpt").split()
    environment = {**os.environ, "PYTHONPATH": str(place), "TF_CPP_MIN_LOG_LEVEL": "3", "COLUMNS": "160"}
    done = subprocess.run(
        [sys.executable, "-m", "tools", *arguments],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    if "Traceback" in done.stderr:
        print(done.stderr, file=sys.stderr)
    return done.returncode, done.stdout


def main(arguments: Sequence[str]) -> int:
    """Runs every command in both checkouts; returns 1 if they differ in more than sentences, and 0 otherwise."""
    here = Path(__file__).resolve().parents[2]
    checkouts = [Path(name).resolve() for name in (*arguments, here)[:2]]
    differences = []
    with tempfile.TemporaryDirectory() as top:
        # Folders of the same name, because outputs and records contain it.
        folders = [Path(top, side, "files") for side in ("before", "after")]
        _make_material(folders[0])
        subprocess.run(["cp", "-a", folders[0].parent, folders[1].parent], check=True)
        for command in COMMANDS:
            (old, before), (new, after) = (
                _run(command, checkout, folder) for checkout, folder in zip(checkouts, folders, strict=True)
            )
            after = after.replace(str(folders[1]), str(folders[0]))
            found = compare_outputs(command, before, after)
            if old != new:
                found.append(Difference(command, f"exit status {old} before, {new} after", False))
            print(f"{'equal' if not found else 'DIFFERS'}, exit status {new}, {len(after):,} characters: {command}")
            differences += found
        found = compare_folders(*folders)
        count = sum(file.is_file() for file in folders[1].rglob("*"))
        print(f"{count} files: {'equal' if not found else 'DIFFER'}")
    differences += found
    for difference in differences:
        print(f"\n{'sentence' if difference.is_sentence else 'DIFFERENCE'}: {difference.what}\n{difference.shown}")
    return 0 if all(difference.is_sentence for difference in differences) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
