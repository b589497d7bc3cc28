"""``slimnets classify``: prints the names of the most probable classes of images."""

import argparse
import json
import sys
from typing import TYPE_CHECKING, Any

from tools.commands.arguments import (
    add_images,
    add_labels,
    add_patterns,
    add_restoration,
    patterns_of,
    positive,
    restoration_of,
)
from tools.terminal.engine import prepare_engine
from tools.terminal.network_input import described_input
from tools.terminal.progress import progress
from tools.terminal.skipped import say_skipped
from tools.terminal.tables import print_table

if TYPE_CHECKING:
    from tools.features import Classification

__all__ = ["add"]


def add(commands: argparse._SubParsersAction) -> None:
    """Adds the command to the parser."""
    parser = commands.add_parser("classify", help="print the names of the most probable classes of images")
    add_images(parser, "IMAGE")
    add_patterns(parser)
    parser.add_argument(
        "--top", type=positive, default=5, metavar="N", help="number of classes to print for each image (default 5)"
    )
    add_labels(parser)
    parser.add_argument("--json", action="store_true", dest="as_json", help="print JSON")
    add_restoration(parser)
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> int:
    from tools.features import classify
    from tools.features.classification import class_names, classifier
    from tools.images import open_inputs

    inputs = open_inputs(arguments.inputs, **patterns_of(arguments))
    say_skipped(inputs.skipped)
    results = []
    with classifier(len(inputs), **restoration_of(arguments)) as extractor:
        print(
            f"{extractor.net} from {arguments.checkpoint}, {extractor.num_classes} classes, "
            f"{described_input(extractor)}",
            file=sys.stderr,
        )
        prepare_engine(extractor, inputs)
        with progress("classify", len(inputs), "images") as advance:
            advance(0)
            labels = class_names(arguments.labels, extractor)
            for result in classify(inputs, extractor, labels, arguments.top):
                results.append(result)
                advance(1)
    if arguments.as_json:
        print(json.dumps([_record(result) for result in results], indent=2))
    else:
        print_table(("image", "probability", "class", "label"), [row for result in results for row in _rows(result)])
    return 1 if any(result.error for result in results) else 0


def _record(result: "Classification") -> dict[str, Any]:
    found = zip(result.classes, result.labels, result.probabilities, strict=True)
    classes = [{"class": number, "label": label, "probability": value} for number, label, value in found]
    return {"path": result.path, "error": result.error, "classes": classes}


def _rows(result: "Classification") -> list[tuple[object, ...]]:
    if result.error is not None:
        return [(result.path, None, None, f"failed: {result.error}")]
    found = zip(result.classes, result.labels, result.probabilities, strict=True)
    rows = [("", f"{probability:.4f}", str(number), label) for number, label, probability in found]
    return [(result.path, *rows[0][1:]), *rows[1:]]
