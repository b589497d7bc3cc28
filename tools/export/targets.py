"""The place of an exported file: what belongs to it, whether it is free, and how it appears at once."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from checkpoints.files import notes_file
from checkpoints.files.atomic import new_files, new_folder
from tools.export.formats import Format

__all__ = ["appearing", "check_target", "described_file", "files_of", "weights_file"]


def check_target(made: Format, target: Path, overwrite: bool) -> None:
    """Raises OSError if the target cannot be created, or would replace something."""
    folder = target.absolute().parent
    if not folder.is_dir():
        raise FileNotFoundError(f"There is no folder {folder} for {target.name}: create it.")
    there = [file for file in _own_files(made, target) if os.path.lexists(file)]
    if not made.ending and target.is_dir() and not target.is_symlink():
        if not (inside := sorted(target.iterdir())):
            return
        if described_file(made, target) not in inside:
            raise FileExistsError(f"{target} holds something else than a SavedModel: give another name.")
    elif strange := [file for file in there if not made.ending or file.is_symlink() or not file.is_file()]:
        what = "plain file" if made.ending else "folder"
        raise FileExistsError(f"{strange[0]} is not a {what}, and is not replaced: give another name.")
    if there and not overwrite:
        raise FileExistsError(f"{there[0]} exists: give another name, or overwrite=True.")


def _own_files(made: Format, target: Path) -> list[Path]:
    """Returns the paths that belong to a target: its file and those beside it, or its folder."""
    if not made.ending:
        return [target]
    weights = [target.with_suffix(made.weights_ending)] if made.weights_ending else []
    return [target, *weights, notes_file(described_file(made, target))]


@contextlib.contextmanager
def appearing(made: Format, target: Path, overwrite: bool) -> Iterator[Path]:
    """Yields the path to write to; what is there appears as the target at the end of the block."""
    if made.ending:
        with new_files(target.absolute().parent, target.name) as folder:
            yield folder / target.name
        return
    with new_folder(target, replace=overwrite) as folder:
        folder.rmdir()  # TensorFlow makes it
        yield folder


def files_of(made: Format, target: Path) -> list[Path]:
    """Returns the paths of all files of an existing target."""
    return _own_files(made, target) if made.ending else sorted(file for file in target.rglob("*") if file.is_file())


def described_file(made: Format, target: Path) -> Path:
    """Returns the file of a target beside which its description stands."""
    return target if made.ending else target / "saved_model.pb"


def weights_file(made: Format, target: Path) -> Path:
    """Returns the file of a target that changes with its weights; in a SavedModel, the index of its variables."""
    index = target / "variables" / "variables.index"
    return index if not made.ending and index.is_file() else described_file(made, target)
