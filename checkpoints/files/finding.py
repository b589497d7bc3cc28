"""Finds the files of a checkpoint, in either format, or of a graph; ``identifying`` tells what other files are."""

import difflib
import re
from collections.abc import Sequence
from pathlib import Path

import tensorflow as tf

from checkpoints.errors import CheckpointError
from checkpoints.files.identifying import SAVED_MODEL, FileFormat, identify, identify_folder, read_varint
from checkpoints.files.notes import notes_file

__all__ = ["data_files", "find_checkpoint", "shards"]

# Both formats are sorted string tables (LevelDB's). Their footer holds the positions of two blocks, each a pair of
# integers of variable length, padded to 40 bytes, and this magic number. The second block, the index, ends where the
# footer begins.
_TABLE_MAGIC = bytes.fromhex("57fb808b247547db")
_FOOTER = 48
# The size of the type and checksum behind a block.
_BLOCK_TRAILER = 5

# The endings of the names of a checkpoint in several files: the number of the file, and how many there are.
_NUMBER = r"-\d{5}-of-\d{5}"
_DATA = rf"\.data{_NUMBER}"
# The file of a SavedModel with its graph, and the name of its variables, relative to its folder.
_SAVED_MODELS = ("saved_model.pb", "saved_model.pbtxt")
_SAVED_VARIABLES = Path("variables", "variables")
_PART_OF_BUNDLE = re.compile(rf"(\.index|\.meta|{_DATA})$")


def find_checkpoint(path: str | Path) -> tuple[Path, str]:
    """Returns (name, format) of a checkpoint or a graph.

    Args:
      path: a path, as for ``checkpoints.open_checkpoint``.

    Returns:
      A checkpoint's name for TensorFlow and 'V1' or 'V2'; the path of a graph's file and ``FROZEN_GRAPH`` or
      ``SAVED_MODEL``; or the name of a SavedModel's variables and ``SAVED_MODEL``.

    Raises:
      CheckpointError: if there is no checkpoint, or it is incomplete.
    """
    given = Path(path)
    try:
        if given.name == "checkpoint" and _names_checkpoints(given):
            given = given.parent
        if given.is_dir() and not Path(f"{given}.index").is_file():
            return _find_file(path, _in_directory(given))
        return _find_file(path, given)
    except OSError as error:
        reason = error.strerror or error
        raise CheckpointError(f"{path} cannot be read ({reason}): check its permissions.", "unreadable") from error


def _names_checkpoints(file: Path) -> bool:
    if not file.is_file():
        return False
    with file.open("rb") as stream:
        return b"model_checkpoint_path" in stream.read(4096)


def _matching(prefix: Path, pattern: str) -> list[Path]:
    """Returns the files beside ``prefix`` whose names are its own followed by that pattern."""
    if not prefix.parent.is_dir():
        return []
    compiled = re.compile(re.escape(prefix.name) + pattern)
    return sorted(file for file in prefix.parent.iterdir() if compiled.fullmatch(file.name))


def data_files(prefix: Path) -> list[Path]:
    """Returns the files that hold the values of a V2 checkpoint."""
    return _matching(prefix, _DATA)


def shards(prefix: Path) -> list[Path]:
    """Returns the files of a V1 checkpoint that was saved in several; none for one in a single file."""
    return _matching(prefix, _NUMBER)


def _in_directory(folder: Path) -> Path:
    named = _named_by(folder)
    gone = f"the file 'checkpoint' names {named}, which is gone, and " if named else ""
    if named and (present := _here_or_where_it_was_saved(folder, named)):
        return present
    # Names that begin with a dot are left out: macOS writes such files on the disks of other systems.
    files = sorted(file for file in folder.iterdir() if file.is_file() and not file.name.startswith("."))
    bundles = [file for file in files if file.suffix == ".index"]
    found = bundles or [file for file in files if _table_problem(file) is None]
    prefixes = sorted({_prefix(file) for file in found}, key=_by_step)
    if len(prefixes) == 1:
        return prefixes[0]
    if not prefixes:
        if saved_models := [folder / name for name in _SAVED_MODELS if (folder / name).is_file()]:
            return saved_models[0]
        if data := [file for file in files if re.search(f"{_DATA}$", file.name)]:
            return data[0]  # its index is missing, which opening it reports
        if instead := identify_folder(folder):
            raise CheckpointError(f"{folder} is {instead.name}: {instead.advice}.", instead.kind, instead.name)
        raise CheckpointError(
            f"The folder {folder} holds no checkpoint: {gone}there is neither a .ckpt nor an .index file: give another "
            "folder, or the file itself.",
            "missing",
        )
    names = ", ".join(prefix.name for prefix in prefixes)
    raise CheckpointError(
        f"In the folder {folder} {gone}there are several checkpoints: give one of {names}.", "ambiguous"
    )


def _named_by(folder: Path) -> Path | None:
    """Returns the newest checkpoint that a folder's file 'checkpoint' names; None if it names none."""
    try:
        state = tf.train.get_checkpoint_state(str(folder))
    except (tf.errors.OpError, ValueError):
        return None  # empty, or in another encoding: the folder is searched
    return Path(state.model_checkpoint_path) if state else None


def _here_or_where_it_was_saved(folder: Path, saved: Path) -> Path | None:
    # A folder that was moved, even from another system, still names its old place; files in this folder come first.
    name = re.sub(r"-\?{5}-of-\d{5}$", "", saved.name.rpartition("\\")[2])
    candidates = (folder / name, saved.with_name(name))
    return next(
        (path for path in candidates if Path(f"{path}.index").is_file() or path.is_file() or shards(path)), None
    )


