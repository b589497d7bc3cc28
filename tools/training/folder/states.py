"""Saves the states of a training as checkpoints, and finds the last one again.

OUTPUT/checkpoint            names the last state, as a ``tf.train.Saver`` does
OUTPUT/model.ckpt-STEP.*     the last few states: weights, slots, averages and the global step, with notes
OUTPUT/best/                 the same for the state with the best validation
"""

import re
import shutil
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import tensorflow as tf

from checkpoints.files import Notes, notes_file, write_checkpoint, write_notes
from checkpoints.files.atomic import new_files, write_whole
from checkpoints.files.writer import checkpoint_files

__all__ = ["BEST", "States"]

BEST = "best"

_NAME = "model.ckpt"
_NUMBERED = re.compile(rf"{re.escape(_NAME)}-(\d+)\.index")


class States:
    """The states of a training in its folder.

    Args:
      folder: the training's folder, or its folder of the best state.
      notes: the notes on every state.
      keep: number of states to keep.
    """

    def __init__(self, folder: Path, notes: Notes, keep: int) -> None:
        self._folder, self._notes, self._keep = folder, notes, keep
        self._writing: threading.Thread | None = None
        self._error: BaseException | None = None

    @property
    def last(self) -> int | None:
        """Returns the step of the last state; None if there is none."""
        state = tf.train.get_checkpoint_state(str(self._folder))
        if state is None:
            return None
        return int(state.model_checkpoint_path.rpartition("-")[2])

    def prefix(self, step: int) -> Path:
        """Returns the path of a state."""
        return self._folder / f"{_NAME}-{step}"

    def save_later(self, step: int, values: Mapping[str, np.ndarray]) -> None:
        """Saves a state while the training goes on. Waits for the state before.

        Raises:
          OSError: if the state before could not be written.
        """
        self.wait()
        self._writing = threading.Thread(target=self._save_noting_errors, args=(step, values), daemon=True)
        self._writing.start()

    def wait(self) -> None:
        """Waits until a state that is being written is complete.

        Raises:
          OSError: if it could not be written.
        """
        if self._writing is not None:
            self._writing.join()
            self._writing = None
        if self._error is not None:
            error, self._error = self._error, None
            raise error

    def _save_noting_errors(self, step: int, values: Mapping[str, np.ndarray]) -> None:
        try:
            self.save(step, values)
        except Exception as error:  # raised where the training waits for it
            self._error = error

    def save(self, step: int, values: Mapping[str, np.ndarray]) -> bool:
        """Saves a state, unless a value is not finite. Returns whether it did.

        Raises:
          OSError: if it cannot be written. The states before remain.
        """
        if not all(np.isfinite(value.sum()) or np.isfinite(value).all() for value in values.values()):
            return False
        prefix = self.prefix(step)
        with new_files(self._folder, f"{prefix.name}.index") as temporary:
            *_, index = write_checkpoint(temporary / prefix.name, values)
            write_notes(temporary / prefix.name, self._notes, index)
        self._point_to(step)
        return True

    def take(self, other: "States", step: int) -> None:
        """Takes a state of another folder, and drops those before."""
        self._folder.mkdir(exist_ok=True)
        with new_files(self._folder, f"{self.prefix(step).name}.index") as temporary:
            for file in _files(other.prefix(step)):
                shutil.copyfile(file, temporary / file.name)
        self._point_to(step)

    def _point_to(self, step: int) -> None:
        kept = sorted({*self._steps(), step})[-self._keep :]
        # Later states of a run that was begun anew are of no use.
        kept = [each for each in kept if each <= step]
        lines = [f'model_checkpoint_path: "{self.prefix(step).name}"']
        lines += [f'all_model_checkpoint_paths: "{self.prefix(each).name}"' for each in kept]
        write_whole(self._folder / "checkpoint", "\n".join(lines) + "\n")
        for old in self._steps():
            if old not in kept:
                for file in _files(self.prefix(old)):
                    file.unlink(missing_ok=True)

    def _steps(self) -> Iterator[int]:
        for file in list(self._folder.iterdir()):
            if found := _NUMBERED.fullmatch(file.name):
                yield int(found[1])


def _files(prefix: Path) -> list[Path]:
    return [*checkpoint_files(prefix, "V2"), notes_file(prefix)]
