"""Saves the states of a training as checkpoints, and finds the last one again.

OUTPUT/checkpoint            names the last state, as a ``tf.train.Saver`` does
OUTPUT/model.ckpt-STEP.*     the last few states: weights, slots, averages and the global step, with notes
OUTPUT/best/                 the same for the state with the best validation
"""

import re
import shutil
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import numpy as np

from checkpoints import CheckpointError, open_checkpoint
from checkpoints.files import Notes, notes_file, write_checkpoint, write_notes
from checkpoints.files.atomic import new_files, write_whole
from checkpoints.files.writer import checkpoint_files
from tools.training.folder.writing import writing

__all__ = ["BEST", "NotFiniteError", "States", "last_step"]

BEST = "best"

_NAME = "model.ckpt"
_NUMBERED = re.compile(rf"{re.escape(_NAME)}-(\d+)\.index")


class NotFiniteError(ValueError):
    """Raised for a state with values that are not finite. The message names one of them."""


class States:
    """The states of a training in its folder.

    Args:
      folder: the training's folder, or its folder of the best state.
      notes: the notes on every state.
      keep: number of states to keep.
    """

    def __init__(self, folder: Path, notes: Notes, keep: int) -> None:
        self._folder, self._notes, self._keep = folder, notes, keep

    def read(self) -> tuple[int, dict[str, np.ndarray]] | None:
        """Returns the step and the values of the last state that is not damaged; None if there is none."""
        for step in sorted(_steps(self._folder), reverse=True):
            try:
                reader = open_checkpoint(self.prefix(step))
                return step, {name: reader.read(name) for name in reader.shapes}
            except CheckpointError:
                continue  # damaged, such as by a power cut: the state before is not
        return None

    def prefix(self, step: int) -> Path:
        """Returns the path of a state."""
        return self._folder / f"{_NAME}-{step}"

    def save(self, step: int, values: Mapping[str, np.ndarray]) -> None:
        """Saves a state. The states before remain if that fails.

        Raises:
          NotFiniteError: if a value is not finite.
          OSError: if it cannot be written.
        """
        for name, value in values.items():
            if not np.isfinite(value).all():
                raise NotFiniteError(f"{name} has values that are not finite after step {step}")
        prefix = self.prefix(step)
        with writing(self._folder), new_files(self._folder, f"{prefix.name}.index") as temporary:
            *_, index = write_checkpoint(temporary / prefix.name, values)
            write_notes(temporary / prefix.name, self._notes, index)
        self.point_to(step)

    def take(self, other: "States", step: int) -> None:
        """Takes a state of another folder, and drops those before.

        Raises:
          OSError: if it cannot be written.
        """
        with writing(self._folder):
            self._folder.mkdir(exist_ok=True)
            with new_files(self._folder, f"{self.prefix(step).name}.index") as temporary:
                for file in _files(other.prefix(step)):
                    shutil.copyfile(file, temporary / file.name)
        self.point_to(step)

    def point_to(self, step: int) -> None:
        """Makes a state the last one: names it in the file ``checkpoint``, and removes later states and old ones.

        Raises:
          OSError: if the file cannot be written.
        """
        there = _steps(self._folder)
        kept = sorted(each for each in there if each <= step)[-self._keep :]
        lines = [f'model_checkpoint_path: "{self.prefix(step).name}"']
        lines += [f'all_model_checkpoint_paths: "{self.prefix(each).name}"' for each in kept]
        with writing(self._folder):
            write_whole(self._folder / "checkpoint", "\n".join(lines) + "\n")
            for old in there - {*kept}:
                for file in _files(self.prefix(old)):
                    file.unlink(missing_ok=True)


def last_step(folder: Path) -> int:
    """Returns the step of the last state in a folder that can be opened; 0 if there is none."""
    for step in sorted(_steps(folder), reverse=True):
        with suppress(CheckpointError):
            open_checkpoint(folder / f"{_NAME}-{step}")
            return step
    return 0


def _steps(folder: Path) -> set[int]:
    """Returns the steps of all states in a folder; none if it does not exist."""
    names = [file.name for file in folder.iterdir()] if folder.is_dir() else []
    return {int(found[1]) for name in names if (found := _NUMBERED.fullmatch(name))}


def _files(prefix: Path) -> list[Path]:
    return [*checkpoint_files(prefix, "V2"), notes_file(prefix)]
