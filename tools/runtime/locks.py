"""Locks between processes, of one machine or of several that share a folder."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["lock"]


@contextmanager
def lock(path: str | Path) -> Iterator[bool]:
    """Holds a lock for the block, if no other process does; it ends with the process that holds it, however that ends.

    Args:
      path: of a file that is there as long as somebody holds the lock.

    Yields:
      Whether it is held.

    Raises:
      OSError: if the file cannot be made, or its file system has no locks.
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
        # Who held it has removed the file since it was opened here.
        os.close(descriptor)


def _is_of(path: str | Path, descriptor: int) -> bool:
    """Whether the file of that name is the one that is open."""
    try:
        return os.path.samestat(Path(path).stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False
