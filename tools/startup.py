"""TensorFlow as a program wants it: soon, and without start-up messages."""

import importlib.abc
import logging
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import ModuleType

__all__ = ["import_tensorflow"]

# Whoever sets TensorFlow's own variable wants its messages, of that level.
_ASKED_FOR = "TF_CPP_MIN_LOG_LEVEL"


def import_tensorflow() -> None:
    """Imports TensorFlow, and shows what it wrote to stderr only if that fails.

    Raises:
      ImportError: if TensorFlow, or a package it needs, is not installed.
    """
    if _ASKED_FOR in os.environ:
        with _without_what_can_wait():
            import nets
        return
    os.environ[_ASKED_FOR] = "2"
    logging.getLogger("tensorflow").setLevel(logging.ERROR)
    with _stderr_on_failure(), _without_what_can_wait():
        import nets  # noqa: F401


class _Later(importlib.abc.MetaPathFinder):
    """Finds neither Keras' modules nor scikit-learn."""

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> None:
        if name.startswith("keras.") or name == "sklearn":
            raise ModuleNotFoundError(f"{name} is left for later", name=name)


@contextmanager
def _without_what_can_wait() -> Iterator[None]:
    """Leaves Keras and scikit-learn, half of the time that the imports take, until somebody asks for them.

    TensorFlow imports Keras in case somebody will, and tf_slim scikit-learn for one of its losses; both do without
    where that fails.
    """
    finder = _Later()
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)


@contextmanager
def _stderr_on_failure() -> Iterator[None]:
    # By file descriptor: the messages come from C++, before its own logging can be told otherwise.
    with tempfile.TemporaryFile() as captured:
        sys.stderr.flush()
        stderr = os.dup(2)
        os.dup2(captured.fileno(), 2)
        try:
            yield
        except Exception:
            os.lseek(captured.fileno(), 0, os.SEEK_SET)
            os.write(stderr, captured.read())
            raise
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)
