"""TensorFlow without its start-up messages."""

import logging
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["import_tensorflow"]

# Whoever sets TensorFlow's own variable wants its messages, of that level.
_ASKED_FOR = "TF_CPP_MIN_LOG_LEVEL"


def import_tensorflow() -> None:
    """Imports TensorFlow, and shows what it wrote to stderr only if that fails.

    Raises:
      ImportError: if TensorFlow, or a package it needs, is not installed.
    """
    if _ASKED_FOR in os.environ:
        import nets

        return
    os.environ[_ASKED_FOR] = "2"
    logging.getLogger("tensorflow").setLevel(logging.ERROR)
    with _stderr_on_failure():
        import nets  # noqa: F401


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
