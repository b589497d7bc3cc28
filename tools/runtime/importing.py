"""TensorFlow as a program wants it: soon, and without start-up messages; and the ``nets`` that is ours."""

import gc
import importlib.abc
import importlib.util
import logging
import os
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

__all__ = ["check_nets", "import_tensorflow"]

# TensorFlow's own variables: the least severity that it writes, from 0 (all) to 3 (errors that end it); and those that
# ask for messages for its developers, which are of severity 0.
_LEAST_SEVERITY = "TF_CPP_MIN_LOG_LEVEL"
_VERBOSITY = ("TF_CPP_MAX_VLOG_LEVEL", "TF_CPP_VMODULE")


# Not in the package itself: in an editable installation a folder ``tools`` of somebody else's (tf2onnx has one) takes
# the place of ``tools/__init__.py``, while the modules are still found.
def check_nets() -> None:
    """Raises ImportError if the ``nets`` that would be imported is another project's."""
    ours = Path(__file__).resolve().parents[2] / "nets"
    found = importlib.util.find_spec("nets")
    origin = found.origin if found else None
    if origin is None or Path(origin).resolve().parent != ours:
        raise ImportError(
            f"The package 'nets' that Python finds is {origin or 'none'}, and not slimnets' own in {ours}: "
            "take the other one off the path, or use a virtual environment of its own."
        )


def import_tensorflow() -> None:
    """Imports TensorFlow, and shows what it wrote to stderr only if that fails, or if the environment asks for it.

    TF_CPP_MIN_LOG_LEVEL=0 asks for it. A higher level asks for less, and is kept; without one it is 2, errors alone.

    Raises:
      ImportError: if TensorFlow, or a package it needs, is not installed.
    """
    if _messages_wanted(os.environ):
        with _without_what_can_wait(), _without_collections():
            import nets
        return
    if _whole_number(os.environ.get(_LEAST_SEVERITY, "")) is None:
        os.environ[_LEAST_SEVERITY] = "2"  # TensorFlow would take anything else for 0
    logging.getLogger("tensorflow").setLevel(logging.ERROR)
    with _stderr_on_failure(), _without_what_can_wait(), _without_collections():
        import nets  # noqa: F401


def _messages_wanted(environment: Mapping[str, str]) -> bool:
    """Returns whether the environment asks for TensorFlow's messages."""
    level = _whole_number(environment.get(_LEAST_SEVERITY, ""))
    if level is not None:
        return level <= 0
    return any(environment.get(name, "").strip() not in ("", "0") for name in _VERBOSITY)


def _whole_number(text: str) -> int | None:
    try:
        return int(text)
    except ValueError:
        return None


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
def _without_collections() -> Iterator[None]:
    """Keeps the garbage collector from looking, again and again, through modules that are there to stay.

    A tenth of the time that the imports take, and later of any collection.
    """
    gc.disable()
    try:
        yield
        gc.freeze()
    finally:
        gc.enable()


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
