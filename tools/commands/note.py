"""``slimnets note``: writes down what no variable of a checkpoint tells, its input and the names of its classes."""

import argparse
import functools

from tools.commands.arguments import add_checkpoint_dir, positive
from tools.terminal.network_input import described_input

__all__ = ["add"]


def add(commands: argparse._SubParsersAction) -> None:
    """Adds the command to the parser."""
    parser = commands.add_parser("note", help="note the input and the names of the classes beside a checkpoint")
    parser.add_argument(
        "checkpoint",
        metavar="CHECKPOINT",
        help="checkpoint: a V1 file, a V2 bundle, a folder, or a key that `slimnets weights` lists",
    )
    parser.add_argument("--preprocessing", metavar="NAME", help="vgg, inception, torchvision, cifar, grayscale or none")
    parser.add_argument(
        "--image-size", type=positive, metavar="N", help="height and width of the images that the weights expect"
    )
    parser.add_argument(
        "--labels", metavar="FILE", help="file with the names of the classes, one a line, or numbered as in 0:name"
    )
    parser.add_argument("--scope", metavar="SCOPE", help="variable scope of the network, if the file has several")
    add_checkpoint_dir(parser)
    parser.set_defaults(run=functools.partial(_run, parser))


def _run(parser: argparse.ArgumentParser, arguments: argparse.Namespace) -> int:
    from checkpoints import note
    from checkpoints.errors import shortened

    given = {name: getattr(arguments, name) for name in ("preprocessing", "image_size", "labels")}
    if not any(value is not None for value in given.values()):
        parser.error("there is nothing to note: give --preprocessing, --image-size or --labels")
    file, notes = note(arguments.checkpoint, scope=arguments.scope, checkpoint_dir=arguments.checkpoint_dir, **given)
    print(f"{'network':<14}{notes.network}")
    print(f"{'input':<14}{described_input(notes)}")
    print(f"{'labels':<14}{shortened(notes.labels) if notes.labels else 'none'}")
    if notes.source:
        print(f"{'converted':<14}from {notes.source['file']} ({notes.source['kind']})")
    print(f"{'noted in':<14}{file}")
    return 0
