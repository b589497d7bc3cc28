"""``slimnets download``: downloads published weights, verifies them, and prints their path."""

import argparse
import math
from contextlib import ExitStack, closing

from tools.commands.arguments import add_checkpoint_dir
from tools.terminal.progress import progress

__all__ = ["DownloadProgress", "add"]

_MEGABYTE = 1_000_000


def add(commands: argparse._SubParsersAction) -> None:
    """Adds the command to the parser."""
    parser = commands.add_parser("download", help="download published weights, verify them, and print their path")
    parser.add_argument("key", metavar="KEY", help="a key that `slimnets weights` lists")
    parser.add_argument(
        "--from", dest="from_file", metavar="FILE", help="install from this archive instead of downloading it"
    )
    add_checkpoint_dir(parser, "--to")
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> int:
    from checkpoints.published import download, install

    if arguments.from_file is not None:
        path = install(arguments.key, arguments.from_file, arguments.checkpoint_dir)
    else:
        with closing(DownloadProgress(f"download {arguments.key}")) as bar:
            path = download(arguments.key, arguments.checkpoint_dir, progress=bar)
    print(path)
    return 0


class DownloadProgress:
    """A progress bar in whole megabytes for ``checkpoints.download``, which counts bytes."""

    def __init__(self, description: str) -> None:
        self._description = description
        self._stack = ExitStack()
        self._total = 0

    @property
    def total(self) -> int:
        return self._total

    @total.setter
    def total(self, total: int) -> None:
        """Starts the bar, also again for another attempt."""
        self.close()
        self._total, self._received, self._shown = total, 0, 0
        megabytes = math.ceil(total / _MEGABYTE)
        self._advance = self._stack.enter_context(progress(self._description, megabytes, "MB"))

    def update(self, count: int) -> None:
        # At most the total: pooch counts the last chunk as a full one, and then adds the total once more.
        self._received = min(self._received + count, self._total)
        complete = self._received == self._total
        megabytes = (math.ceil if complete else math.floor)(self._received / _MEGABYTE)
        if megabytes > self._shown:
            self._advance(megabytes - self._shown)
            self._shown = megabytes

    def reset(self) -> None:
        """Does nothing. After it, pooch adds the total, which the bar has already reached."""

    def close(self) -> None:
        self._stack.close()
