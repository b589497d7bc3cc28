"""The errors of this room, and what their sentences share."""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

__all__ = ["CheckpointError", "CheckpointMismatch", "DownloadError", "Problem", "damaged", "first_line", "shortened"]


class CheckpointError(ValueError):
    """A file that is no checkpoint, or a damaged one; the message says which, and what to do.

    kind: of the problem, one word or two: 'missing', 'incomplete', 'ambiguous', 'unreadable', 'damaged', 'mismatch',
      'dtype', one of ``formats.FileFormat``, or one of ``diagnosis``.
    format: what the file is instead of a checkpoint, where that is known.
    """

    def __init__(self, message: str, kind: str = "damaged", format: str | None = None) -> None:
        super().__init__(message)
        self.kind = kind
        self.format = format


class CheckpointMismatch(CheckpointError):  # noqa: N818
    """A graph and a checkpoint that do not fit.

    missing: variables of the graph that the file has no value for.
    mismatched: from variables that have another shape in the file to (shape in the graph, shape in the file).
    unused: names in the file that no variable of the graph has.
    """

    def __init__(
        self,
        message: str,
        missing: Sequence[str],
        mismatched: Mapping[str, tuple[tuple[int, ...], tuple[int, ...]]],
        unused: Sequence[str],
    ) -> None:
        super().__init__(message, "mismatch")
        self.missing = tuple(missing)
        self.mismatched = dict(mismatched)
        self.unused = tuple(unused)


class DownloadError(OSError):
    """A download that failed; the message says why, and what to do."""


class Problem(NamedTuple):
    """Something that is wrong with a checkpoint.

    kind: one word or two, for programs.
    sentence: what is wrong, and what to do.
    """

    kind: str
    sentence: str


def damaged(path: str | Path, error: Exception) -> CheckpointError:
    """What to raise where a package could not read a file, and raised something of its own."""
    return CheckpointError(f"{path} is damaged or cut short ({first_line(error)}): fetch or copy it again.")


def first_line(error: Exception) -> str:
    """What an error says, without the rest; its type, where it says nothing."""
    return next(iter(str(error).splitlines()), type(error).__name__)


def shortened(names: Collection[str], limit: int = 5) -> str:
    """The first of the names, and how many more there are."""
    shown = ", ".join(list(names)[:limit])
    return shown if len(names) <= limit else f"{shown}, and {len(names) - limit} more"
