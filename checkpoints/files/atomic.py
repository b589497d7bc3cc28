"""Folders and files that appear once they are complete, and are on the disk by then."""

import contextlib
import glob
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["REPLACED", "new_files", "new_folder", "put_back", "write_once", "write_whole"]

# What a folder is called, ``.NAME.*.replaced``, while another one takes its place.
REPLACED = ".replaced"


@contextmanager
def new_folder(output: str | Path, *, replace: bool = False) -> Iterator[Path]:
    """A temporary folder beside ``output`` that takes its place once the block is through, and else vanishes.

    Args:
      output: a folder that does not exist yet, or is empty; the folders above it are made.
      replace: whether it may hold something, which is removed. A process that is killed while that is done may leave
        it under another name, from which ``put_back`` brings it back.

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
    """Puts a folder back that ``new_folder`` was replacing when its process was killed, or removes it.

    Only for who holds a lock on the folder.
    """
    output = Path(output).resolve()
    for before in output.parent.glob(f".{glob.escape(output.name)}.????????{REPLACED}"):
        if output.exists():
            shutil.rmtree(before)
        else:
            before.rename(output)


def write_whole(path: Path, content: str | bytes) -> None:
    """Writes or replaces a file; a text in UTF-8."""
    temporary = _temporary(path, content)
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


def _temporary(path: Path, content: str | bytes) -> Path:
    """Writes a file beside ``path``, ``.NAME.*.incomplete``."""
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
