"""The settings that determine features: the record in ``run.json`` and ``manifest.json``, and how records differ."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from tools.errors import InputError
from tools.features.computing import TENSORFLOW, Extractor
from tools.features.formats import Layout
from tools.images import Inputs
from tools.images.inputs import digest
from tools.runtime import records

__all__ = [
    "Storage",
    "check_end_points",
    "check_settings",
    "describe_run",
    "differences",
    "engine_of",
    "layout_of",
    "shard_bounds",
    "shard_generations",
    "shards_for",
]

# Images of a shard, if the number of shards is not given. A stopped run loses at most the work on one shard, and ten
# million images take about a thousand folders.
_IMAGES = 8192

# Entries of a record that do not determine the features.
_OTHER = {"counts", "seconds", "resumed_from", "warnings", "images_per_second", "reused", "update"}


class Storage(NamedTuple):
    """The form in which features are stored.

    format: 'npy', 'parquet' or 'tfrecord'.
    dtype: 'float32' or 'float16'.
    shards: number of folders that the images are split into; None if the job decides.
    """

    format: str = "npy"
    dtype: str = "float32"
    shards: int | None = None


def describe_run(extractor: Extractor, inputs: Inputs, storage: Storage) -> dict[str, Any]:
    """Returns the record of a job: all settings that determine its features, as values of JSON."""
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
        # Through JSON, so that tuples equal the lists of a record that was read back.
        "options": json.loads(json.dumps(extractor.options)),
        "end_points": {
            point.alias: {"name": point.name, "shape": list(extractor.shapes[name])}
            for name, point in extractor.end_points.items()
        },
        "preprocessing": extractor.preprocessing,
        "image_size": extractor.image_size,
        "pool": extractor.pool,
        "precision": extractor.precision,
        **_engine(extractor),
        "batch_size": extractor.batch_size,
        **storage._asdict(),
        "warnings": list(extractor.warnings),
        "versions": records.versions_of("numpy", "pillow", "slimnets", "tf-slim"),
    }


def engine_of(record: dict[str, Any]) -> tuple[str, str | None]:
    """Returns the engine of a record and the key of its model; earlier versions had no other than TensorFlow."""
    return record.get("engine", TENSORFLOW), record.get("engine_model", {}).get("key")


def _engine(extractor: Extractor) -> dict[str, Any]:
    """Returns the engine that computes the features, and for another than TensorFlow its model."""
    model = extractor.engine_model
    if model is None:
        return {"engine": extractor.engine}
    return {
        "engine": extractor.engine,
        "engine_model": {"version": model.version, "key": model.key, "agreements": model.agreements},
    }


def shards_for(num_images: int, batch_size: int, at_least: int = 1) -> int:
    """Returns the default number of shards: at least ``at_least``, but not more than there are batches."""
    return min(max(at_least, -(-num_images // _IMAGES)), -(-num_images // batch_size))


def shard_bounds(record: dict[str, Any]) -> list[int]:
    """Returns the first row of each shard, followed by the number of rows.

    Shards consist of whole batches and are as equal as possible. After an update, the bounds are those in the record.

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


def shard_generations(record: dict[str, Any]) -> list[int]:
    """Returns for each shard how many times updates have asked to make it again."""
    return record["update"]["generations"] if "update" in record else [0] * record["shards"]


def layout_of(record: dict[str, Any]) -> Layout:
    """Returns the shapes and the dtype of a row's features."""
    shapes = {alias: tuple(point["shape"]) for alias, point in record["end_points"].items()}
    return Layout(shapes, record["dtype"])


def check_end_points(extractor: Extractor) -> None:
    """Raises InputError for end points that would be stored under the same name."""
    stored: dict[str, str] = {}
    for name, point in extractor.end_points.items():
        other = stored.setdefault(point.alias.replace("/", "."), name)
        if other != name:
            raise InputError(f"The end points {other} and {name} are the same: name it once.")


def check_settings(
    output: Path, there: dict[str, Any], record: dict[str, Any], *, besides_inputs: bool = False
) -> None:
    """Raises InputError if a folder holds features of other inputs or settings.

    Args:
      output: the folder.
      there: its record.
      record: the record of the job to make.
      besides_inputs: do not compare the inputs.
    """
    if others := differences(there, record, besides_inputs=besides_inputs):
        images = [name for name in others if "images" in name] and not besides_inputs
        update = "; update=True takes in new, changed and removed images" if images else ""
        raise InputError(
            f"{output} holds features of another run: {'; '.join(others)}. Give the same settings, another folder, "
            f"or overwrite=True{update}."
        )


def differences(one: dict[str, Any], other: dict[str, Any], *, besides_inputs: bool = False) -> list[str]:
    """Returns the settings in which two records differ, such as ``batch_size is 8 and was 32``.

    Args:
      one, other: the older and the newer record.
      besides_inputs: do not compare the inputs.
    """
    if besides_inputs:
        one = {**one, "inputs": other["inputs"]}
    return records.differences(dict(_flat(one)), dict(_flat(other)))


def _flat(record: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    for name, value in {"engine": engine_of(record)[0], **record}.items():
        if name == "engine_model":
            yield "the engine's version", value["version"]
            yield "the engine's model", value["key"]
        elif name == "checkpoint":
            # The path of the file does not matter.
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
