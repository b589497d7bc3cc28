"""A folder with features as it is on the disk: its JSON files, its shards, and who is working on them.

A job of one shard is a folder that appears once it is complete. A job of several is a folder with ``manifest.json``,
written once, and a folder for each shard, which appears once it is complete and has a ``shard.json``. ``run.json`` is
there when all shards are done.
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

from checkpoints.files.atomic import REPLACED, put_back, write_once, write_whole
from tools.errors import InputError
from tools.features.record import shard_generations
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
    "is_ours",
    "is_temporary",
    "put_back_interrupted",
    "read_counts",
    "read_record",
    "read_reused",
    "readable",
    "replace_manifest",
    "shards_done",
    "write_manifest",
    "write_run",
    "write_shard",
    "writing",
]

RUN, MANIFEST = "run.json", "manifest.json"


_SHARD = "shard.json"


_OURS = re.compile(
    r"run\.json|manifest\.json|index\.csv|images\.npz|.*\.npy|features\.(parquet|tfrecord)"
    r"|shard-\d{5}-(of-\d{5}|added)"
)


class Counts(NamedTuple):
    """Images done and failed, these also by their reasons, and the seconds that they took."""

    done: int
    failed: int
    reasons: dict[str, int]
    seconds: float

    @property
    def images(self) -> int:
        return self.done + self.failed


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
                f"{folder / name} cannot be read ({error}): name another folder, or overwrite=True."
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


# What every record has.
_NEEDED = {"inputs", "checkpoint", "end_points", "batch_size", "format", "dtype", "shards"}


def _json(record: dict[str, Any]) -> str:
    return json.dumps(record, indent=2) + "\n"


def _counts_json(counts: Counts) -> dict[str, Any]:
    numbers = {name: getattr(counts, name) for name in ("images", "done", "failed", "reasons")}
    return {"counts": numbers, "seconds": counts.seconds}


@contextmanager
def claimed(target: Path) -> Iterator[bool]:
    """Whether a folder is this process' to make, as long as the block lasts; takes away what others left at it.

    Raises:
      InputError: if there is no place to make it in.
    """
    place = target.resolve()
    with ExitStack() as stack:
        with writing(target):
            place.parent.mkdir(parents=True, exist_ok=True)
            ours = stack.enter_context(lock(place.parent / f".{place.name}.lock"))
            if ours:
                put_back(place)
                # Of processes that were killed: one that lives would hold the lock.
                for left in (*place.parent.glob(f".{glob.escape(place.name)}.????????.incomplete"), *place.glob(".*")):
                    if is_temporary(left):
                        _remove(left)
        yield ours


def empty(output: Path) -> None:
    """Takes features out of a folder; what says that they are there first."""
    for name in (RUN, MANIFEST):
        (output / name).unlink(missing_ok=True)
    if output.exists():
        for path in output.iterdir():
            if is_ours(path.name) or is_temporary(path):
                _remove(path)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def put_back_interrupted(output: Path) -> None:
    """Puts a folder back that a process was replacing when it was killed."""
    place = output.resolve()
    if not place.exists() and any(place.parent.glob(f".{glob.escape(place.name)}.????????{REPLACED}")):
        with claimed(output):  # which does it, unless another process is at it
            pass


@contextmanager
def readable(folder: Path) -> Iterator[None]:
    """Says of which folder it is that a file is missing or damaged."""
    try:
        yield
    except (EOFError, OSError, ValueError) as error:
        said = " ".join(str(error).split())
        raise InputError(f"{folder} is damaged ({said}): remove it, and give the command again that made it.") from None


@contextmanager
def writing(output: Path) -> Iterator[None]:
    """Says of what the system refuses what to do about it."""
    try:
        yield
    except BrokenPipeError:  # of who reads what is reported
        raise
    except OSError as error:
        raise InputError(
            f"{output} cannot be written ({error.strerror or error}): make room, or name another folder; where shards "
            "are done, the same command goes on with the rest."
        ) from None


def check_output(output: Path, *, overwrite: bool = False) -> None:
    """Raises InputError if features cannot be written to ``output``: it is a file, or holds something else."""
    if output.resolve() == Path.cwd():
        raise InputError("The output folder is the current one, which cannot be replaced: name another.")
    if output.exists() and not output.is_dir():
        raise InputError(f"The output {output} is a file: name a folder.")
    there = sorted(path.name for path in output.iterdir() if not is_temporary(path)) if output.is_dir() else []
    if overwrite:
        if others := [name for name in there if not is_ours(name)]:
            raise InputError(f"The output folder {output} holds {others[0]}, which is no feature: name another folder.")
    elif there and read_record(output) is None:
        raise InputError(f"The output folder {output} is not empty: name a new one, or empty it.")
