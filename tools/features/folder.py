"""A feature folder on disk: its JSON files, its shards, and the locks of processes that work on them.

A job with a single shard is one folder, which appears once it is complete. A job with several shards is a folder with
a ``manifest.json``, and in it a folder for each shard, which appears with a ``shard.json`` once it is complete.
``run.json`` is written when all shards are done.
"""

import glob
import json
import re
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from checkpoints.files.atomic import REPLACED, put_back, write_once, write_whole
from tools.errors import InputError
from tools.features.record import shard_bounds, shard_generations
from tools.runtime.locks import lock

__all__ = [
    "MANIFEST",
    "RUN",
    "Counts",
    "check_output",
    "claimed",
    "empty",
    "is_complete",
    "is_done",
    "put_back_interrupted",
    "read_counts",
    "read_order",
    "read_record",
    "read_reused",
    "readable",
    "remove_leftovers",
    "replace_manifest",
    "shard_folders",
    "shards_done",
    "write_manifest",
    "write_run",
    "write_shard",
    "writing",
]

RUN, MANIFEST = "run.json", "manifest.json"

_SHARD = "shard.json"

# Entries of every record. Other programs have files of these names too.
_NEEDED = {"inputs", "checkpoint", "end_points", "batch_size", "format", "dtype", "shards"}

_OURS = re.compile(
    r"run\.json|manifest\.json|index\.csv|images\.npz|.*\.npy|features\.(parquet|tfrecord)"
    r"|shard-\d{5}-(of-\d{5}|added)|search-.*\.faiss(\.json)?"
)


class Counts(NamedTuple):
    """The results of a shard or of several.

    done, failed: number of images.
    reasons: number of failed images by reason.
    seconds: duration of the work.
    """

    done: int
    failed: int
    reasons: dict[str, int]
    seconds: float

    @property
    def images(self) -> int:
        return self.done + self.failed


# Shards.


def shard_folders(output: Path, record: dict[str, Any]) -> list[Path]:
    """Returns the folder of each shard of a job. A single shard is the output folder itself."""
    shards = record["shards"]
    if shards == 1:
        return [output]
    added = len(shard_bounds(record)) - 1 - shards
    return [
        *(output / f"shard-{shard:05d}-of-{shards:05d}" for shard in range(shards)),
        *(output / f"shard-{shard:05d}-added" for shard in range(shards, shards + added)),
    ]


def is_complete(output: Path) -> bool:
    """Returns whether ``run.json`` says that all shards of the job are done."""
    return (output / RUN).exists()


def is_done(folder: Path, generation: int = 0) -> bool:
    """Returns whether a folder holds a complete shard, made again as many times as updates asked for."""
    if generation == 0:
        return (folder / _SHARD).exists() or (folder / RUN).exists()
    return (folder / _SHARD).exists() and _read_shard(folder).get("generation", 0) == generation


def shards_done(folders: Sequence[Path], record: dict[str, Any]) -> list[bool]:
    """Returns for each shard of a job whether it is done."""
    return [is_done(folder, number) for folder, number in zip(folders, shard_generations(record), strict=True)]


def _read_shard(folder: Path) -> dict[str, Any]:
    file = folder / _SHARD if (folder / _SHARD).exists() else folder / RUN
    return json.loads(file.read_text(encoding="utf-8"))


def read_reused(folder: Path) -> int:
    """Returns how many rows of a finished shard were kept from before an update."""
    return _read_shard(folder).get("reused", 0)


def read_counts(folders: Iterable[Path]) -> Counts:
    """Returns the sum of the counts of finished shards."""
    done, failed, reasons, seconds = 0, 0, Counter(), 0.0
    for folder in folders:
        record = _read_shard(folder)
        done, failed = done + record["counts"]["done"], failed + record["counts"]["failed"]
        reasons.update(record["counts"]["reasons"])
        seconds += record["seconds"]
    return Counts(done, failed, dict(reasons.most_common()), seconds)


def write_shard(folder: Path, counts: Counts, generation: int, reused: int) -> None:
    """Writes ``shard.json``, which marks the folder of one of several shards as complete."""
    again = {"generation": generation, "reused": reused} if generation else {}
    write_whole(folder / _SHARD, _json(_counts_json(counts) | again))


# The job.


def write_manifest(folder: Path, record: dict[str, Any]) -> None:
    """Writes the record of a job with several shards, unless the folder has one."""
    write_once(folder / MANIFEST, _json(record))


def replace_manifest(folder: Path, record: dict[str, Any], order: np.ndarray) -> None:
    """Writes the record of an updated job, which is not complete any more.

    Args:
      folder: of the job.
      record: the new record.
      order: the number of each row's image in the inputs.
    """
    name = record["update"]["order"]
    np.save(folder / name, order)
    (folder / RUN).unlink(missing_ok=True)
    write_whole(folder / MANIFEST, _json(record))
    for other in folder.glob("order-*.npy"):
        if other.name != name:
            other.unlink(missing_ok=True)


