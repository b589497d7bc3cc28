"""Folders and files that appear once they are complete, and are on the disk by then."""

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["new_files", "new_folder", "write_once", "write_whole"]


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
        for parent, _, names in os.walk(folder):
            for name in names:
                _flush(Path(parent, name))
            _flush(Path(parent))
        folder.rename(output)
        _flush(output.parent)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


def write_whole(path: Path, text: str) -> None:
    """Writes or replaces a file."""
    temporary = _temporary(path, text)
    try:
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    _flush(path.parent)


def write_once(path: Path, text: str) -> None:
    """Writes a file, unless it is there: of several processes that do, the first one has its way."""
    temporary = _temporary(path, text)
    try:
        with contextlib.suppress(FileExistsError):
            path.hardlink_to(temporary)
    finally:
        temporary.unlink()
    _flush(path.parent)


def _temporary(path: Path, text: str) -> Path:
    """A file beside ``path`` with a text, ``.NAME.*.incomplete``."""
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".incomplete", dir=path.parent)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(descriptor)
        Path(name).chmod(0o644)
    except BaseException:
        Path(name).unlink()
        raise
    return Path(name)


def _flush(path: Path) -> None:
    """Has a file, or a folder's names, written to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def new_files(folder: str | Path, last: str) -> Iterator[Path]:
    """A temporary folder in ``folder`` whose files move there once the block is through, and else vanish.

    Files of their names are replaced; the file called ``last``, without which the others are nothing, moves last.

    Yields:
      The temporary folder, ``.LAST.*.incomplete``. Only a process that is killed leaves it behind.

    Raises:
      OSError: if it cannot be made, or a file cannot be written.
    """
    folder = Path(folder)
    try:
        temporary = Path(tempfile.mkdtemp(prefix=f".{last}.", suffix=".incomplete", dir=folder))
    except OSError as error:
        raise OSError(f"{folder / last} cannot be written ({error.strerror}): give another place or name.") from error
    try:
        yield temporary
        files = sorted(temporary.iterdir(), key=lambda file: (file.name == last, file.name))
        for file in files:
            _flush(file)
        for file in files:
            file.replace(folder / file.name)
        _flush(folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
