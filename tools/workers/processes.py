"""Makes shards with processes of this machine, which share the work by the job's locks."""

import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import NoReturn

from tools.errors import InputError
from tools.workers import ShardMaker, Work

__all__ = ["make_with_processes"]

# Exit status of a worker that was stopped.
_STOPPED = 128 + signal.SIGTERM

# Seconds.
_PATIENCE = 1


def make_with_processes(work: Work, shards: Sequence[int], workers: int, advance: Callable[[int], None]) -> None:
    """Makes shards with several processes, each of which takes shards that no other one is working on.

    Raises:
      InputError: if a process fails or is killed. The others are then stopped, and finished shards are kept.
    """
    from tools.features.folder import remove_leftovers  # here, as workers import TensorFlow quietly first

    context = multiprocessing.get_context("spawn")
    workers = min(workers, len(shards))
    with ExitStack() as stack:
        stack.callback(remove_leftovers, Path(work.folder, work.output))  # after all workers have ended
        processes = {}
        for number in range(workers):
            ours, theirs = context.Pipe(duplex=False)
            # Each starts with a different shard.
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
    """Raises InputError if a process has failed or was killed."""
    process.join()
    if process.exitcode == _STOPPED:
        # A signal to all processes of the command reaches this one as well, and may be about to.
        time.sleep(_PATIENCE)
    if process.exitcode:
        how = f"was killed by signal {-process.exitcode}" if process.exitcode < 0 else f"failed ({process.exitcode})"
        raise InputError(f"A worker {how}: finished shards are kept; run the same command again for the rest.")


def _work(work: Work, shards: Sequence[int], connection: Connection) -> None:
    """Runs in a process. Sends the number of images whenever some are done, or an error message."""
    # On Ctrl-C the parent stops this process with SIGTERM.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _stop)
    try:
        try:
            with ShardMaker(work) as maker:
                for shard in shards:
                    maker.make(shard, connection.send)
        except MemoryError as error:
            connection.send(f"Out of memory ({error}): use smaller images or batches, or fewer workers.")
        except (ImportError, OSError, ValueError) as error:
            connection.send(str(error))
    except BrokenPipeError:  # the parent has gone
        sys.exit(1)


def _stop(*_: object) -> NoReturn:
    """Ends the process at once, wherever it is: the parent removes what it leaves unfinished."""
    os._exit(_STOPPED)
