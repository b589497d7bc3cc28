"""Writes the figures of a training as an event file for TensorBoard."""

import socket
import time
from pathlib import Path

import tensorflow as tf

from tools.training.folder.history import Event
from tools.training.folder.writing import writing

__all__ = ["Events"]

v1 = tf.compat.v1


class Events:
    """An event file in the folder of a training.

    TensorFlow's own writer has a thread, whose errors, such as a full disk, end in a traceback.

    Args:
      folder: of the training.
      step: number of steps done before; TensorBoard drops later ones of an earlier run.
    """

    def __init__(self, folder: Path, step: int) -> None:
        # TensorBoard finds files by this form of their names. The time in it orders them.
        self._path = folder / f"events.out.tfevents.{time.time_ns() / 1e9:017.6f}.{socket.gethostname()}"
        with writing(self._path):
            self._writer = tf.io.TFRecordWriter(str(self._path))
        self._write(v1.Event(file_version="brain.Event:2"))
        self._write(v1.Event(session_log=v1.SessionLog(status=v1.SessionLog.START), step=step))

    def add(self, event: Event, images_per_second: float | None = None) -> None:
        """Adds the figures of an event."""
        figures = {name: value for name, value in event._asdict().items() if value is not None and name != "step"}
        if images_per_second is not None:
            figures["images_per_second"] = images_per_second
        kind = "validation" if event.is_validation else "training"
        values = [
            v1.Summary.Value(tag=f"{kind}/{name.removeprefix('val_')}", simple_value=value)
            for name, value in figures.items()
        ]
        self._write(v1.Event(summary=v1.Summary(value=values), step=event.step))

    def flush(self) -> None:
        """Writes what waits in memory."""
        with writing(self._path):
            self._writer.flush()

    def close(self) -> None:
        """Writes what waits in memory, and closes the file."""
        with writing(self._path):
            self._writer.close()

    def _write(self, event: v1.Event) -> None:
        event.wall_time = time.time()
        with writing(self._path):
            self._writer.write(event.SerializeToString())
