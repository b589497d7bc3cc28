"""What stands in the JSON files of a folder with features: what makes them what they are, and what is done.

``run.json`` is the record of a folder that is complete; ``manifest.json`` that of one in which shards are made, each
of which has its ``shard.json``.
"""

import importlib.metadata
import json
import platform
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tools.errors import InputError
from tools.features.extractor import FeatureExtractor
from tools.features.formats import Layout
from tools.images import Inputs
from tools.images.inputs import digest

__all__ = [
    "describe_run",
    "differences",
    "layout_of",
    "shard_bounds",
    "shard_folders",
    "shard_generations",
    "shards_for",
]


# Images of a shard, unless it is said how many shards there are to be: a run that is stopped loses at most the work on
# so many, and ten million are a thousand folders.
_IMAGES = 8192


# What is in a record and makes no difference to the features.
_OTHER = {"counts", "seconds", "resumed_from", "warnings", "images_per_second", "reused", "update"}


def describe_run(
    extractor: FeatureExtractor, inputs: Inputs, *, format: str, dtype: str, shards: int
) -> dict[str, Any]:
    """What makes features what they are, as JSON has it."""
    versions = {name: importlib.metadata.version(name) for name in ("numpy", "pillow", "slimnets", "tf-slim")}
    # Under which of its names TensorFlow was installed, pip knows; the module knows its version.
    versions |= {"python": platform.python_version(), "tensorflow": sys.modules["tensorflow"].__version__}
    return {
        "inputs": {
            "images": len(inputs),
            "sha256": digest(inputs),
            **({"skipped": dict(inputs.skipped)} if inputs.skipped else {}),
        },
        "checkpoint": {
            "path": str(extractor.reader.path.resolve()),
            "format": extractor.reader.format,
            "sha256": extractor.reader.sha256(),
            "scope": extractor.scope,
            "exclude": extractor.exclude,
            "ema": extractor.ema,
        },
        "net": extractor.net,
        "num_classes": extractor.num_classes,
        # As JSON gives it back: without tuples.
        "options": json.loads(json.dumps(extractor.options)),
        "end_points": {
            point.alias: {"name": point.name, "shape": list(extractor.shapes[name])}
            for name, point in extractor.end_points.items()
        },
        "preprocessing": extractor.preprocessing,
        "image_size": extractor.image_size,
        "pool": extractor.pool,
        "precision": extractor.precision,
        "batch_size": extractor.batch_size,
        "format": format,
        "dtype": dtype,
        "shards": shards,
        "warnings": list(extractor.warnings),
        "versions": versions,
    }


def shards_for(num_images: int, batch_size: int, at_least: int = 1) -> int:
    """How many shards images are cut into, if it is not said; ``at_least`` so many, where there are the batches."""
    return min(max(at_least, -(-num_images // _IMAGES)), -(-num_images // batch_size))


def shard_bounds(record: dict[str, Any]) -> list[int]:
    """The rows that shards begin with, and in the end the number of rows: whole batches, as equal as can be.

    After an update they are what that left of them.

    Raises:
      InputError: if there are more shards than batches.
    """
    if "update" in record:
        return record["update"]["bounds"]
    images, shards = record["inputs"]["images"], record["shards"]
    batch_size = min(record["batch_size"], images)
    batches = -(-images // batch_size)
    if not 1 <= shards <= batches:
        raise InputError(f"{shards} shards of {batches} batches of {batch_size} images cannot be: give 1 to {batches}.")
    return [min(shard * batches // shards * batch_size, images) for shard in range(shards + 1)]


def layout_of(record: dict[str, Any]) -> Layout:
    shapes = {alias: tuple(point["shape"]) for alias, point in record["end_points"].items()}
    return Layout(shapes, record["dtype"])


def shard_folders(output: Path, record: dict[str, Any]) -> list[Path]:
    """Where the shards of a job lie; a single one takes the whole folder."""
    shards = record["shards"]
    if shards == 1:
        return [output]
    added = len(shard_bounds(record)) - 1 - shards
    return [
        *(output / f"shard-{shard:05d}-of-{shards:05d}" for shard in range(shards)),
        *(output / f"shard-{shard:05d}-added" for shard in range(shards, shards + added)),
    ]


def shard_generations(record: dict[str, Any]) -> list[int]:
    """How often each shard of a job was to be made again, by updates."""
    return record["update"]["generations"] if "update" in record else [0] * record["shards"]


def differences(one: dict[str, Any], other: dict[str, Any], *, besides_inputs: bool = False) -> list[str]:
    """What makes features differ, and is another thing in two records: ``batch_size is 8 and was 32``.

    Args:
      one, other: the older and the newer one.
      besides_inputs: leave the inputs out.
    """
    if besides_inputs:
        one = {**one, "inputs": other["inputs"]}
    then, now = dict(_flat(one)), dict(_flat(other))
    return [
        f"{name} is {now.get(name, 'nothing')} and was {then.get(name, 'nothing')}"
        for name in {**then, **now}
        if then.get(name) != now.get(name)
    ]


def _flat(record: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    for name, value in record.items():
        if name == "checkpoint":
            # Where it lies makes no difference.
            yield "the checkpoint, by its SHA-256,", " ".join(value["sha256"].values())
            yield from ((key, value[key]) for key in ("scope", "exclude", "ema"))
        elif name == "versions":
            yield from ((key, value[key]) for key in ("tensorflow", "slimnets"))
        elif name == "inputs":
            yield "the number of images", value["images"]
            yield "the list of images, by its SHA-256,", value["sha256"]
        elif name == "end_points":
            yield name, ", ".join(value)
        elif name not in _OTHER:
            yield name, value
