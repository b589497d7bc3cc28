"""The output folders of pages and results, which appear once they are complete."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from checkpoints.files.atomic import new_folder
from tools.errors import InputError

__all__ = ["check_output", "new_output"]


def check_output(output: str | Path, ours: str, *, overwrite: bool = False) -> None:
    """Checks that results can be written to a folder.

    Args:
      output: the folder.
      ours: regular expression of the names that such results have.
      overwrite: whether earlier results may be replaced.

    Raises:
      InputError: if it is a file or the current folder, holds something else, or holds results and may not be
        overwritten.
    """
    output = Path(output)
    if output.exists() and not output.is_dir():
        raise InputError(f"The output {output} is a file: name a folder.")
    if output.resolve() == Path.cwd():
        raise InputError("The output folder is the current one, which cannot be replaced: name another.")
    there = {path.name for path in output.iterdir()} if output.is_dir() else set()
    if others := [name for name in there if not re.fullmatch(ours, name)]:
        raise InputError(f"The output folder {output} holds {min(others)}, which is no such result: name another.")
    if there and not overwrite:
        raise InputError(
            f"The output folder {output} holds earlier results: name another, or replace them with overwrite=True."
        )


@contextmanager
def new_output(output: str | Path, ours: str, *, overwrite: bool = False) -> Iterator[Path]:
    """Yields a folder to write into that becomes ``output`` at the end of the block. The arguments are as above.

    Raises:
      InputError: as ``check_output``, or if it cannot be written.
    """
    output = Path(output)
    check_output(output, ours, overwrite=overwrite)
    try:
        with new_folder(output, replace=overwrite) as folder:
            yield folder
    except OSError as error:
        raise InputError(f"{output} cannot be written ({error.strerror or error}): name another folder.") from None
