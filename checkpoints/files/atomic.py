"""Writes folders and files that appear only once they are complete and flushed to the disk."""

import contextlib
import glob
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["REPLACED", "new_files", "new_folder", "put_back", "write_once", "write_whole"]

# The suffix of a folder that is being replaced, ``.NAME.*.replaced``.
REPLACED = ".replaced"


@contextmanager
def new_folder(output: str | Path, *, replace: bool = False) -> Iterator[Path]:
    """Makes a temporary folder that is renamed to ``output`` at the end of the block, and removed after an error.

    Args:
      output: a folder that does not exist yet, or is empty; the folders above it are created.
      replace: whether ``output`` may have contents, which are then removed. A process killed during the replacement may
        leave the old folder under another name; ``put_back`` restores it.

    Yields:
      The temporary folder, ``.NAME.*.incomplete``, beside ``output``. Only a killed process leaves it behind.

    Raises:
      OSError: if the folder cannot be created, or ``output`` is a file or not empty.
    """
    output = Path(output).resolve()  # a folder cannot replace a link
    output.parent.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=f".{output.name}.", suffix=".incomplete", dir=output.parent))
    try:
        yield folder
        folder.chmod(0o755)
        for parent, _, names in os.walk(folder):
            for name in names:
                _flush(Path(parent, name))
            _flush(Path(parent))
        if replace and output.exists():
            before = folder.with_suffix(REPLACED)
            output.rename(before)
            folder.rename(output)
            _flush(output.parent)
            shutil.rmtree(before)
        else:
            folder.rename(output)
            _flush(output.parent)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


def put_back(output: str | Path) -> None:
    """Restores the folder that ``new_folder`` was replacing when its process was killed, or removes the remains.

    The caller must hold a lock on the folder.
    """
    output = Path(output).resolve()
    for before in output.parent.glob(f".{glob.escape(output.name)}.????????{REPLACED}"):
        if output.exists():
            shutil.rmtree(before)
        else:
            before.rename(output)


def write_whole(path: Path, content: str | bytes) -> None:
    """Writes or replaces a file; text is written as UTF-8."""
    temporary = _temporary(path, content)
    try:
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    _flush(path.parent)


def write_once(path: Path, text: str) -> None:
    """Writes a file unless it exists; of several processes, the first one wins."""
    temporary = _temporary(path, text)
    try:
        with contextlib.suppress(FileExistsError):
            path.hardlink_to(temporary)
    finally:
        temporary.unlink()
    _flush(path.parent)


def _temporary(path: Path, content: str | bytes) -> Path:
    """Writes a file ``.NAME.*.incomplete`` beside ``path`` and returns its path."""
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".incomplete", dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(content.encode() if isinstance(content, str) else content)
            stream.flush()
            os.fsync(descriptor)
        Path(name).chmod(0o644)
    except BaseException:
        Path(name).unlink()
        raise
    return Path(name)


def _flush(path: Path) -> None:
    """Flushes a file, or a folder's list of names, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def new_files(folder: str | Path, last: str) -> Iterator[Path]:
    """Makes a temporary folder whose files move to ``folder`` at the end of the block, and are removed after an error.

    Existing files of the same names are replaced. The file called ``last``, which the others depend on, moves last.

    Yields:
      The temporary folder, ``.LAST.*.incomplete``, in ``folder``. Only a killed process leaves it behind.

    Raises:
      OSError: if the folder cannot be created, or a file cannot be written.
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
