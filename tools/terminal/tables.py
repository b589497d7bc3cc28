"""Prints tables on stdout, uncut if stdout is not a terminal."""

import sys
from collections.abc import Iterable, Sequence

from tools.terminal.visible import visible

__all__ = ["print_table"]

# Wide enough for any row. Only on a narrower terminal rows are folded.
_WIDTH_OF_A_FILE = 200


def print_table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Prints rows under a header. Columns of numbers are right-aligned, and None is shown as a dash."""
    from rich.box import SIMPLE_HEAD  # here, as most commands print no table
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    rows = [list(row) for row in rows]
    table = Table(box=SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for column, title in enumerate(header):
        numeric = all(isinstance(row[column], int | float | None) for row in rows)
        table.add_column(title, justify="right" if numeric else "left", overflow="fold")
    for row in rows:
        # Text, so that brackets and colons are not markup.
        table.add_row(*(Text(_text(cell), overflow="fold") for cell in row))
    Console(width=None if sys.stdout.isatty() else _WIDTH_OF_A_FILE, highlight=False).print(table)


def _text(cell: object) -> str:
    if cell is None:
        return "-"
    return f"{cell:,}" if isinstance(cell, int) else visible(str(cell), lines=False)
