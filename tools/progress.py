"""Progress of long work on stderr: a bar with rate and time left on a terminal, plain lines elsewhere."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

__all__ = ["Advance", "progress"]

# Seconds between two plain lines.
_INTERVAL = 10.0


class Advance(Protocol):
    """Function that reports so many more items done."""

    def __call__(self, count: int) -> None: ...


@contextmanager
def progress(description: str, total: int, unit: str) -> Iterator[Advance]:
    """Reports on work of ``total`` items; gives the function to call as they get done."""
    if sys.stderr.isatty():
        with _bar(description, total, unit) as advance:
            yield advance
    else:
        yield _lines(description, total, unit)


@contextmanager
def _bar(description: str, total: int, unit: str) -> Iterator[Advance]:
    rate = TextColumn(f"{{task.fields[rate]:.1f}} {unit}/s")
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), rate, TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(description, total=total, rate=0.0)

        def advance(count: int) -> None:
            bar.advance(task, count)
            bar.update(task, rate=bar.tasks[0].speed or 0.0)

        yield advance


def _lines(description: str, total: int, unit: str) -> Advance:
    done, start = 0, time.perf_counter()
    last_line = start

    def advance(count: int) -> None:
        nonlocal done, last_line
        done += count
        now = time.perf_counter()
        if done == total or now - last_line >= _INTERVAL:
            last_line = now
            rate = done / (now - start)
            left = f", {(total - done) / rate:.0f} s left" if done < total else ""
            print(f"{description}: {done}/{total}, {rate:.1f} {unit}/s{left}", file=sys.stderr, flush=True)

    return advance
