"""``slimnets export``: writes a network for another runtime, and prints how well it agrees with ours."""

import argparse
import itertools
import json
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

from tools.commands.arguments import add_labels, add_network, names_in, network_of, positive
from tools.terminal.stopping import stoppable
from tools.terminal.tables import print_table

if TYPE_CHECKING:
    from tools.export import Export

__all__ = ["add"]

# The steps after which ``export`` calls ``advance``.
_STEPS = ("restoring the network", "writing the file", "running the file")


def add(commands: argparse._SubParsersAction) -> None:
    """Adds the command to the parser."""
    parser = commands.add_parser(
        "export", help="write a network as SavedModel, frozen graph, TensorFlow Lite, ONNX, OpenVINO or Keras file"
    )
    parser.add_argument(
        "checkpoint",
        metavar="CHECKPOINT",
        help="checkpoint: a V1 file, a V2 bundle, a folder, or a key that `slimnets weights` lists",
    )
    parser.add_argument(
        "target",
        metavar="TARGET",
        help="file to write: .pb, .tflite, .onnx, .xml (OpenVINO) or .keras; a name without an ending is a folder with "
        "a SavedModel",
    )
    parser.add_argument(
        "--format",
        metavar="NAME",
        help="saved_model, pb, tflite, onnx, openvino or keras (default: by the ending of TARGET)",
    )
    parser.add_argument(
        "--end-points",
        type=names_in,
        metavar="NAME,...",
        help="outputs: names or aliases of end points; classes for the five most probable ones with probabilities and "
        "labels (default global_pool,predictions)",
    )
    parser.add_argument(
        "--input",
        choices=("pixels", "encoded", "network"),
        help="pixels: uint8 [N, height, width, 3] of any size (the default); encoded: bytes of JPEG, PNG or GIF files, "
        "in a SavedModel or .pb; network: the network's own input, without preprocessing (the only one of .keras)",
    )
    parser.add_argument("--batch", type=positive, metavar="N", help="number of images in a batch (default: any)")
    parser.add_argument(
        "--dtype",
        choices=("float32", "float16", "int8"),
        default="float32",
        help="precision of the weights, and for int8 of the activations (default float32)",
    )
    parser.add_argument(
        "--calibrate",
        nargs="+",
        metavar="IMAGE",
        help="images like those that the network was trained on, from which int8 takes its ranges; at least 32",
    )
    parser.add_argument(
        "--tolerance",
        type=float,
        metavar="X",
        help="largest difference to allow, relative to an output's largest value (default 0.0001 for float32, 0.01 for "
        "float16)",
    )
    parser.add_argument(
        "--min-cosine", type=float, metavar="X", help="for int8, smallest mean cosine to allow (default 0.95)"
    )
    parser.add_argument("--num-classes", type=int, metavar="N", help="number of classes, as for `slimnets features`")
    add_labels(parser)
    parser.add_argument("--overwrite", action="store_true", help="replace an existing target")
    parser.add_argument("--json", action="store_true", dest="as_json", help="print JSON")
    add_network(parser)
    parser.set_defaults(run=_run, imports_tensorflow=False)


def _run(arguments: argparse.Namespace) -> int:
    from tools.export import export

    names = ("format", "end_points", "input", "batch", "dtype", "calibrate", "labels", "overwrite")
    given = {name: getattr(arguments, name) for name in (*names, "tolerance", "min_cosine", "num_classes")}
    with stoppable():
        done = export(arguments.checkpoint, arguments.target, advance=_announcing(), **given, **network_of(arguments))
    if arguments.as_json:
        print(json.dumps(done.record(), indent=2))
    else:
        _print(done)
    return 0


def _announcing() -> Callable[[int], None]:
    """Says that the first step begins; returns a function to call at the end of each, which announces the next one."""
    steps = iter(_STEPS)
    print(f"{next(steps)} ...", file=sys.stderr)

    def advance(count: int) -> None:
        for step in itertools.islice(steps, count):
            print(f"{step} ...", file=sys.stderr)

    return advance


def _print(done: "Export") -> None:
    description = done.description
    columns = {
        "output": [one.output for one in done.agreements],
        "largest difference": [f"{one.difference:.1e}" for one in done.agreements],
        "mean cosine": [_written(one.cosine, 4) for one in done.agreements],
        "same top class": [_written(one.top_1, 3) for one in done.agreements],
    }
    columns = {name: values for name, values in columns.items() if any(values)}
    print_table(tuple(columns), list(zip(*columns.values(), strict=True)))
    print()
    for name, size in done.files.items():
        print(f"{'written':<14}{name}, {size:,} bytes")
    print(f"{'input':<14}{description.images}{_meaning(done)}")
    for output in description.outputs:
        print(f"{'output':<14}{output}")
    bound = f"difference of {done.tolerance:g}" if done.tolerance else f"cosine of {done.min_cosine:g}"
    print(f"{'proof':<14}run by its own runtime in another process; a {bound} is allowed")
    print()
    print(done.usage)


def _meaning(done: "Export") -> str:
    description = done.description
    inside = f"preprocessing {description.preprocessing} at {description.image_size}"
    if description.input == "network":
        return f"; the caller does the {inside}"
    what = "RGB, 0 to 255" if description.input == "pixels" else "bytes of JPEG, PNG or GIF files"
    return f"; {what}; {inside} is part of the network"


def _written(value: float | None, digits: int) -> str | None:
    return None if value is None else f"{value:.{digits}f}"
