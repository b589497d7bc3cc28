"""``slimnets show``: draws what a network sees in images."""

import argparse
import json
import sys
from typing import TYPE_CHECKING, Any

from tools.commands.arguments import (
    add_images,
    add_labels,
    add_patterns,
    add_restoration,
    names_in,
    patterns_of,
    restoration_of,
)
from tools.terminal.network_input import described_input
from tools.terminal.progress import progress
from tools.terminal.skipped import say_skipped
from tools.terminal.stopping import stoppable
from tools.terminal.tables import print_table

if TYPE_CHECKING:
    from tools.images import Inputs
    from tools.visualization import Shown

__all__ = ["add"]


def add(commands: argparse._SubParsersAction) -> None:
    """Adds the command to the parser."""
    parser = commands.add_parser(
        "show", help="draw what a network sees in images: feature maps, class activation, receptive fields"
    )
    add_images(parser, "IMAGE")
    add_patterns(parser)
    parser.add_argument(
        "--end-points",
        metavar="NAME[,NAME...]",
        help="end points whose maps to show (default: those with a short name, such as conv1 and block1; of more than "
        "8, the last one of each size)",
    )
    parser.add_argument(
        "--cam",
        nargs="?",
        const="top",
        metavar="CLASS",
        help="show where the image speaks for a class, by its number or name (default: the most probable one)",
    )
    parser.add_argument(
        "--place",
        type=_place,
        metavar="Y,X",
        help="place whose receptive fields to draw, as shares of height and width (default 0.5,0.5)",
    )
    parser.add_argument(
        "--output", default="shown", metavar="DIR", help="folder for index.html and the pictures (default shown)"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace earlier results in the folder")
    add_labels(parser)
    add_restoration(parser, engines=False)
    parser.add_argument("--json", action="store_true", dest="as_json", help="print JSON")
    parser.set_defaults(run=_run)


def _place(text: str) -> tuple[float, float]:
    vertical, horizontal = map(float, text.split(","))
    return vertical, horizontal


_place.__name__ = "pair of numbers"


def _run(arguments: argparse.Namespace) -> int:
    from tools.features import FeatureExtractor
    from tools.images import open_inputs
    from tools.visualization import show

    inputs = open_inputs(arguments.inputs, **patterns_of(arguments))
    say_skipped(inputs.skipped)
    names = names_in(arguments.end_points) if arguments.end_points else None
    options = {**restoration_of(arguments), "freeze": False if arguments.precision == "float32" else None}
    with stoppable(), FeatureExtractor(end_points=names, **options) as extractor:
        print(f"{extractor.net} from {arguments.checkpoint}, {described_input(extractor)}", file=sys.stderr)
        with progress("show", len(inputs), "images", brief=True) as advance:
            result = show(
                inputs,
                extractor,
                arguments.output,
                end_points=names,
                cam=arguments.cam,
                labels=arguments.labels,
                place=arguments.place,
                overwrite=arguments.overwrite,
                advance=advance,
            )
    if arguments.as_json:
        print(json.dumps(_record(inputs, result), indent=2))
        return 0
    if result.classes:
        rows = [
            (inputs.name(i), f"{share:.4f}", str(number), label)
            for i, (number, label, share) in enumerate(result.classes)
        ]
        print_table(("image", "probability", "class", "label"), rows)
        print()
    count = f"{result.images:,} image{'s' * (result.images != 1)}"
    print(f"{count} shown by {', '.join(result.end_points)}: {result.page}")
    return 0


def _record(inputs: "Inputs", result: "Shown") -> dict[str, Any]:
    images: list[dict[str, Any]] = [{"path": inputs.name(number)} for number in range(result.images)]
    for image, (number, label, share) in zip(images, result.classes, strict=False):
        image |= {"class": number, "label": label, "probability": share}
    return {"page": str(result.page), "end_points": result.end_points, "images": images}
