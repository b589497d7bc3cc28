"""``slimnets convert``: converts weights from one file format to another, and prints what it did."""

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tools.commands.arguments import add_checkpoint_dir, positive
from tools.terminal.network_input import described_input
from tools.terminal.stopping import stoppable
from tools.terminal.tables import print_table

if TYPE_CHECKING:
    from tools.conversion import Conversion

__all__ = ["add"]

# Bytes of a file name. Most file systems allow 255, and the temporary name is longer.
_LONGEST_NAME = 230


def add(commands: argparse._SubParsersAction) -> None:
    """Adds the command to the parser."""
    parser = commands.add_parser("convert", help="convert weights to and from Keras, PyTorch, safetensors and NumPy")
    parser.add_argument(
        "source",
        metavar="SOURCE",
        help="checkpoint, key that `slimnets weights` lists, or a Keras, PyTorch, safetensors or NumPy file",
    )
    parser.add_argument(
        "target",
        metavar="TARGET",
        help="file to write: .npz, .safetensors, .keras or .pth; any other name is a checkpoint",
    )
    parser.add_argument("--net", metavar="NAME", help="network (default: detected from the file)")
    parser.add_argument("--scope", metavar="SCOPE", help="variable scope of the network in the source")
    parser.add_argument(
        "--to-scope", metavar="SCOPE", help="variable scope of the network in the target (default: the same)"
    )
    parser.add_argument(
        "--num-classes",
        type=int,
        metavar="N",
        help="1000 drops the background class of 1001, 1001 adds one to 1000, 0 drops the logits",
    )
    parser.add_argument(
        "--image-size", type=positive, metavar="N", help="height and width of the images that the weights are meant for"
    )
    parser.add_argument(
        "--only",
        action="append",
        default=[],
        metavar="PATTERN",
        help="convert only variables whose name matches; * and ? are wildcards",
    )
    parser.add_argument(
        "--exclude", action="append", default=[], metavar="PATTERN", help="drop variables whose name matches"
    )
    parser.add_argument(
        "--model-only", action="store_true", help="drop optimizer slots, moving averages and the global step"
    )
    parser.add_argument("--ema", action="store_true", help="convert the moving averages of the variables")
    parser.add_argument("--format", choices=("V1", "V2"), help="format of a checkpoint to write (default V2)")
    parser.add_argument(
        "--names",
        choices=("slim", "torchvision"),
        help="names of the tensors in a .safetensors file to write (default slim)",
    )
    parser.add_argument("--overwrite", action="store_true", help="replace an existing target")
    parser.add_argument("--report", metavar="FILE", help="write a report of the conversion as JSON")
    add_checkpoint_dir(parser)
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> int:
    from checkpoints.files.atomic import write_whole
    from tools.conversion import convert

    options = {name: value for name, value in vars(arguments).items() if name != "run"}
    source, target, report = (options.pop(name) for name in ("source", "target", "report"))
    if report is not None:
        if not report.strip() or report.endswith("/"):
            raise ValueError(f"The report {report!r} is not a file name: give one, such as report.json.")
        _check_report(Path(report), (source, target), overwrite=arguments.overwrite)
    print(f"{source} to {target} ...", file=sys.stderr)
    with stoppable():
        done = convert(source, target, **options)
    if report is not None:
        write_whole(Path(report), json.dumps(done._asdict(), indent=2) + "\n")
    _print(done)
    return 0


def _check_report(report: Path, others: Sequence[str], overwrite: bool) -> None:
    """Refuses a report that would replace another file, or could not be written after the conversion."""
    from checkpoints.files.writer import files_called

    folder = report.absolute().parent
    if len(os.fsencode(report.name)) > _LONGEST_NAME:
        raise OSError(f"The report's name is longer than {_LONGEST_NAME} bytes: give a shorter one than {report.name}.")
    if not folder.is_dir():
        raise FileNotFoundError(f"There is no folder {folder} for the report: make it.")
    if not os.access(folder, os.W_OK):
        raise PermissionError(f"The report's folder {folder} is not writable: give another.")
    if report.resolve() in {file.resolve() for other in others for file in files_called(other)}:
        raise ValueError(f"The report {report} is a file of the source or the target: give another name.")
    if os.path.lexists(report) and (not overwrite or report.is_symlink() or not report.is_file()):
        raise FileExistsError(f"The report {report} exists: give another name, or overwrite=True.")


def _print(done: "Conversion") -> None:
    if done.differences:
        print_table(
            ("end point", "largest difference"), [(name, f"{value:.1e}") for name, value in done.differences.items()]
        )
        print()
    for label, value in _facts(done):
        print(f"{label:<14}{value}")


def _facts(done: "Conversion") -> list[tuple[str, str]]:
    from nets.nets_factory import get_network

    facts = [("source", f"{done.source} ({done.source_kind})"), ("target", f"{done.target} ({done.target_kind})")]
    if not done.network:
        facts.append(("network", "none that is known, or several; the variables are copied as they are"))
    else:
        options = "".join(f", {name}={value!r}" for name, value in done.options.items())
        facts.append(("network", f"{done.network}{options}, {done.num_classes or 'no'} classes"))
        if get_network(done.network).variant is not None:
            facts.append(("pooling", f"pool1_padding={done.pool1_padding!r}"))
        facts.append(("input", described_input(done, remedy="slimnets note")))
    facts.append(("variables", f"{done.variables:,}, {len(done.folded):,} of them with another one folded in"))
    if done.left_out:
        prefix = f"{done.scope}/" if done.scope else ""
        layers = dict.fromkeys(name.removeprefix(prefix).partition("/")[0] for name in done.left_out)
        count = f"{len(done.left_out):,} variables"
        facts.append(("left out", f"{', '.join(layers)} ({count}), which Keras' network does not have"))
    if done.lacking and done.target_kind != "keras":
        layers, pattern = ", ".join(done.lacking), f"{done.scope}/fc?/*" if done.scope else "fc?/*"
        facts.append(
            ("lacking", f"{layers}: `slimnets features` computes what is before them with --exclude '{pattern}'")
        )
    if done.notes:
        facts.append(("noted in", done.notes))
    if done.differences:
        worst = max(done.differences, key=done.differences.__getitem__)
        facts.append(("agreement", f"within {done.differences[worst]:.1e} ({worst}); {done.tolerance:g} is allowed"))
    return facts
