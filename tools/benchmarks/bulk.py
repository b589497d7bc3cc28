"""Measures 200,000 tiny images: the cost of shards, the memory, how fast a run continues; and Ray against processes."""

import functools
import json
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

from tools.benchmarks.command import Cost, run_slimnets
from tools.benchmarks.figures import Figure, in_turns

__all__ = ["bulk", "distribution"]

_IMAGES, _FEW = 200_000, 20_000

# The smallest network, because the network is not measured.
_COMMAND = ["--checkpoint", "resnet_v2_tiny_digits", "--end-points", "global_pool", "--image-size", "32"]

# Number of pairs of whole runs, which take minutes each.
_ROUNDS = 3

_WORKERS, _SHARDS = 2, 40


def bulk(rounds: int) -> list[Figure]:
    """Measures a run in shards.

    Returns:
      Images/s against a run without shards, including start-up; peak memory against a run on fewer images; and the
      seconds beyond the imports if all shards are already done.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        many, few = _save_tiny(folder / "many", _IMAGES), _save_tiny(folder / "few", _FEW)
        measured = {
            name: lambda options=options: _IMAGES / _run(many, folder / "out", "--overwrite", *options).seconds
            for name, options in {"at once": ["--shards", "1"], "in shards": []}.items()
        }
        rates = in_turns(measured, min(rounds, _ROUNDS), warm_up=0)
        peaks = [_run(images, folder / f"out-{i}").peak for i, images in enumerate((many, few))]
        seconds = _run(many, folder / "out-0").seconds
    return [
        Figure("bulk: in shards / at once", "images/s", rates["in shards"], rates["at once"], "at least 0.97"),
        Figure(f"bulk: memory of {_IMAGES:,} / {_FEW:,} images", "MB", [peaks[0]], [peaks[1]], "at most 1.05"),
        Figure("bulk: beyond the imports, all done / 5 s", "s", [seconds], [5.0], "at most 1"),
    ]


def distribution(rounds: int) -> list[Figure]:
    """Measures images/s of Ray's actors against as many processes, each with one thread, after all have started."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        images = _save_tiny(folder / "images", _FEW)

        def rate(distributor: str) -> float:
            options = ["--workers", str(_WORKERS), "--threads", "1", "--shards", str(_SHARDS)]
            _run(images, folder / "out", "--overwrite", "--distributor", distributor, *options)
            return _rate_of_shards(folder / "out")

        rates = in_turns({one: functools.partial(rate, one) for one in ("ray", "local")}, min(rounds, _ROUNDS), 0)
    return [Figure("distribution: ray / processes", "images/s", rates["ray"], rates["local"], "at least 0.85")]


def _rate_of_shards(output: Path) -> float:
    """Returns images/s from the time when every worker has made a shard until the last shard."""
    files = sorted(output.glob("shard-*/shard.json"), key=lambda file: file.stat().st_mtime)
    start, end = (files[i].stat().st_mtime for i in (_WORKERS - 1, -1))
    images = [json.loads(file.read_text(encoding="utf-8"))["counts"]["images"] for file in files[_WORKERS:]]
    return sum(images) / (end - start)


def _save_tiny(folder: Path, count: int) -> Path:
    """Writes PNG files of 8x8 grey pixels, a thousand in each folder; returns the parent folder."""
    generator = np.random.default_rng(0)
    for i, pixels in enumerate(generator.integers(0, 256, (count, 8, 8), np.uint8)):
        parent = folder / f"{i // 1000:03d}"
        parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(parent / f"{i % 1000:03d}.png")
    return folder


def _run(images: Path, output: Path, *options: str) -> Cost:
    return run_slimnets("features", images, *_COMMAND, "--output", output, *options)
