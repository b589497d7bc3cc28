"""Folders that appear once they are complete."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["new_folder"]


@contextmanager
def new_folder(output: str | Path) -> Iterator[Path]:
    """A temporary folder beside ``output`` that takes its place once the block is through, and else vanishes.

    Args:
      output: a folder that does not exist yet, or is empty; the folders above it are made.

    Yields:
      The temporary folder, ``.NAME.*.incomplete``. Only a process that is killed leaves it behind.

    Raises:
      OSError: if it cannot be made, or ``output`` is a file, or holds something.
    """
    output = Path(output).resolve()  # a folder cannot take the place of a link
    output.parent.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=f".{output.name}.", suffix=".incomplete", dir=output.parent))
    try:
        yield folder
        folder.chmod(0o755)
        folder.rename(output)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
