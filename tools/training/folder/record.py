"""The folder of a training: its record, ``run.json``, and a lock. Only the same command goes on in it."""

import importlib.metadata
import json
import platform
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from checkpoints.files.atomic import write_whole
from tools.errors import InputError
from tools.evaluation import Labelled
from tools.images import Inputs
from tools.images.inputs import digest
from tools.runtime.locks import lock
from tools.training.plan import Plan
from tools.training.start import Start

__all__ = ["describe_training", "training_folder"]

_RECORD, _LOCK = "run.json", ".training.lock"


def _describe_data(inputs: Inputs) -> dict[str, Any]:
    """Returns what identifies images: their number and the SHA-256 of their names."""
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
        "versions": {
            "python": platform.python_version(),
            # TensorFlow is installed under several names, so its version comes from the module.
            "tensorflow": sys.modules["tensorflow"].__version__,
            "slimnets": importlib.metadata.version("slimnets"),
        },
    }


@contextmanager
def training_folder(output: Path, record: dict[str, Any], *, overwrite: bool = False) -> Iterator[None]:
    """Locks the folder of a training for the block; makes it, or checks that it is this training's.

    Args:
      output: the folder.
      record: of the training.
      overwrite: whether a folder of another training is emptied.

    Raises:
      InputError: if the folder is another training's or not a training's at all, or a process is working on it.
      OSError: if it cannot be made.
    """
    record = json.loads(json.dumps(record))  # tuples become lists, as in a record that was read
    if output.exists() and not output.is_dir():
        raise InputError(f"{output} is a file: name a folder for the training.")
    _check(output, record, overwrite)
    output.mkdir(parents=True, exist_ok=True)
    with lock(output / _LOCK) as is_ours:
        if not is_ours:
            raise InputError(f"Another process is training in {output}: wait for it, or name another folder.")
        if overwrite and _differs(output, record):
            _empty(output)
        for left in output.rglob(".*.incomplete"):  # of a killed process
            shutil.rmtree(left) if left.is_dir() else left.unlink()
        if not (output / _RECORD).exists():
            write_whole(output / _RECORD, json.dumps(record, indent=2) + "\n")
        yield


def _check(output: Path, record: dict[str, Any], overwrite: bool) -> None:
    there = _read(output)
    if there is None:
        others = [path.name for path in output.iterdir() if path.name != _LOCK] if output.exists() else []
        if others:
            raise InputError(f"{output} has files that no training wrote ({min(others)}): name another folder.")
    elif (others := _differences(there, record)) and not overwrite:
        raise InputError(
            f"{output} holds another training: {'; '.join(others)}. Give the same settings to go on with it, another "
            "folder, or overwrite=True."
        )


def _read(output: Path) -> dict[str, Any] | None:
    file = output / _RECORD
    if not file.is_file():
        return None
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(f"{file} is not the record of a training ({error}): name another folder.") from None


def _differs(output: Path, record: dict[str, Any]) -> bool:
    there = _read(output)
    return there is not None and bool(_differences(there, record))


def _empty(output: Path) -> None:
    for path in output.iterdir():
        if path.name == _LOCK:
            continue
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def _differences(there: dict[str, Any], record: dict[str, Any]) -> list[str]:
    """Returns what differs between two records, such as ``batch_size is 8 and was 32``."""
    then, now = dict(_flat(there)), dict(_flat(record))
    return [
        f"{name} is {now.get(name, 'nothing')} and was {then.get(name, 'nothing')}"
        for name in {**then, **now}
        if then.get(name) != now.get(name)
    ]


def _flat(record: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    for name, value in record.items():
        if name == "checkpoint":
            yield "the checkpoint, by its SHA-256,", value and " ".join(value["sha256"].values())
        elif name in ("data", "val"):
            what = "images" if name == "data" else "images of the validation"
            yield f"the number of {what}", value and value["images"]
            yield f"the list of {what}, by its SHA-256,", value and value["sha256"]
        elif name == "settings":
            yield from value.items()
        elif name == "versions":
            yield from ((key, value[key]) for key in ("tensorflow", "slimnets"))
        elif name not in ("steps", "learning_rate", "weight_decay", "batch_norm_decay", "augmentation"):
            # These follow from the others, or stand among the settings.
            yield name, value
