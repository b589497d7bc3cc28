"""Writes the golden files: variables, end points and parameter counts of every network, taken from ``originals``.

    python -m tests.golden.make            shows what would change
    python -m tests.golden.make --write    writes it

The values come from other implementations, not from ours.
"""

import argparse
import difflib
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from nets import nets_factory
from tests.golden import originals

FOLDER = Path(__file__).parent


def golden_file(name: str) -> Path:
    """Returns the path of a network's golden file."""
    return FOLDER / f"{name}.json"


def text(golden: dict[str, Any]) -> str:
    """Returns a golden file's text: one line per variable and end point."""
    lines = json.dumps(golden, indent=1).splitlines()
    # json breaks shapes over several lines; one line each keeps diffs readable.
    joined: list[str] = []
    for line in lines:
        if joined and joined[-1].count("[") > joined[-1].count("]"):
            joined[-1] += (
                line.strip() if line.strip() in ("]", "],") or joined[-1].endswith("[") else " " + line.strip()
            )
        else:
            joined.append(line)
    return "\n".join(joined) + "\n"


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="write the files")
    arguments = parser.parse_args(argv)
    different = 0
    for name in nets_factory.NETWORKS:
        new = text(originals.describe(name))
        file = golden_file(name)
        old = file.read_text(encoding="utf-8") if file.exists() else ""
        if new != old:
            different += 1
            sys.stdout.writelines(
                difflib.unified_diff(old.splitlines(True), new.splitlines(True), str(file), "new", n=0)
            )
            if arguments.write:
                file.write_text(new, encoding="utf-8")
    print(f"{different} of {len(nets_factory.NETWORKS)} golden files {'written' if arguments.write else 'differ'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
