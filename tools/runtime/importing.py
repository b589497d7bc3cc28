"""Imports TensorFlow quickly and without its start-up messages, and checks that ``nets`` is ours."""

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

__all__ = ["check_nets", "import_tensorflow", "import_tensorflow_alone", "import_without_keras"]

# TensorFlow's own variables of the environment: the least severity of its messages, from 0 (all) to 3 (fatal errors),
# and two that ask for messages for its developers, which have severity 0.
_LEAST_SEVERITY = "TF_CPP_MIN_LOG_LEVEL"
_VERBOSITY = ("TF_CPP_MAX_VLOG_LEVEL", "TF_CPP_VMODULE")


# This is not in the package itself: in an editable installation another package's folder ``tools`` (tf2onnx has one)
# can hide ``tools/__init__.py``, while the modules are still found.
def check_nets() -> None:
    """Raises ImportError if the ``nets`` on Python's path belongs to another project."""
    ours = Path(__file__).resolve().parents[2] / "nets"
    found = importlib.util.find_spec("nets")
    origin = found.origin if found else None
    if origin is None or Path(origin).resolve().parent != ours:
        raise ImportError(
            f"The package 'nets' that Python finds is {origin or 'missing'}, and not slimnets' own in {ours}: take the "
            "other one off the path, or install slimnets in a virtual environment of its own."
        )


def import_tensorflow() -> None:
    """Imports TensorFlow. Its messages on stderr appear only if the import fails, or if the environment asks for them.

    TF_CPP_MIN_LOG_LEVEL=0 asks for them. A higher level is kept; the default becomes 2, which means only errors.

    Raises:
      ImportError: if TensorFlow, or a package that it requires, is not installed.
    """
    if _messages_wanted(os.environ):
        with _without_what_can_wait(), _without_collections():
            import nets
        return
    if _whole_number(os.environ.get(_LEAST_SEVERITY, "")) is None:
        os.environ[_LEAST_SEVERITY] = "2"  # TensorFlow reads anything else as 0
    logging.getLogger("tensorflow").setLevel(logging.ERROR)
    with _stderr_on_failure(), _without_what_can_wait(), _without_collections():
        import nets  # noqa: F401


def import_without_keras() -> None:
    """Imports TensorFlow in a user's own process: its messages appear, and nothing else of the process changes.

    Keras, which takes half of the time, is imported when it is first used.
    """
    with _without_what_can_wait():
        import nets  # noqa: F401


def import_tensorflow_alone() -> None:
    """Imports TensorFlow without Keras, and without slimnets' networks, for a process that must not have them."""
    with _without_what_can_wait(), _without_collections():
        import tensorflow  # noqa: F401


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
    """Postpones the imports of Keras and scikit-learn, which take half of the time, until they are used.

    TensorFlow imports Keras in advance, and tf_slim imports scikit-learn for one of its losses. Both work if that
    fails.
    """
    finder = _Later()
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)


@contextmanager
def _without_collections() -> Iterator[None]:
    """Keeps the garbage collector from searching modules, which are never garbage, again and again.

    This saves a tenth of the time of the imports, and of each later collection.
    """
    gc.disable()
    try:
        yield
        gc.freeze()
    finally:
        gc.enable()


@contextmanager
def _stderr_on_failure() -> Iterator[None]:
    # By file descriptor, because the messages come from C++ before its logging can be configured.
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
