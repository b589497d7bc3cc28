"""Options that several commands share."""

import argparse
from collections.abc import Callable

__all__ = [
    "add_checkpoint_dir",
    "add_patterns",
    "add_precision",
    "add_restoration",
    "count",
    "names_in",
    "options_of",
    "positive",
]

# Upper bound for counts and sizes. Larger values would overflow later.
_LARGEST = 100_000


def _number(least: int, name: str, what: str) -> Callable[[str], int]:
    """Returns the type of an option; error messages show its ``name`` and ``what`` is expected."""

    def number(text: str) -> int:
        if not least <= int(text) <= _LARGEST:
            raise argparse.ArgumentTypeError(f"{text} is not {what}")
        return int(text)

    number.__name__ = name
    return number


positive = _number(1, "positive number", f"a positive number of at most {_LARGEST:,}")
count = _number(0, "number", f"a number from 0 to {_LARGEST:,}")


def names_in(text: str) -> list[str]:
    """Returns the names in a list that is separated by commas."""
    return [name.strip() for name in text.split(",")]


def options_of(arguments: argparse.Namespace) -> dict[str, object]:
    """Returns the parsed arguments by name, as keyword arguments for a library function."""
    return {name: value for name, value in vars(arguments).items() if name != "run"}


def add_checkpoint_dir(parser: argparse.ArgumentParser, *names: str) -> None:
    """Adds --checkpoint-dir, under further names if any are given."""
    parser.add_argument(
        *names,
        "--checkpoint-dir",
        dest="checkpoint_dir",
        metavar="DIR",
        help="folder of downloaded checkpoints (default $SLIMNETS_CHECKPOINTS, or the user's cache)",
    )


def add_precision(parser: argparse.ArgumentParser) -> None:
    """Adds --precision."""
    parser.add_argument(
        "--precision",
        choices=("float32", "bfloat16", "float16"),
        default="float32",
        help="bfloat16 requires AVX-512, float16 a GPU (default float32)",
    )


def add_patterns(parser: argparse.ArgumentParser) -> None:
    """Adds the options that select some of the images."""
    parser.add_argument(
        "--include",
        action="append",
        default=[],
        metavar="PATTERN",
        help="take only images whose names match, with * and ?",
    )
    parser.add_argument(
        "--exclude-inputs", action="append", default=[], metavar="PATTERN", help="leave out images whose names match"
    )


def add_restoration(parser: argparse.ArgumentParser) -> None:
    """Adds the options of a command that restores a network from a checkpoint."""
    parser.add_argument(
        "--checkpoint", required=True, metavar="PATH", help="V1 file, V2 bundle, folder, or a key of `slimnets weights`"
    )
    parser.add_argument("--net", metavar="NAME", help="network (default: the one in the checkpoint)")
    parser.add_argument(
        "--num-classes",
        type=int,
        metavar="N",
        help="classes (default: as in the checkpoint; 1000 drops the background of 1001, 1001 adds one to 1000)",
    )
    parser.add_argument("--image-size", type=positive, metavar="N", help="height and width of the network's input")
    parser.add_argument("--preprocessing", metavar="NAME", help="vgg, inception, torchvision, cifar, grayscale or none")
    parser.add_argument("--scope", metavar="SCOPE", help="variable scope of the network in the file")
    parser.add_argument(
        "--exclude", action="append", default=[], metavar="PATTERN", help="variables not to restore, with * and ?"
    )
    parser.add_argument("--ema", action="store_true", help="restore the moving averages of the variables")
    parser.add_argument("--batch-size", type=positive, default=32, metavar="N", help="images in a batch (default 32)")
    add_precision(parser)
    add_checkpoint_dir(parser)
