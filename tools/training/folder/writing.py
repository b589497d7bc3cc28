"""Writes while the training goes on, and turns errors of the file system into a sentence."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import tensorflow as tf

__all__ = ["InBackground", "writing"]


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Raises OSError with a sentence for the user if a file or folder cannot be written in the block."""
    try:
        yield
    except (OSError, tf.errors.OpError) as error:
        if isinstance(error, OSError) and error.errno is None:
            raise  # a sentence already
        reason = error.strerror if isinstance(error, OSError) else error.message.rpartition("; ")[2]
        raise OSError(
            f"{path} cannot be written ({reason}): make space, or check permissions, and run the same training again. "
            "What was saved before remains."
        ) from error


class InBackground:
    """Does one thing after the other in a thread. An error is raised where the next one begins, or by ``wait``."""

    def __init__(self) -> None:
        self._thread: threading.Thread | None = None
        self._error: Exception | None = None

    def begin(self, work: Callable[..., object], *arguments: Any) -> None:
        """Begins to do something, once what was begun before is done."""
        self.wait()
        self._thread = threading.Thread(target=self._do, args=(work, arguments), daemon=True)
        self._thread.start()

    def _do(self, work: Callable[..., object], arguments: tuple[Any, ...]) -> None:
        try:
            work(*arguments)
        except Exception as error:
            self._error = error

    def wait(self) -> None:
        """Waits until nothing is being done."""
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        if self._error is not None:
            error, self._error = self._error, None
            raise error
