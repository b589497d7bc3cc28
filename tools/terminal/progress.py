"""Reports progress on stderr: a bar with rate and remaining time on a terminal, plain lines elsewhere."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Protocol

__all__ = ["progress", "rate_limited"]


class Advance(Protocol):
    """Reports progress: the number of items done since the last call, and what else is worth showing."""

    def __call__(self, count: int, note: str = "") -> None: ...


# Seconds between two plain lines.
_INTERVAL = 10.0

# Seconds between two reports of work whose items are being timed.
_SHORT_INTERVAL = 0.1


@contextmanager
def progress(description: str, total: int | None, unit: str, *, brief: bool = False) -> Iterator[Advance]:
    """Reports on work of ``total`` items.

    Args:
      description: of the work.
      total: number of items; None if it is unknown.
      unit: of the items, in the plural.
      brief: whether the work is usually so short that its end alone is not worth a line.

    Yields:
      A function to call with the number of items done since the last call. Nothing is shown before the first call,
      and the rate counts from there. Calling it with 0 says that the work begins.
    """
    with ExitStack() as stack:
        begun: Advance | None = None

        def advance(count: int, note: str = "") -> None:
            nonlocal begun
            if begun is None:
                begun = (
                    stack.enter_context(_bar(description, total, unit))
                    if sys.stderr.isatty()
                    else _lines(description, total, unit, brief)
                )
            if count or note:
                begun(count, note)

        yield advance


@contextmanager
def _bar(description: str, total: int | None, unit: str) -> Iterator[Advance]:
    from rich.console import Console  # here, as only a terminal shows a bar
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    rate = TextColumn(f"{{task.fields[rate]:.1f}} {unit}/s")
    note_column = TextColumn("{task.fields[note]}")
    columns = (
        *(TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), rate, TimeRemainingColumn()),
        note_column,
    )
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(description, total=total, rate=0.0, note="")

        def advance(count: int, note: str = "") -> None:
            bar.advance(task, count)
            bar.update(task, rate=bar.tasks[0].speed or 0.0, note=note)

        yield advance


def _lines(description: str, total: int | None, unit: str, brief: bool) -> Advance:
    done, start = 0, time.perf_counter()
    last_line = start
    has_end = not brief

    def advance(count: int, note: str = "") -> None:
        nonlocal done, last_line, has_end
        done += count
        now = time.perf_counter()
        if (has_end and done == total) or now - last_line >= _INTERVAL:
            last_line, has_end = now, True
            rate = done / (now - start)
            left = f", {(total - done) / rate:.0f} s left" if total is not None and done < total else ""
            of = "" if total is None else f"/{total}"
            note = f", {note}" if note else ""
            print(f"{description}: {done}{of}, {rate:.1f} {unit}/s{left}{note}", file=sys.stderr, flush=True)

    return advance


def rate_limited(advance: Advance, total: int) -> Callable[[int], None]:
    """Returns a function that calls ``advance`` at most every tenth of a second with the sum so far, and at the end."""
    waiting = done = 0
    last = time.perf_counter()

    def report(count: int) -> None:
        nonlocal waiting, done, last
        waiting += count
        done += count
        now = time.perf_counter()
        if now - last >= _SHORT_INTERVAL or done == total or not count:
            last = now
            advance(waiting)
            waiting = 0

    return report
