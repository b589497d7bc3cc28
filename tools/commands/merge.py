"""``slimnets merge``: joins the shards that ``slimnets features`` wrote into one folder."""

import argparse

from tools.terminal.progress import progress

__all__ = ["add"]


def add(commands: argparse._SubParsersAction) -> None:
    """Adds the command to the parser."""
    parser = commands.add_parser("merge", help="join the shards that `slimnets features` wrote into one folder")
    parser.add_argument("folders", nargs="+", metavar="DIR", help="folders that together hold all shards")
    parser.add_argument("--output", required=True, metavar="DIR", help="new or empty folder to write")
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> int:
    from tools.features import merge
    from tools.features.merging import images_of_job

    with progress("merge", images_of_job(arguments.folders), "images") as advance:
        rows = merge(arguments.folders, arguments.output, advance=advance)
    print(f"{rows} images merged: {arguments.output}")
    return 0
