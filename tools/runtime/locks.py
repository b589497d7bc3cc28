"""Locks between processes, on one machine or on several that share a folder."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["lock"]


@contextmanager
def lock(path: str | Path) -> Iterator[bool]:
    """Takes a lock for the block, unless another process holds it. The lock ends with its process, even a killed one.

    Args:
      path: path of the lock's file, which exists while the lock is held.

    Yields:
      Whether the lock was obtained.

    Raises:
      OSError: if the file cannot be created, or its file system has no locks.
    """
    descriptor = _locked(path)
    try:
        yield descriptor is not None
    finally:
        if descriptor is not None:
            if _is_of(path, descriptor):
                Path(path).unlink()
            os.close(descriptor)


def _locked(path: str | Path) -> int | None:
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _is_of(path, descriptor):
                return descriptor
        except BlockingIOError:
            os.close(descriptor)
            return None
        except BaseException:
            os.close(descriptor)
            raise
        # The last holder removed the file after it was opened here.
        os.close(descriptor)


def _is_of(path: str | Path, descriptor: int) -> bool:
    """Returns whether the file at the path is the open one."""
    try:
        return os.path.samestat(Path(path).stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False
