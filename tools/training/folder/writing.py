"""Turns errors of the file system into a sentence."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import tensorflow as tf

__all__ = ["writing"]


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