def read_order(folder: Path, record: dict[str, Any]) -> np.ndarray:
    """Returns the number of each row's image in the inputs of an updated job."""
    return np.load(folder / record["update"]["order"], mmap_mode="r")


def write_run(folder: Path, record: dict[str, Any], counts: Counts, resumed_from: int, reused: int = 0) -> None:
    """Writes ``run.json``, which marks the job as complete."""
    rate = {"images_per_second": counts.images / counts.seconds, "resumed_from": resumed_from}
    again = {"reused": reused} if reused else {}
    write_whole(folder / RUN, _json({**record, **_counts_json(counts), **rate, **again}))


def read_record(folder: Path) -> dict[str, Any] | None:
    """Returns the record of the features in a folder; None if it has no features."""
    for name in (RUN, MANIFEST):
        try:
            record = json.loads((folder / name).read_text(encoding="utf-8"))
        except (FileNotFoundError, NotADirectoryError):
            continue
        except ValueError as error:
            raise InputError(
                f"{folder / name} cannot be read ({error}): name another folder, or overwrite=True."
            ) from None
        if isinstance(record, dict) and record.keys() >= _NEEDED:
            return record
    return None


def _json(record: dict[str, Any]) -> str:
    return json.dumps(record, indent=2) + "\n"


def _counts_json(counts: Counts) -> dict[str, Any]:
    numbers = {name: getattr(counts, name) for name in ("images", "done", "failed", "reasons")}
    return {"counts": numbers, "seconds": counts.seconds}


# Locks, and what killed processes leave.


@contextmanager
def claimed(target: Path) -> Iterator[bool]:
    """Locks a folder to be made and removes what killed processes left of it. Yields whether the lock was obtained.

    Raises:
      InputError: if the lock file cannot be written.
    """
    place = target.resolve()
    with ExitStack() as stack:
        with writing(target):
            place.parent.mkdir(parents=True, exist_ok=True)
            ours = stack.enter_context(lock(place.parent / f".{place.name}.lock"))
            if ours:
                put_back(place)
                # These processes were killed: a living one would hold the lock.
                for left in (*place.parent.glob(f".{glob.escape(place.name)}.????????.incomplete"), *place.glob(".*")):
                    if _is_temporary(left):
                        _remove(left)
        yield ours


def put_back_interrupted(output: Path) -> None:
    """Restores a folder if the process that was replacing it was killed."""
    place = output.resolve()
    if not place.exists() and any(place.parent.glob(f".{glob.escape(place.name)}.????????{REPLACED}")):
        with claimed(output):  # restores it, unless another process is working on it
            pass


def remove_leftovers(output: Path) -> None:
    """Removes what stopped or killed processes left of a job, unless another process is working on it."""
    # Of several shards each is claimed alone: a claim of their folder would take away what other processes make in it.
    targets = [output]
    if (output / MANIFEST).exists():
        left = filter(_is_temporary, output.glob(".shard-*"))
        targets = [output / name for name in {path.name.removeprefix(".").partition(".")[0] for path in left}]
    for target in targets:
        with claimed(target):
            pass


def _is_temporary(path: Path) -> bool:
    return path.name.startswith(".") and path.suffix in (".incomplete", ".lock", REPLACED)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


# The output.


def empty(output: Path) -> None:
    """Deletes the features in a folder, beginning with the files that mark it as complete."""
    for name in (RUN, MANIFEST):
        (output / name).unlink(missing_ok=True)
    if output.exists():
        for path in output.iterdir():
            if _OURS.fullmatch(path.name) or _is_temporary(path):
                _remove(path)


def check_output(output: Path, *, overwrite: bool = False) -> None:
    """Raises InputError if features cannot be written to ``output``: it is a file, or holds something else."""
    if output.resolve() == Path.cwd():
        raise InputError("The output folder is the current one, which cannot be replaced: name another.")
    if output.exists() and not output.is_dir():
        raise InputError(f"The output {output} is a file: name a folder.")
    there = sorted(path.name for path in output.iterdir() if not _is_temporary(path)) if output.is_dir() else []
    if overwrite:
        if others := [name for name in there if not _OURS.fullmatch(name)]:
            raise InputError(
                f"The output folder {output} holds {others[0]}, which is not a feature file: name another folder."
            )
    elif there and read_record(output) is None:
        raise InputError(f"The output folder {output} is not empty: name a new one, or empty it.")


@contextmanager
def readable(folder: Path) -> Iterator[None]:
    """Turns errors about missing or damaged files into an InputError that names the folder."""
    try:
        yield
    except (EOFError, OSError, ValueError) as error:
        said = " ".join(str(error).split())
        raise InputError(f"{folder} is damaged ({said}): remove it, and run the command that made it again.") from None


@contextmanager
def writing(output: Path) -> Iterator[None]:
    """Turns errors of the system into an InputError that names the folder."""
    try:
        yield
    except BrokenPipeError:  # of the terminal that shows the progress
        raise
    except OSError as error:
        raise InputError(
            f"{output} cannot be written ({error.strerror or error}): make room, or name another folder. Finished "
            "shards are kept; run the same command again for the rest."
        ) from None
