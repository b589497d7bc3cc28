"""What stands in the JSON files of a folder with features: what makes them what they are, and what is done.

``run.json`` is the record of a folder that is complete; ``manifest.json`` that of one in which shards are made, each
of which has its ``shard.json``.
"""

import importlib.metadata
import json
import platform
import re
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from checkpoints.folders import REPLACED, write_once, write_whole
from tools.feature_extractor import FeatureExtractor
from tools.feature_files import Layout
from tools.inputs import InputError, Inputs, digest

__all__ = [
    "MANIFEST",
    "RUN",
    "Counts",
    "describe_run",
    "differences",
    "is_complete",
    "is_done",
    "is_ours",
    "is_temporary",
    "layout_of",
    "read_counts",
    "read_record",
    "read_reused",
    "replace_manifest",
    "shard_bounds",
    "shard_folders",
    "shard_generations",
    "shards_done",
    "shards_for",
    "write_manifest",
    "write_run",
    "write_shard",
]

RUN, MANIFEST = "run.json", "manifest.json"

_SHARD = "shard.json"

# Images of a shard, unless it is said how many shards there are to be: a run that is stopped loses at most the work on
# so many, and ten million are a thousand folders.
_IMAGES = 8192

# What every record has.
_NEEDED = {"inputs", "checkpoint", "end_points", "batch_size", "format", "dtype", "shards"}

_OURS = re.compile(
    r"run\.json|manifest\.json|index\.csv|images\.npz|.*\.npy|features\.(parquet|tfrecord)"
    r"|shard-\d{5}-(of-\d{5}|added)"
)

# What is in a record and makes no difference to the features.
_OTHER = {"counts", "seconds", "resumed_from", "warnings", "images_per_second", "reused", "update"}


class Counts(NamedTuple):
    """Images done and failed, these also by their reasons, and the seconds that they took."""

    done: int
    failed: int
    reasons: dict[str, int]
    seconds: float

    @property
    def images(self) -> int:
        return self.done + self.failed


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


def is_complete(output: Path) -> bool:
    """Whether all shards of the job in a folder are done, and it was said."""
    return (output / RUN).exists()


def is_done(folder: Path, generation: int = 0) -> bool:
    """Whether a folder holds a shard that is complete, and has been made again as often as updates asked for."""
    if generation == 0:
        return (folder / _SHARD).exists() or (folder / RUN).exists()
    return (folder / _SHARD).exists() and _read_shard(folder).get("generation", 0) == generation


def shards_done(folders: Sequence[Path], record: dict[str, Any]) -> list[bool]:
    """Whether each shard of a job is done."""
    return [is_done(folder, number) for folder, number in zip(folders, shard_generations(record), strict=True)]


def shard_generations(record: dict[str, Any]) -> list[int]:
    """How often each shard of a job was to be made again, by updates."""
    return record["update"]["generations"] if "update" in record else [0] * record["shards"]


def _read_shard(folder: Path) -> dict[str, Any]:
    file = folder / _SHARD if (folder / _SHARD).exists() else folder / RUN
    return json.loads(file.read_text(encoding="utf-8"))


def read_reused(folder: Path) -> int:
    """How many rows of a shard that is done were taken over from what it was before."""
    return _read_shard(folder).get("reused", 0)


def read_counts(folders: Iterable[Path]) -> Counts:
    """The sum of the counts of shards that are done."""
    done, failed, reasons, seconds = 0, 0, Counter(), 0.0
    for folder in folders:
        record = _read_shard(folder)
        done, failed = done + record["counts"]["done"], failed + record["counts"]["failed"]
        reasons.update(record["counts"]["reasons"])
        seconds += record["seconds"]
    return Counts(done, failed, dict(reasons.most_common()), seconds)


def write_shard(folder: Path, counts: Counts, generation: int, reused: int) -> None:
    """Writes what says that a shard's folder, one of several, is complete."""
    again = {"generation": generation, "reused": reused} if generation else {}
    write_whole(folder / _SHARD, _json(_counts_json(counts) | again))


def write_manifest(folder: Path, record: dict[str, Any]) -> None:
    """Writes what several shards are of, unless it is there."""
    write_once(folder / MANIFEST, _json(record))


def replace_manifest(folder: Path, record: dict[str, Any]) -> None:
    """Writes what several shards are of after an update; from now on the folder is not complete."""
    (folder / RUN).unlink(missing_ok=True)
    write_whole(folder / MANIFEST, _json(record))


def write_run(folder: Path, record: dict[str, Any], counts: Counts, resumed_from: int, reused: int = 0) -> None:
    """Writes ``run.json``, which says that all is done."""
    rate = {"images_per_second": counts.images / counts.seconds, "resumed_from": resumed_from}
    again = {"reused": reused} if reused else {}
    write_whole(folder / RUN, _json({**record, **_counts_json(counts), **rate, **again}))


def read_record(folder: Path) -> dict[str, Any] | None:
    """What makes a folder's features what they are; None if it holds none."""
    for name in (RUN, MANIFEST):
        try:
            record = json.loads((folder / name).read_text(encoding="utf-8"))
        except (FileNotFoundError, NotADirectoryError):
            continue
        except ValueError as error:
            raise InputError(
                f"{folder / name} cannot be read ({error}): name another folder, or --overwrite."
            ) from None
        # Others have files of these names, too.
        if isinstance(record, dict) and record.keys() >= _NEEDED:
            return record
    return None


def is_ours(name: str) -> bool:
    """Whether a file or folder of that name is one that features have."""
    return bool(_OURS.fullmatch(name))


def is_temporary(path: Path) -> bool:
    """Whether a file or folder is one that a process is still at, or was killed at."""
    return path.name.startswith(".") and path.suffix in (".incomplete", ".lock", REPLACED)


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


def _json(record: dict[str, Any]) -> str:
    return json.dumps(record, indent=2) + "\n"


def _counts_json(counts: Counts) -> dict[str, Any]:
    numbers = {name: getattr(counts, name) for name in ("images", "done", "failed", "reasons")}
    return {"counts": numbers, "seconds": counts.seconds}
