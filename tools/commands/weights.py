"""``slimnets weights``: lists the published weights, and whether they are on this machine."""

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tools.commands.arguments import add_checkpoint_dir
from tools.terminal.tables import print_table

if TYPE_CHECKING:
    from checkpoints.published import CatalogEntry

__all__ = ["add", "print_weights", "weights_row"]


def add(commands: argparse._SubParsersAction) -> None:
    """Adds the command to the parser."""
    parser = commands.add_parser("weights", help="list the published weights, and whether they are on this machine")
    parser.add_argument("key", nargs="?", metavar="KEY", help="published weights to show in detail (default: list all)")
    parser.add_argument("--json", action="store_true", help="print JSON")
    add_checkpoint_dir(parser)
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> int:
    print_weights(arguments.key, arguments.json, arguments.checkpoint_dir)
    return 0


def weights_row(key: str, folder: str | Path | None = None) -> dict[str, Any]:
    """Returns the row of one entry in ``slimnets weights``. ``folder`` is where downloads are stored."""
    from checkpoints.published import find, get_entry

    entry = get_entry(key)
    return {
        "key": entry.key,
        "network": entry.network,
        "classes": entry.num_classes,
        "preprocessing": entry.preprocessing,
        "image_size": entry.image_size,
        "top_1": entry.top_1,
        "top_5": entry.top_5,
        "installed": find(key, folder) is not None,
    }


def print_weights(key: str | None, as_json: bool, folder: str | Path | None = None) -> None:
    """Prints the catalog, or the details of one entry, as a table or as JSON.

    Raises:
      ValueError: for an unknown key.
    """
    from checkpoints.published import CATALOG, get_entry

    if key is not None:
        _print_details(_details(get_entry(key), folder), as_json)
        return
    rows = [weights_row(key, folder) for key in CATALOG]
    if as_json:
        print(json.dumps(rows, indent=2))
        return
    header = ("key", "network", "classes", "preprocessing", "image size", "top-1", "top-5", "installed")
    print_table(header, [[_text(cell) for cell in row.values()] for row in rows])


def _details(entry: "CatalogEntry", folder: str | Path | None) -> dict[str, Any]:
    from checkpoints.published import find

    path = find(entry.key, folder)
    details = {"url": entry.url, "sha256": entry.sha256, "checkpoint": entry.checkpoint}
    return {**weights_row(entry.key, folder), **details, "path": None if path is None else str(path)}


def _print_details(details: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print(json.dumps(details, indent=2))
        return
    print_table(("property", "value"), [(name.replace("_", " "), _text(value)) for name, value in details.items()])


def _text(cell: object) -> object:
    return {True: "yes", False: "no"}[cell] if isinstance(cell, bool) else cell
