"""``slimnets map``: draws a map on which images with similar features are close."""

import argparse
import json

from tools.commands.arguments import positive
from tools.terminal.stopping import stoppable
from tools.terminal.tables import print_table

__all__ = ["add"]


def add(commands: argparse._SubParsersAction) -> None:
    """Adds the command to the parser."""
    parser = commands.add_parser("map", help="draw a map on which images with similar features are close")
    parser.add_argument("features", metavar="FEATURES", help="folder that `slimnets features` wrote")
    parser.add_argument(
        "--output", required=True, metavar="DIR", help="folder for index.html, map.png, points.csv and projector"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace an earlier map in the folder")
    parser.add_argument(
        "--method",
        choices=("pca", "tsne", "umap"),
        default="pca",
        help="principal components; or t-SNE or UMAP, which require the extra `map` (default pca)",
    )
    parser.add_argument(
        "--color",
        choices=("label", "cluster", "none"),
        help="what the colours show (default: the labels, if the images have some)",
    )
    parser.add_argument(
        "--num-clusters", type=positive, default=10, metavar="N", help="clusters for --color cluster (default 10)"
    )
    parser.add_argument("--end-point", metavar="NAME", help="end point to map (default: the only one, or global_pool)")
    parser.add_argument("--sample", type=int, metavar="N", help="map N images, chosen at random (default: all)")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="seed of all that is random (default 0)")
    parser.add_argument(
        "--probe",
        action="store_true",
        help="measure how well the features tell the labels apart: by nearest neighbours and by a linear classifier "
        "(extra `map`)",
    )
    parser.add_argument(
        "--images",
        nargs="+",
        metavar="INPUT",
        help="inputs that the features are of, for the thumbnails (default: their names are paths of files)",
    )
    parser.add_argument("--json", action="store_true", dest="as_json", help="print JSON")
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> int:
    from tools.images import open_inputs
    from tools.visualization import feature_map

    names = ("method", "color", "num_clusters", "end_point", "sample", "seed", "overwrite")
    images = open_inputs(arguments.images) if arguments.images else None
    with stoppable():
        result = feature_map(
            arguments.features,
            arguments.output,
            **{name: getattr(arguments, name) for name in names},
            probe_labels=arguments.probe,
            images=images,
        )
    found = result.probe
    if arguments.as_json:
        record = {
            "images": len(result.names),
            "end_point": result.end_point,
            "explained": result.projection.explained,
            "probe": None if found is None else found._asdict(),
            "output": arguments.output,
        }
        print(json.dumps(record, indent=2))
        return 0
    if found is not None:
        figures = {
            "nearest 5 neighbours": found.k_nearest,
            "linear classifier": found.linear,
            "silhouette of the map": found.silhouette,
        }
        print_table(
            ("measure", "value", "images"), [(name, f"{value:.4f}", found.images) for name, value in figures.items()]
        )
        print()
    print(f"{len(result.names):,} images by {result.end_point}: {arguments.output}/index.html")
    return 0
