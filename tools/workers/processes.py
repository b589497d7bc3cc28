"""Processes of this machine that share the shards of a job by the job's own locks."""

import multiprocessing
import signal
import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess

from tools.errors import InputError
from tools.workers import ShardMaker, Work

__all__ = ["make_with_processes"]


def make_with_processes(work: Work, shards: Sequence[int], workers: int, advance: Callable[[int], None]) -> None:
    """Makes shards with so many processes, each of which takes those that no other one is at.

    Raises:
      InputError: if a process cannot make one, or is killed; the others are ended then, and what is done stays.
    """
    context = multiprocessing.get_context("spawn")
    workers = min(workers, len(shards))
    with ExitStack() as stack:
        processes = {}
        for number in range(workers):
            ours, theirs = context.Pipe(duplex=False)
            # Not all at the same one at once.
            first = number * len(shards) // workers
            process = context.Process(
                target=_work, args=(work, [*shards[first:], *shards[:first]], theirs), daemon=True
            )
            process.start()
            stack.callback(process.join)
            stack.callback(process.terminate)
            theirs.close()
            processes[stack.enter_context(ours)] = process
        while processes:
            for connection in wait(list(processes)):
                try:
                    message = connection.recv()
                except EOFError:
                    _check_end(processes.pop(connection))
                    continue
                if isinstance(message, str):
                    raise InputError(message)
                advance(message)


def _check_end(process: BaseProcess) -> None:
    """Raises InputError if a process has not ended as it should."""
    process.join()
    if process.exitcode:
        how = f"was killed by signal {-process.exitcode}" if process.exitcode < 0 else f"failed ({process.exitcode})"
        raise InputError(f"A worker {how}: what is done is kept, and the same command goes on with the rest.")


def _work(work: Work, shards: Sequence[int], connection: Connection) -> None:
    """A process: sends the number of images whenever some are done, or the sentence why it cannot."""
    # Ctrl-C at the terminal is for the process that started this one, which ends it by SIGTERM.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _stop)
    try:
        try:
            with ShardMaker(work) as maker:
                for shard in shards:
                    maker.make(shard, connection.send)
        except MemoryError as error:
            connection.send(f"Memory does not suffice ({error}): take smaller images or batches, or fewer workers.")
        except (ImportError, OSError, ValueError) as error:
            connection.send(str(error))
    except BrokenPipeError:  # who started this one is gone
        sys.exit(1)


def _stop(*_: object) -> None:
    """Ends the process; it cleans up undisturbed by a second signal, such as the parent's after the terminal's."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    sys.exit(1)
