"""The folder of a training: its record, ``run.json``, and a lock. Only the same training goes on in it."""

import hashlib
import json
import shutil
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from checkpoints.files.atomic import write_whole
from tools.errors import InputError
from tools.evaluation import Labelled
from tools.images import Inputs
from tools.images.inputs import digest
from tools.runtime.locks import lock
from tools.runtime.records import differences, versions_of
from tools.training.folder.snapshots import SNAPSHOTS, Snapshots
from tools.training.folder.states import BEST, last_step
from tools.training.folder.writing import writing
from tools.training.plan import Plan
from tools.training.start import Start

__all__ = ["describe_training", "steps_done", "training_folder"]

_RECORD, _LOCK = "run.json", ".training.lock"

# All that a training writes, without which the folder is empty or holds the user's own files. The record comes last.
_FILES = (
    *("checkpoint", "model.ckpt-*", SNAPSHOTS, BEST),
    *("history.csv", "failed.csv", "curves.png", "events.out.*", _RECORD),
)

# Number of labels up to which a sentence names them.
_NAMED = 5


def _describe_data(inputs: Inputs) -> dict[str, Any]:
    """Returns what identifies images: their number and the SHA-256 of their names. Their contents may change."""
    return {"images": len(inputs), "sha256": digest(inputs)}


def describe_training(start: Start, plan: Plan, validation: Labelled | None) -> dict[str, Any]:
    """Returns the record of a training: all that its weights depend on, as values of JSON."""
    reader = start.reader
    return {
        "data": _describe_data(start.labelled.inputs),
        "val": None if validation is None else _describe_data(validation.inputs),
        "labels": list(start.labelled.names),
        "label_offset": start.labelled.offset,
        "checkpoint": None if reader is None else {"path": str(reader.path), "sha256": reader.sha256()},
        "network": start.network.name,
        "options": start.options,
        "new_head": start.new_head,
        "preprocessing": start.preprocessing,
        "image_size": start.image_size,
        "steps": plan.steps,
        "learning_rate": plan.learning_rate,
        "weight_decay": plan.weight_decay,
        "batch_norm_decay": plan.batch_norm_decay,
        "augmentation": plan.augmentation,
        "settings": plan.determining(),
        "versions": versions_of("slimnets"),
    }


def steps_done(output: Path, record: dict[str, Any], *, overwrite: bool = False) -> int:
    """Returns how many steps of a training its folder holds.

    Args:
      output: the folder, which may not exist yet.
      record: of the training.
      overwrite: whether another training in the folder is given up.

    Raises:
      InputError: if the folder is another training's, or not a training's at all.
    """
    if output.exists() and not output.is_dir():
        raise InputError(f"{output} is a file: name a folder for the training.")
    there = _read(output)
    if there is None:
        others = [path.name for path in output.iterdir() if path.name != _LOCK] if output.exists() else []
        if others:
            raise InputError(f"{output} has files that no training wrote ({min(others)}): name another folder.")
        return 0
    done = max(last_step(output), Snapshots(output).last)
    if not (changed := _differences(there, record)):
        return done
    # A training that stopped before its first state, such as for a wrong setting, is no loss.
    if done and not overwrite:
        raise InputError(
            f"{output} holds another training: {'; '.join(changed)}. Give the same settings to go on with it, another "
            "folder, or overwrite=True."
        )
    return 0


@contextmanager
def training_folder(output: Path, record: dict[str, Any], *, overwrite: bool = False) -> Iterator[None]:
    """Locks the folder of a training for the block; makes it, or checks that it is this training's.

    Args:
      output, record, overwrite: as for ``steps_done``.

    Raises:
      InputError: as ``steps_done``, and if another process is working on the folder.
      OSError: if it cannot be made.
    """
    steps_done(output, record, overwrite=overwrite)  # before anything is made
    with ExitStack() as stack:
        with writing(output):
            output.mkdir(parents=True, exist_ok=True)
            is_ours = stack.enter_context(lock(output / _LOCK))
        if not is_ours:
            raise InputError(f"Another process is training in {output}: wait for it, or name another folder.")
        steps_done(output, record, overwrite=overwrite)  # another process may have begun since
        with writing(output):
            _make_ours(output, record)
        yield


def _make_ours(output: Path, record: dict[str, Any]) -> None:
    there = _read(output)
    if there is not None and _differences(there, record):
        _remove(output, _FILES)
    _remove(output, [".*.incomplete", f"{BEST}/.*.incomplete"])  # of a killed process
    if not (output / _RECORD).exists():
        write_whole(output / _RECORD, json.dumps(record, indent=2) + "\n")


def _remove(output: Path, patterns: Iterable[str]) -> None:
    for path in [path for pattern in patterns for path in output.glob(pattern)]:
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def _read(output: Path) -> dict[str, Any] | None:
    """Returns the record in a folder; None if there is none."""
    file = output / _RECORD
    if not file.is_file():
        return None
    try:
        record = json.loads(file.read_text(encoding="utf-8"))
    except ValueError:
        record = None
    if not isinstance(record, dict) or "settings" not in record:
        raise InputError(f"{file} is not the record of a training: name another folder.")
    return record


def _differences(there: dict[str, Any], record: dict[str, Any]) -> list[str]:
    """Returns what differs between two records, such as ``batch_size is 8 and was 32``."""
    return differences(_flat(there), _flat(json.loads(json.dumps(record))))  # tuples become lists, as in the file


def _flat(record: dict[str, Any]) -> dict[str, Any]:
    """Returns the entries of a record that determine the weights, as a sentence shows them."""
    # What was chosen takes the place of settings that were left open.
    flat = {**record["settings"], **record}
    for name in ("settings", "versions"):
        del flat[name]
    for name in ("data", "val"):
        if data := flat.pop(name):
            flat[name] = f"{data['images']:,} images (SHA-256 of their names: {_short(data['sha256'])})"
    if checkpoint := flat.pop("checkpoint"):
        # The path of the file does not matter.
        flat["the checkpoint, by its SHA-256,"] = " ".join(map(_short, checkpoint["sha256"].values()))
    if len(flat["labels"]) > _NAMED:
        names = "\0".join(flat["labels"]).encode("utf-8", "surrogateescape")
        flat["labels"] = f"{len(flat['labels']):,} names (SHA-256: {_short(hashlib.sha256(names).hexdigest())})"
    return flat | {name: record["versions"][name] for name in ("tensorflow", "slimnets")}


def _short(digest: str) -> str:
    return digest[:12]
