"""``slimnets neighbours``: prints and draws the images that are most like others, by their features."""

import argparse
import json
import sys
from typing import TYPE_CHECKING, Any

from tools.commands.arguments import positive
from tools.terminal.progress import progress
from tools.terminal.stopping import stoppable
from tools.terminal.tables import print_table

if TYPE_CHECKING:
    from tools.visualization import Neighbours

__all__ = ["add"]


def add(commands: argparse._SubParsersAction) -> None:
    """Adds the command to the parser."""
    parser = commands.add_parser("neighbours", help="find the images that are most like others, by their features")
    parser.add_argument("features", metavar="FEATURES", help="folder that `slimnets features` wrote")
    parser.add_argument(
        "query", metavar="QUERY", help="image or folder of images, number of a row, or another folder of features"
    )
    parser.add_argument("--top", type=positive, default=10, metavar="N", help="number of neighbours (default 10)")
    parser.add_argument(
        "--metric", choices=("cosine", "euclidean"), default="cosine", help="measure of similarity (default cosine)"
    )
    parser.add_argument(
        "--end-point", metavar="NAME", help="end point to compare (default: the only one, or global_pool)"
    )
    parser.add_argument(
        "--method",
        choices=("exact", "faiss"),
        help="compare all rows, or ask an index that is saved beside the features (default: faiss, if it is installed, "
        "from 1,000,000 rows on)",
    )
    parser.add_argument(
        "--checkpoint", metavar="PATH", help="where the checkpoint of the features is (default: as in run.json)"
    )
    parser.add_argument(
        "--images",
        nargs="+",
        metavar="INPUT",
        help="inputs that the features are of, for the sheet (default: their names are paths of files)",
    )
    parser.add_argument("--output", metavar="DIR", help="folder for neighbours.csv and neighbours.png")
    parser.add_argument("--overwrite", action="store_true", help="replace earlier results in the folder")
    parser.add_argument("--json", action="store_true", dest="as_json", help="print JSON")
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> int:
    from tools.images import open_inputs
    from tools.visualization import neighbours

    names = ("top", "metric", "end_point", "method", "checkpoint", "output", "overwrite")
    images = open_inputs(arguments.images) if arguments.images else None
    with stoppable(), progress("neighbours", None, "rows", brief=True) as advance:
        result = neighbours(
            arguments.features,
            arguments.query,
            **{name: getattr(arguments, name) for name in names},
            images=images,
            advance=advance,
        )
    if result.index is not None:
        print(f"index of faiss, {result.index.stat().st_size / 1e6:,.0f} MB: {result.index}", file=sys.stderr)
    if arguments.as_json:
        print(json.dumps(_record(result), indent=2))
        return 0
    value = "similarity" if result.metric == "cosine" else "distance"
    print_table(("query", "rank", "row", value, "label", "image"), _rows(result))
    return 0


def _record(result: "Neighbours") -> dict[str, Any]:
    value = "similarity" if result.metric == "cosine" else "distance"
    return {
        "end_point": result.end_point,
        "metric": result.metric,
        "queries": [
            {
                "query": query,
                "neighbours": [
                    {"row": one.row, "path": one.path, "label": one.label, value: one.value} for one in found
                ],
            }
            for query, found in zip(result.queries, result.found, strict=True)
        ],
    }


def _rows(result: "Neighbours") -> list[tuple[object, ...]]:
    return [
        (query if rank == 1 else "", rank, str(one.row), f"{one.value:.4f}", one.label or None, one.path)
        for query, found in zip(result.queries, result.found, strict=True)
        for rank, one in enumerate(found, start=1)
    ]
