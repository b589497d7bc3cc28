"""``slimnets recalibrate``: re-estimates the moving statistics of a checkpoint from images."""

import argparse
import json
import sys
from typing import TYPE_CHECKING

from tools.commands.arguments import add_network, add_patterns, network_of, patterns_of, positive
from tools.terminal.network_input import described_input
from tools.terminal.option_names import as_options
from tools.terminal.progress import progress
from tools.terminal.skipped import say_failed, say_skipped
from tools.terminal.stopping import stoppable
from tools.terminal.tables import print_table

if TYPE_CHECKING:
    from tools.evaluation import Recalibration
    from tools.evaluation.metrics import Share

__all__ = ["add"]

# Number of layers, and of reasons for failed images, that are printed; --json has all.
_LAYERS = 5


def add(commands: argparse._SubParsersAction) -> None:
    """Adds the command to the parser."""
    parser = commands.add_parser("recalibrate", help="re-estimate the moving statistics of a checkpoint from images")
    parser.add_argument(
        "checkpoint",
        metavar="CHECKPOINT",
        help="checkpoint, which is kept: a V1 file, a V2 bundle, a folder, or a key that `slimnets weights` lists",
    )
    parser.add_argument(
        "inputs",
        nargs="+",
        metavar="DATA",
        help="images like those that it was trained on: folder, TFRecord file, tar archive, or @list.txt",
    )
    parser.add_argument("--output", required=True, metavar="NEW", help="name of the new checkpoint, such as model.ckpt")
    parser.add_argument("--overwrite", action="store_true", help="replace an existing output")
    parser.add_argument("--images", type=positive, metavar="N", help="largest number of images to take (default 2,000)")
    add_patterns(parser)
    parser.add_argument(
        "--labels",
        metavar="FILE",
        help="file with the names of the network's classes, one a line, to compute the accuracies before and after "
        "(default: the checkpoint's notes, or labels.txt in the folder)",
    )
    parser.add_argument("--label-offset", type=int, metavar="N", help="class = label - N, as slim's labels_offset")
    parser.add_argument("--json", action="store_true", dest="as_json", help="print JSON, with shares as fractions of 1")
    add_network(parser)
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> int:
    from tools.evaluation.recalibration import Recalibrator
    from tools.images import open_inputs

    inputs = open_inputs(arguments.inputs, **patterns_of(arguments))
    say_skipped(inputs.skipped)
    given = {name: getattr(arguments, name) for name in ("images", "labels", "label_offset", "overwrite")}
    with (
        stoppable(),
        Recalibrator(
            arguments.checkpoint, inputs, arguments.inputs, arguments.output, **given, **network_of(arguments)
        ) as recalibrator,
    ):
        network = recalibrator.network
        print(f"{network.net} from {arguments.checkpoint}, {described_input(network)}", file=sys.stderr)
        with progress("recalibrate", recalibrator.work, "images") as advance:
            done = recalibrator.run(advance)
    for sentence in done.said:
        print(as_options(sentence), file=sys.stderr)
    say_failed(done.reasons)
    if arguments.as_json:
        print(json.dumps(done.record(), indent=2))
    else:
        _print(done)
    return 1 if done.failed else 0


def _print(done: "Recalibration") -> None:
    largest = sorted(done.layers, key=lambda layer: max(layer.mean, layer.variance), reverse=True)[:_LAYERS]
    print_table(
        ("largest changes", "mean, in deviations", "variance"),
        [(layer.scope, f"{layer.mean:.2f}", f"{100 * layer.variance:.0f} %") for layer in largest],
    )
    print()
    averaged = ", for the averaged weights" if done.ema else ""
    print(f"{'layers':<14}{len(done.layers):,} re-estimated{averaged}")
    failed = f"; {done.failed:,} failed and were left out" if done.failed else ""
    print(f"{'images':<14}{done.images:,} in {done.batches:,} batches{failed}")
    if done.measured:
        print(f"{'top-1 before':<14}{_written(done.top_1_before)}, {done.measured:,} images")
        print(f"{'top-1 after':<14}{_written(done.top_1_after)}")
    print(f"{'written':<14}{done.output}")


def _written(share: "Share | None") -> str:
    if share is None:
        return "none, as its logits are not numbers"
    return f"{share.value:.4f} (95 % interval {share.low:.4f} to {share.high:.4f})"
