"""Options that several commands share."""

import argparse
from collections.abc import Callable
from typing import Any

__all__ = [
    "add_checkpoint_dir",
    "add_images",
    "add_labels",
    "add_network",
    "add_patterns",
    "add_precision",
    "add_restoration",
    "count",
    "names_in",
    "network_of",
    "patterns_of",
    "positive",
    "restoration_of",
]

# Upper bound for counts and sizes. Larger values would overflow later.
_LARGEST = 100_000


def _number(least: int, name: str, what: str) -> Callable[[str], int]:
    """Returns an argparse type for whole numbers. Its error messages show ``name`` and ``what`` is expected."""

    def number(text: str) -> int:
        if not least <= int(text) <= _LARGEST:
            raise argparse.ArgumentTypeError(f"{text} is not {what}")
        return int(text)

    number.__name__ = name
    return number


positive = _number(1, "positive number", f"a positive number of at most {_LARGEST:,}")
count = _number(0, "number", f"a number from 0 to {_LARGEST:,}")


def names_in(text: str) -> list[str]:
    """Returns the names in a comma-separated list."""
    return [name.strip() for name in text.split(",")]


def add_checkpoint_dir(parser: argparse.ArgumentParser, *names: str) -> None:
    """Adds --checkpoint-dir, under further names if any are given."""
    parser.add_argument(
        *names,
        "--checkpoint-dir",
        dest="checkpoint_dir",
        metavar="DIR",
        help="folder of downloaded checkpoints (default $SLIMNETS_CHECKPOINTS, or the user's cache)",
    )


def add_labels(parser: argparse.ArgumentParser) -> None:
    """Adds --labels of a command that prints or writes the names of classes."""
    parser.add_argument(
        "--labels",
        metavar="FILE",
        help="file with one class name a line (default: the names noted beside the checkpoint, else ImageNet's)",
    )


def add_precision(parser: argparse.ArgumentParser, *others: str) -> None:
    """Adds --precision, with further precisions if any are given."""
    parser.add_argument(
        "--precision",
        choices=("float32", "bfloat16", "float16", *others),
        default="float32",
        help="precision of the network: bfloat16 requires AVX-512, float16 a GPU"
        + (", int8 another engine" if others else "")
        + " (default float32)",
    )


def _add_engine(parser: argparse.ArgumentParser) -> None:
    """Adds the options of the engine that computes a network."""
    parser.add_argument(
        "--engine",
        choices=("tensorflow", "openvino", "onnxruntime", "auto"),
        default="tensorflow",
        help="engine that computes the network; auto takes the fastest that is installed (default tensorflow)",
    )
    parser.add_argument(
        "--calibrate",
        type=positive,
        default=128,
        metavar="N",
        help="for int8, number of images of the job from which the ranges of values are taken (default 128)",
    )
    parser.add_argument(
        "--min-cosine",
        type=float,
        default=0.99,
        metavar="X",
        help="for bfloat16 and int8 in another engine, least mean cosine to the features in float32 (default 0.99)",
    )
    parser.add_argument(
        "--engine-dir",
        metavar="DIR",
        help="folder of the engines' models (default $SLIMNETS_ENGINES, or the user's cache)",
    )


def add_images(parser: argparse.ArgumentParser, metavar: str) -> None:
    """Adds the images, as ``inputs``, of a command that requires no labels."""
    parser.add_argument(
        "inputs",
        nargs="+",
        metavar=metavar,
        help="image file, folder, TFRecord file, tar archive, or @list.txt with one path a line",
    )


def add_patterns(parser: argparse.ArgumentParser) -> None:
    """Adds the options that select some of the images."""
    parser.add_argument(
        "--include",
        action="append",
        default=[],
        metavar="PATTERN",
        help="use only images whose name matches; * and ? are wildcards",
    )
    parser.add_argument(
        "--exclude-inputs", action="append", default=[], metavar="PATTERN", help="skip images whose name matches"
    )


def patterns_of(arguments: argparse.Namespace) -> dict[str, list[str]]:
    """Returns what ``add_patterns`` added, as keyword arguments of ``open_inputs``."""
    return {"include": arguments.include, "exclude": arguments.exclude_inputs}


_NETWORK = ("net", "image_size", "preprocessing", "scope", "ema", "batch_size", "checkpoint_dir")
_ENGINE = ("engine", "calibrate", "min_cosine", "engine_dir")
_RESTORATION = (*_NETWORK, *_ENGINE, "checkpoint", "num_classes", "exclude", "precision")


def add_network(parser: argparse.ArgumentParser) -> None:
    """Adds the options of a command that runs a checkpoint's network on images, without the checkpoint."""
    parser.add_argument(
        "--net", metavar="NAME", help="network, or module:function that builds one (default: from the checkpoint)"
    )
    parser.add_argument(
        "--image-size",
        type=positive,
        metavar="N",
        help="height and width of the network's input (default: what the weights were trained with)",
    )
    parser.add_argument(
        "--preprocessing",
        metavar="NAME",
        help="vgg, inception, torchvision, cifar, grayscale or none (default: what the weights were trained with)",
    )
    parser.add_argument("--scope", metavar="SCOPE", help="variable scope of the network in the checkpoint")
    parser.add_argument("--ema", action="store_true", help="restore the moving averages of the variables")
    parser.add_argument("--batch-size", type=positive, default=32, metavar="N", help="images in a batch (default 32)")
    add_checkpoint_dir(parser)


def network_of(arguments: argparse.Namespace) -> dict[str, Any]:
    """Returns what ``add_network`` added, as keyword arguments."""
    return {name: getattr(arguments, name) for name in _NETWORK}


def add_restoration(parser: argparse.ArgumentParser, *, engines: bool = True) -> None:
    """Adds the options of a command that restores a network from a checkpoint.

    Args:
      parser: of the command.
      engines: whether other engines than TensorFlow may compute the network.
    """
    parser.add_argument(
        "--checkpoint",
        required=True,
        metavar="PATH",
        help="checkpoint: a V1 file, a V2 bundle, a folder, or a key that `slimnets weights` lists",
    )
    parser.add_argument(
        "--num-classes",
        type=int,
        metavar="N",
        help="number of classes (default: as in the checkpoint); 1000 drops the background class of 1001, "
        "1001 adds one to 1000",
    )
    parser.add_argument(
        "--exclude",
        action="append",
        default=[],
        metavar="PATTERN",
        help="do not restore variables whose name matches; * and ? are wildcards",
    )
    add_network(parser)
    if engines:
        add_precision(parser, "int8")
        _add_engine(parser)
    else:
        add_precision(parser)


def restoration_of(arguments: argparse.Namespace) -> dict[str, Any]:
    """Returns what ``add_restoration`` added, as keyword arguments of ``FeatureExtractor``."""
    return {name: getattr(arguments, name) for name in _RESTORATION if name in arguments}
