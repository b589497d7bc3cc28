"""The output folders of pages and results, which appear once they are complete."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from checkpoints.files.atomic import new_folder
from tools.errors import InputError

__all__ = ["Names", "check_output", "new_output"]


class Names(NamedTuple):
    """The names of the files of a kind of results.

    main: name of the file that all such results have. Without it, other files are somebody else's.
    others: regular expression of the names of the others.
    """

    main: str
    others: str


def check_output(output: str | Path, names: Names, *, overwrite: bool = False) -> None:
    """Checks that results can be written to a folder.

    Args:
      output: the folder.
      names: of the files of such results.
      overwrite: whether earlier results may be replaced.

    Raises:
      InputError: if it is a file or the current folder, holds something else, holds results and may not be overwritten,
        or cannot be read.
    """
    with _writing(output):
        _check(Path(output), names, overwrite=overwrite)


def _check(output: Path, names: Names, *, overwrite: bool) -> None:
    if output.exists() and not output.is_dir():
        raise InputError(f"The output {output} is a file: name a folder.")
    if output.resolve() == Path.cwd():
        raise InputError("The output folder is the current one, which cannot be replaced: name another.")
    there = {path.name for path in output.iterdir()} if output.is_dir() else set()
    ours = {names.main, *(name for name in there if re.fullmatch(names.others, name))}
    if others := there - ours if names.main in there else there:
        raise InputError(f"The output folder {output} holds other files, such as {min(others)}: name another folder.")
    if there and not overwrite:
        raise InputError(
            f"The output folder {output} holds earlier results: name another, or replace them with overwrite=True."
        )


@contextmanager
def new_output(output: str | Path, names: Names, *, overwrite: bool = False) -> Iterator[Path]:
    """Yields a folder to write into that becomes ``output`` at the end of the block. The arguments are as above.

    Raises:
      InputError: as ``check_output``, or if it cannot be written.
    """
    check_output(output, names, overwrite=overwrite)
    with _writing(output), new_folder(output, replace=overwrite) as folder:
        yield folder


@contextmanager
def _writing(output: str | Path) -> Iterator[None]:
    """Turns errors of the system into an InputError that names the folder."""
    try:
        yield
    except BrokenPipeError:  # of the terminal that shows the progress
        raise
    except OSError as error:
        raise InputError(
            f"{output} cannot be written ({error.strerror or error}): make room, or name another folder."
        ) from None