def _by_step(prefix: Path) -> tuple[str, int]:
    """Returns a key that sorts names such as model.ckpt-10000 in the order of training."""
    stem, _, step = prefix.name.rpartition("-")
    return (stem, int(step)) if step.isdigit() else (prefix.name, 0)


def _prefix(file: Path) -> Path:
    """Returns TensorFlow's name of the checkpoint that a file belongs to."""
    return file.with_name(re.sub(f"{_NUMBER}$", "", _PART_OF_BUNDLE.sub("", file.name)))


def _find_file(path: str | Path, given: Path) -> tuple[Path, str]:
    variables = given.parent / _SAVED_VARIABLES
    if given.name in _SAVED_MODELS and Path(f"{variables}.index").is_file():
        return _find_file(path, variables)[0], SAVED_MODEL
    prefix = _prefix(given)
    for candidate in (given, prefix):
        index = Path(f"{candidate}.index")
        if index.is_file() and not (candidate == prefix != given and _is_v1(index)):
            _check_bundle(path, candidate, index)
            return candidate, "V2"
    if not given.exists() and _is_v1(prefix):
        given = prefix  # a script names a part, but the checkpoint is a single file
    if not _is_v1(given) and (_PART_OF_BUNDLE.search(given.name) or data_files(given)):
        raise CheckpointError(
            f"{path} is part of a checkpoint whose file {index.name} is missing: copy it along.", "incomplete"
        )
    if pieces := shards(prefix):
        _check_numbered(path, pieces)
        for shard in pieces:
            _check_table(path, shard)
        return prefix, "V1"
    if not given.exists():
        raise CheckpointError(f"There is no checkpoint at {path}: {_why_missing(given)}.", "missing")
    if not given.is_file():
        raise CheckpointError(f"{path} is neither a file nor a folder: give a checkpoint.", "unreadable")
    if _table_problem(given) == "magic":
        found = identify(given)
        if found.opens is None:
            raise _not_a_checkpoint(path, given, found)
        return given, found.opens
    _check_table(path, given)
    return given, "V1"


def _why_missing(given: Path) -> str:
    if given.is_symlink():
        return f"it is a link to {given.readlink()}, which leads nowhere"
    if not given.parent.is_dir():
        return f"there is no folder {given.parent}"
    files = [file for file in given.parent.iterdir() if not file.name.startswith(".")]
    notes = {notes_file(_prefix(file)) for file in files}
    files = [file for file in files if file not in notes]
    names = {file.name if file.is_dir() else _prefix(file).name for file in files}
    near = [name for name in sorted(names) if name.startswith(given.name)]
    near = near or difflib.get_close_matches(given.name, names)
    return "no such file, and no .index file of that name" + (f"; there is {', '.join(near[:3])}" if near else "")


def _is_v1(file: Path) -> bool:
    """Returns whether a file begins like a V1 file: a table with an empty key and a list of slices."""
    if not file.is_file():
        return False
    with file.open("rb") as stream:
        head = stream.read(16)
    _, start = read_varint(head, 2)
    return head[:2] == b"\x00\x00" and head[start : start + 1] == b"\x0a"


def _check_bundle(path: str | Path, prefix: Path, index: Path) -> None:
    _check_table(path, index)
    present = data_files(prefix)
    _check_numbered(path, present or [Path(f"{prefix}.data-00000-of-00001")])


def _check_numbered(path: str | Path, files: Sequence[Path]) -> None:
    """Raises CheckpointError if a file is missing; the name of the first one tells how many there are."""
    stem, count = files[0].name[: -len("00000-of-00000")], int(files[0].name[-5:])
    for i in range(count):
        name = f"{stem}{i:05d}-of-{count:05d}"
        if not files[0].with_name(name).is_file():
            others = [file.name for file in files[0].parent.iterdir() if ".data" in file.name and file not in files]
            repair = "unpack it" if others and others[0].endswith((".gz", ".zip")) else "give it that name"
            hint = f" (there is {others[0]}; if that is it, {repair})" if others else ""
            raise CheckpointError(f"The checkpoint {path} lacks its file {name}: copy it along{hint}.", "incomplete")


def _check_table(path: str | Path, file: Path) -> None:
    """Raises CheckpointError if a file does not end like a checkpoint; the message says what it is instead."""
    problem = _table_problem(file)
    if problem is None:
        return
    if problem == "footer":
        raise CheckpointError(f"{path} is damaged ({file.name} ends in a broken footer): fetch or copy it again.")
    raise _not_a_checkpoint(path, file, identify(file))


def _not_a_checkpoint(path: str | Path, file: Path, found: FileFormat) -> CheckpointError:
    within = "" if Path(path).name == file.name else f" ({file.name})"
    return CheckpointError(f"{path}{within} is {found.name}: {found.advice}.", found.kind, found.name)


def _table_problem(file: Path) -> str | None:
    """Returns 'magic' for a file that is not a table, 'footer' for one whose end is damaged, None for a sound one.

    TensorFlow checks the blocks themselves, but would allocate whatever size a damaged footer states.
    """
    size = file.stat().st_size
    with file.open("rb") as stream:
        stream.seek(max(size - _FOOTER, 0))
        footer = stream.read()
    if not footer.endswith(_TABLE_MAGIC):
        return "magic"
    if size < _FOOTER:
        return "footer"
    numbers, place = [], 0
    for _ in range(4):
        number, place = read_varint(footer, place)
        numbers.append(number)
    first_start, first_size, index_start, index_size = numbers
    whole = (
        first_start + first_size + _BLOCK_TRAILER == index_start
        and index_start + index_size + _BLOCK_TRAILER + _FOOTER == size
    )
    return None if whole else "footer"
