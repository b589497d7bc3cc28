"""Reports files that were skipped, and images that failed."""

import sys
from collections.abc import Mapping

from tools.terminal.visible import visible

__all__ = ["REASONS", "say_failed", "say_skipped"]

# Number of reasons that are printed; a command's files or --json have all of them.
REASONS = 10


def say_skipped(skipped: Mapping[str, int]) -> None:
    """Prints how many files of each kind were skipped, if any were."""
    if skipped:
        print(f"skipped: {', '.join(f'{count:,} {kind}' for kind, count in skipped.items())}", file=sys.stderr)


def say_failed(reasons: Mapping[str, int]) -> None:
    """Prints the most frequent reasons why images failed, and how many failed for each."""
    for reason, number in list(reasons.items())[:REASONS]:
        print(f"failed, {number:,}: {visible(reason)}", file=sys.stderr)
