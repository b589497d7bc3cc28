"""The errors of this package, and helpers for their messages."""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

__all__ = ["CheckpointError", "CheckpointMismatch", "DownloadError", "Problem", "damaged", "first_line", "shortened"]


class CheckpointError(ValueError):
    """A checkpoint that is missing, damaged or something else; the message says what is wrong and what to do.

    kind: the problem in one or two words, for programs: 'missing', 'incomplete', 'ambiguous', 'unreadable', 'damaged',
      'mismatch', 'dtype', a kind of ``files.identifying.FileFormat``, or of a ``Problem`` of ``diagnosis``.
    format: what the file is instead of a checkpoint, if that is known.
    """

    def __init__(self, message: str, kind: str = "damaged", format: str | None = None) -> None:
        super().__init__(message)
        self.kind = kind
        self.format = format


class CheckpointMismatch(CheckpointError):  # noqa: N818
    """A graph and a checkpoint that do not fit.

    missing: variables of the graph that the file has no value for.
    mismatched: variables of another shape in the file (name → shape in the graph, shape in the file).
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

    def __reduce__(self) -> tuple[Any, ...]:
        # By default, only the message would reach another process.
        return type(self), (str(self), self.missing, self.mismatched, self.unused), vars(self)


class DownloadError(OSError):
    """A failed download; the message says why, and what to do."""


class Problem(NamedTuple):
    """A fault of a checkpoint.

    kind: the fault in one or two words, for programs.
    sentence: what is wrong, and what to do.
    """

    kind: str
    sentence: str


def damaged(path: str | Path, error: Exception) -> CheckpointError:
    """Returns the error to raise when a package cannot read a file and raises an error of its own."""
    return CheckpointError(f"{path} is damaged or cut short ({first_line(error)}): fetch or copy it again.")


def first_line(error: Exception) -> str:
    """Returns the first line of an error's message, or its type if the message is empty."""
    return next(iter(str(error).splitlines()), type(error).__name__)


def shortened(names: Collection[str], limit: int = 5) -> str:
    """Returns the first names as a text, with the number of the others."""
    shown = ", ".join(list(names)[:limit])
    return shown if len(names) <= limit else f"{shown}, and {len(names) - limit} more"
