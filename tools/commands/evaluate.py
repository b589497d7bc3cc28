"""``slimnets evaluate``: measures how good a checkpoint is on labelled images."""

import argparse
import json
import shlex
import sys
from typing import TYPE_CHECKING

from tools.commands.arguments import add_patterns, add_restoration, patterns_of, restoration_of
from tools.terminal.engine import prepare_engine
from tools.terminal.network_input import described_input
from tools.terminal.option_names import as_options
from tools.terminal.progress import progress
from tools.terminal.skipped import say_failed, say_skipped
from tools.terminal.tables import print_table

if TYPE_CHECKING:
    from tools.evaluation import Evaluation
    from tools.evaluation.labelling import Labelled
    from tools.evaluation.metrics import Metrics, Share
    from tools.evaluation.trying_inputs import TriedInput
    from tools.features import FeatureExtractor

__all__ = ["add"]

# Number of classes that are printed; the files and --json have all of them.
_CLASSES = 10


def add(commands: argparse._SubParsersAction) -> None:
    """Adds the command to the parser."""
    parser = commands.add_parser("evaluate", help="measure how good a checkpoint is on labelled images")
    parser.add_argument(
        "inputs",
        nargs="+",
        metavar="DATA",
        help="folder with a folder of images for each class, TFRecord file, or tar archive",
    )
    add_patterns(parser)
    parser.add_argument(
        "--labels",
        metavar="FILE",
        help="file with the names of the network's classes, one a line (default: the checkpoint's notes, or labels.txt "
        "in the folder)",
    )
    parser.add_argument(
        "--label-offset",
        type=int,
        metavar="N",
        help="class = label - N, as slim's labels_offset (default: 0, or what a background class requires)",
    )
    parser.add_argument(
        "--output",
        metavar="DIR",
        help="folder for metrics.json, predictions.csv, confusion.csv and confusion.png",
    )
    parser.add_argument("--overwrite", action="store_true", help="replace an evaluation that the folder already holds")
    parser.add_argument("--json", action="store_true", dest="as_json", help="print JSON, with shares as fractions of 1")
    only = parser.add_mutually_exclusive_group()
    only.add_argument(
        "--batch-statistics",
        action="store_true",
        help="compute only the accuracy by the statistics of the batches, as in training, on up to 512 images",
    )
    only.add_argument(
        "--try-inputs",
        action="store_true",
        help="compare the preprocessings and image sizes that could go with the weights, on up to 300 images",
    )
    add_restoration(parser)
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> int:
    from tools.errors import InputError
    from tools.evaluation.evaluating import labelled_for, logits_extractor
    from tools.evaluation.evaluation import check_output
    from tools.images import open_inputs

    if arguments.output is not None:
        if arguments.try_inputs:
            raise InputError("--try-inputs writes no files: omit --output.")
        check_output(arguments.output, overwrite=arguments.overwrite)
    inputs = open_inputs(arguments.inputs, **patterns_of(arguments))
    say_skipped(inputs.skipped)
    with logits_extractor(num_images=len(inputs), **restoration_of(arguments)) as extractor:
        print(
            f"{extractor.net} from {arguments.checkpoint}, {extractor.num_classes:,} classes, "
            f"{described_input(extractor)}",
            file=sys.stderr,
        )
        with progress("labels", len(inputs), "images", brief=True) as advance:
            labelled = labelled_for(
                extractor,
                inputs,
                arguments.inputs,
                labels=arguments.labels,
                label_offset=arguments.label_offset,
                advance=advance,
            )
        if arguments.try_inputs:
            return _try_inputs(arguments, extractor, labelled)
        if not arguments.batch_statistics:
            prepare_engine(extractor, inputs)
        return _evaluate(arguments, extractor, labelled)


def _evaluate(arguments: argparse.Namespace, extractor: "FeatureExtractor", labelled: "Labelled") -> int:
    from tools.evaluation.evaluating import STATISTICS_IMAGES, evaluate_labelled

    images = min(len(labelled.inputs), STATISTICS_IMAGES)
    if not arguments.batch_statistics:
        images += len(labelled.inputs)
    with progress("evaluate", images, "images") as advance:
        evaluation = evaluate_labelled(
            extractor,
            labelled,
            output=arguments.output,
            overwrite=arguments.overwrite,
            figures="batch statistics" if arguments.batch_statistics else "all",
            advance=advance,
        )
    for sentence in evaluation.said:
        print(as_options(sentence), file=sys.stderr)
    say_failed(evaluation.reasons)
    if arguments.as_json:
        print(json.dumps(evaluation.record(), indent=2))
    else:
        _print(evaluation)
    return 1 if evaluation.failed else 0


