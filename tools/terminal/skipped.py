"""Reports files that were skipped."""

import sys
from collections.abc import Mapping

__all__ = ["say_skipped"]


def say_skipped(skipped: Mapping[str, int]) -> None:
    """Prints how many files of each kind were skipped, if any were."""
    if skipped:
        print(f"skipped: {', '.join(f'{count:,} {kind}' for kind, count in skipped.items())}", file=sys.stderr)
