"""``slimnets convert``: weights from one file to another, and what became of them."""

import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from checkpoints.folders import write_whole
from checkpoints.writer import files_called
from tools.conversion import Conversion, convert
from tools.stopping import stoppable
from tools.tables import print_table

__all__ = ["run"]

# Of a name, beside what a file is called while it is written; most file systems take 255 bytes in all.
_LONGEST_NAME = 230


def run(source: str, target: str, *, report: str | None = None, **options: Any) -> int:
    """The command: converts, prints what was done, and returns 0.

    Args:
      source, target: as for ``tools.conversion.convert``.
      report: JSON file to write the same to.
      **options: of ``convert``.

    Raises:
      CheckpointError, ImportError, OSError, ValueError: as ``convert`` does.
    """
    if report is not None:
        if not report.strip() or report.endswith("/"):
            raise ValueError(f"The report {report!r} is no name of a file: give one, such as report.json.")
        _check_report(Path(report), (source, target), overwrite=options.get("overwrite", False))
    print(f"{source} to {target} ...", file=sys.stderr)
    with stoppable():
        done = convert(source, target, **options)
    if report is not None:
        write_whole(Path(report), json.dumps(done._asdict(), indent=2) + "\n")
    _print(done)
    return 0


def _check_report(report: Path, others: Sequence[str], overwrite: bool) -> None:
    """Refuses what would take the place of something, or could not be written once all else is done."""
    folder = report.absolute().parent
    if len(os.fsencode(report.name)) > _LONGEST_NAME:
        raise OSError(f"The report's name is longer than {_LONGEST_NAME} bytes: give a shorter one than {report.name}.")
    if not folder.is_dir():
        raise FileNotFoundError(f"There is no folder {folder} for the report: make it.")
    if not os.access(folder, os.W_OK):
        raise PermissionError(f"The folder {folder}, where the report is to be, cannot be written in: give another.")
    if report.resolve() in {file.resolve() for other in others for file in files_called(other)}:
        raise ValueError(f"The report {report} is one of the source's or the target's files: give another name.")
    if os.path.lexists(report) and (not overwrite or report.is_symlink() or not report.is_file()):
        raise FileExistsError(f"The report {report} exists: give another name, or overwrite=True.")


def _print(done: Conversion) -> None:
    if done.differences:
        print_table(
            ("end point", "largest difference"), [(name, f"{value:.1e}") for name, value in done.differences.items()]
        )
        print()
    for label, value in _facts(done):
        print(f"{label:<14}{value}")


def _facts(done: Conversion) -> list[tuple[str, str]]:
    facts = [("source", f"{done.source} ({done.source_kind})"), ("target", f"{done.target} ({done.target_kind})")]
    if not done.network:
        facts.append(("network", "none that is known, or several; the variables are copied as they are"))
    else:
        options = "".join(f", {name}={value!r}" for name, value in done.options.items())
        facts.append(("network", f"{done.network}{options}, {done.num_classes or 'no'} classes"))
        facts.append(("pooling", f"pool1_padding={done.pool1_padding!r}"))
        facts.append(("input", f"preprocessing {done.preprocessing} at {done.image_size}"))
    facts.append(("variables", f"{done.variables:,}, {len(done.folded):,} of them with another one folded in"))
    if done.notes:
        facts.append(("noted in", done.notes))
    if done.differences:
        worst = max(done.differences, key=done.differences.__getitem__)
        facts.append(("agreement", f"within {done.differences[worst]:.1e} ({worst}); {done.tolerance:g} is allowed"))
    return facts