def _print(evaluation: "Evaluation") -> None:
    from tools.evaluation.metrics import TOP

    metrics, statistics = evaluation.metrics, evaluation.batch_statistics
    rows: list[tuple[object, ...]] = []
    if metrics is not None:
        rows.append(("top-1", *_written(metrics.top_1), metrics.images))
        if len(evaluation.names) > TOP:  # of fewer classes, an image's is always among the most probable ones
            rows.append(("top-5", *_written(metrics.top_5), metrics.images))
        rows += [
            ("cross entropy", f"{metrics.cross_entropy:.4f}", None, metrics.images),
            ("calibration error", f"{metrics.calibration_error:.4f}", None, metrics.images),
        ]
    if statistics is not None:
        rows.append(("top-1 by batch statistics", *_written(statistics.top_1), statistics.images))
    print_table(("measure", "value", "95 % interval", "images"), rows)
    if metrics is not None:
        print()
        _print_classes(metrics, evaluation.names)
    if evaluation.failed:
        print(f"\nFailed and left out: {evaluation.failed:,} of the images.")
    for sentence in evaluation.advice:
        print(f"\n{sentence}")


def _written(share: "Share") -> tuple[str, str]:
    return f"{share.value:.4f}", f"{share.low:.4f} to {share.high:.4f}"


def _print_classes(metrics: "Metrics", names: list[str]) -> None:
    """Prints the classes with the lowest recall, and the class that each is most often taken for."""
    counts = metrics.confusion.sum(axis=1).tolist()
    recalls = [(recall, number) for number, recall in enumerate(metrics.recall) if recall is not None]
    taken_for: dict[int, str] = {}
    for of, predicted, images in metrics.confusions(len(names) ** 2):
        taken_for.setdefault(of, f"{names[predicted]} ({images:,})")
    lowest = sorted(recalls)[:_CLASSES]
    print_table(
        ("lowest recall", "class", "images", "recall", "most often taken for"),
        [(names[number], number, counts[number], f"{recall:.4f}", taken_for.get(number)) for recall, number in lowest],
    )


def _try_inputs(arguments: argparse.Namespace, extractor: "FeatureExtractor", labelled: "Labelled") -> int:
    from tools.evaluation.trying_inputs import best_inputs, images_to_try, inputs_to_try, try_inputs

    images = len(images_to_try(labelled)) * len(inputs_to_try(extractor))
    with progress("try", images, "images") as advance:
        tried = try_inputs(extractor, labelled, advance=advance, **restoration_of(arguments))
    for sentence in labelled.said:
        print(as_options(sentence), file=sys.stderr)
    best = best_inputs(tried)
    noted = {
        "--preprocessing": tried[0].preprocessing,
        "--image-size": tried[0].image_size,
        "--scope": arguments.scope,
        "--checkpoint-dir": arguments.checkpoint_dir,
    }
    options = [str(word) for option in noted.items() if option[1] is not None for word in option]
    command = shlex.join(["slimnets", "note", arguments.checkpoint, *options])
    if arguments.as_json:
        record = [
            {"preprocessing": each.preprocessing, "image_size": each.image_size, "top_1": each.top_1._asdict()}
            for each in tried
        ]
        print(json.dumps({"tried": record, "tied": len(best), "command": command}, indent=2))
        return 0
    print_table(
        ("preprocessing", "image size", "top-1", "95 % interval"),
        [(each.preprocessing, each.image_size, *_written(each.top_1)) for each in tried],
    )
    print(f"\n{_verdict(tried, best)} To note it: {command}")
    return 0


def _verdict(tried: "list[TriedInput]", best: "list[TriedInput]") -> str:
    first = f"{tried[0].preprocessing} at {tried[0].image_size}"
    if len(best) == 1:
        return f"The best is {first}."
    others = ", ".join(f"{each.preprocessing} at {each.image_size}" for each in best[1:])
    return f"The best is {first}, and by these images {others} may be as good: the intervals overlap."
