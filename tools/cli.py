"""The ``slimnets`` command: its arguments, and what an error looks like. TensorFlow is imported by what is run."""

import argparse
import functools
import io
import os
import sys
import warnings
from collections.abc import Callable, Sequence

from tools.options import as_options
from tools.startup import check_nets, import_tensorflow

__all__ = ["main"]

# Of batches, sizes and other counts: what nothing here is meant for would end in an overflow somewhere else.
_LARGEST = 100_000


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command; returns its exit status: 0 done, 1 failed or refused, 2 wrong usage."""
    arguments = _parser().parse_args(argv)
    try:
        check_nets()
        import_tensorflow()
        for stream in (sys.stdout, sys.stderr):
            # A name of a file need not be one that the terminal can show; a notebook's streams show any.
            if isinstance(stream, io.TextIOWrapper):
                stream.reconfigure(errors="backslashreplace")
        # Pillow's, of broken EXIF data or of size: what can be shown is decoded, the rest is an error.
        warnings.filterwarnings("ignore", module=r"PIL\.")
        warnings.showwarning = _show_warning
        status = arguments.run(arguments)
        sys.stdout.flush()  # a reader that has gone is noticed here, and not by the interpreter at exit
        return status
    except KeyboardInterrupt:
        print("slimnets: interrupted; what was not finished is not kept", file=sys.stderr)
        return 1
    except MemoryError as error:
        print(f"slimnets: error: Memory does not suffice ({error}): take smaller images or batches.", file=sys.stderr)
        return 1
    except BrokenPipeError:
        # Whoever read the output has gone (`| head`): leave without a complaint at exit either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (ImportError, OSError, ValueError) as error:
        # What is wrong with what was given, in the words of whoever found it. Anything else is a bug, and shows it.
        print(f"slimnets: error: {as_options(str(error))}", file=sys.stderr)
        return 1


def _show_warning(message: Warning | str, *where: object, **rest: object) -> None:
    print(f"slimnets: warning: {as_options(str(message))}", file=sys.stderr)


def _number(least: int, name: str, what: str) -> Callable[[str], int]:
    """The type of an argument; its ``name`` and ``what`` it must be are for the error messages."""

    def number(text: str) -> int:
        if not least <= int(text) <= _LARGEST:
            raise argparse.ArgumentTypeError(f"{text} is not {what}")
        return int(text)

    number.__name__ = name
    return number


_positive = _number(1, "positive number", f"a positive number of at most {_LARGEST:,}")
_count = _number(0, "number", f"a number from 0 to {_LARGEST:,}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="slimnets", description="The ResNets of TF-Slim on today's TensorFlow 2.")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for add in (
        _add_nets,
        _add_weights,
        _add_download,
        _add_inspect,
        _add_convert,
        _add_features,
        _add_merge,
        _add_classify,
        _add_time,
        _add_demo,
    ):
        add(commands)
    return parser


def _add_nets(commands: argparse._SubParsersAction) -> None:
    parser = commands.add_parser("nets", help="the networks there are, and the end points of one")
    parser.add_argument("name", nargs="?", metavar="NAME", help="a network, to list its end points")
    parser.add_argument("--layers", action="store_true", help="list layers and their parameters, as Keras would")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(run=functools.partial(_run_nets, parser))


def _run_nets(parser: argparse.ArgumentParser, arguments: argparse.Namespace) -> int:
    if arguments.layers and arguments.name is None:
        parser.error("--layers needs the NAME of a network")
    from tools.networks import print_layers, print_network, print_networks

    if arguments.name is None:
        print_networks(arguments.json)
    elif arguments.layers:
        print_layers(arguments.name, arguments.json)
    else:
        print_network(arguments.name, arguments.json)
    return 0


def _add_inspect(commands: argparse._SubParsersAction) -> None:
    parser = commands.add_parser("inspect", help="what a checkpoint is, and what is wrong with it")
    parser.add_argument("path", metavar="PATH", help="a file, a folder, or a key of `slimnets weights`")
    parser.add_argument("--net", metavar="NAME", help="network that it is to be")
    parser.add_argument("--num-classes", type=int, metavar="N", help="classes that it is to have")
    parser.add_argument("--scope", metavar="SCOPE", help="of the network to look at, where there are several")
    parser.add_argument("--variables", action="store_true", help="list the stored names, shapes and dtypes")
    parser.add_argument("--check", action="store_true", help="read all values, and look for damage")
    parser.add_argument("--json", action="store_true", dest="as_json", help="print JSON")
    _add_checkpoint_dir(parser)
    parser.set_defaults(run=_run_inspect)


def _run_inspect(arguments: argparse.Namespace) -> int:
    from tools.inspection import inspect

    options = vars(arguments)
    del options["run"]
    return inspect(**options)


def _add_convert(commands: argparse._SubParsersAction) -> None:
    parser = commands.add_parser("convert", help="weights to and from Keras, PyTorch, safetensors and NumPy")
    parser.add_argument(
        "source",
        metavar="SOURCE",
        help="a checkpoint, a key of `slimnets weights`, or a file of Keras, PyTorch, safetensors or NumPy",
    )
    parser.add_argument(
        "target", metavar="TARGET", help="name.npz, .safetensors, .keras or .pth; any other is a checkpoint's"
    )
    parser.add_argument("--net", metavar="NAME", help="network; otherwise told from the file")
    parser.add_argument("--scope", metavar="SCOPE", help="variable scope of the network in the file")
    parser.add_argument("--to-scope", metavar="SCOPE", help="another scope for the network's variables")
    parser.add_argument(
        "--num-classes",
        type=int,
        metavar="N",
        help="1000 drops the background of 1001, 1001 adds one to 1000, 0 leaves the logits out",
    )
    parser.add_argument("--image-size", type=_positive, metavar="N", help="that goes with the weights")
    parser.add_argument(
        "--only", action="append", default=[], metavar="PATTERN", help="variables to take, with * and ?"
    )
    parser.add_argument(
        "--exclude", action="append", default=[], metavar="PATTERN", help="variables to leave out, with * and ?"
    )
    parser.add_argument(
        "--model-only", action="store_true", help="leave out slots, moving averages and the global step"
    )
    parser.add_argument("--ema", action="store_true", help="take the moving averages of the variables")
    parser.add_argument("--format", choices=("V1", "V2"), help="of a checkpoint (default V2)")
    parser.add_argument("--names", choices=("slim", "torchvision"), help="of a .safetensors file (default slim)")
    parser.add_argument("--overwrite", action="store_true", help="replace a target that exists")
    parser.add_argument("--report", metavar="FILE", help="write what was done as JSON")
    _add_checkpoint_dir(parser)
    parser.set_defaults(run=_run_convert)


def _run_convert(arguments: argparse.Namespace) -> int:
    from tools.convert_command import run

    options = vars(arguments)
    del options["run"]
    return run(**options)


def _add_weights(commands: argparse._SubParsersAction) -> None:
    parser = commands.add_parser("weights", help="the published weights there are, and which of them are here")
    parser.add_argument("key", nargs="?", metavar="KEY", help="one of them, for all that is known of it")
    parser.add_argument("--json", action="store_true", help="print JSON")
    _add_checkpoint_dir(parser)
    parser.set_defaults(run=_run_weights)


def _run_weights(arguments: argparse.Namespace) -> int:
    from tools.weights import print_weights

    print_weights(arguments.key, arguments.json, arguments.checkpoint_dir)
    return 0


def _add_download(commands: argparse._SubParsersAction) -> None:
    parser = commands.add_parser("download", help="fetch published weights, verified, and print where they lie")
    parser.add_argument("key", metavar="KEY", help="as `slimnets weights` lists")
    parser.add_argument("--from", dest="from_file", metavar="FILE", help="the archive, fetched by other means")
    _add_checkpoint_dir(parser, "--to")
    parser.set_defaults(run=_run_download)


def _run_download(arguments: argparse.Namespace) -> int:
    from tools.weights import run_download

    return run_download(arguments.key, arguments.checkpoint_dir, arguments.from_file)


def _add_checkpoint_dir(parser: argparse.ArgumentParser, *names: str) -> None:
    parser.add_argument(
        *names,
        "--checkpoint-dir",
        dest="checkpoint_dir",
        metavar="DIR",
        help="folder of downloaded checkpoints (default $SLIMNETS_CHECKPOINTS, or the user's cache)",
    )


def _add_precision(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--precision",
        choices=("float32", "bfloat16", "float16"),
        default="float32",
        help="bfloat16 needs AVX-512, float16 a GPU (default float32)",
    )


def _add_restoration(parser: argparse.ArgumentParser) -> None:
    """The options of a command that restores a network from a checkpoint."""
    parser.add_argument(
        "--checkpoint", required=True, metavar="PATH", help="V1 file, V2 bundle, folder, or a key of `slimnets weights`"
    )
    parser.add_argument("--net", metavar="NAME", help="network; otherwise told from the checkpoint")
    parser.add_argument(
        "--num-classes",
        type=int,
        metavar="N",
        help="classes; otherwise told from the checkpoint (1000 drops the background of 1001, 1001 adds one to 1000)",
    )
    parser.add_argument("--image-size", type=_positive, metavar="N", help="height and width of the network's input")
    parser.add_argument("--preprocessing", metavar="NAME", help="vgg, inception, torchvision, cifar, grayscale or none")
    parser.add_argument("--scope", metavar="SCOPE", help="variable scope of the network in the file")
    parser.add_argument(
        "--exclude", action="append", default=[], metavar="PATTERN", help="variables to leave alone, with * and ?"
    )
    parser.add_argument("--ema", action="store_true", help="take the moving averages of the variables")
    parser.add_argument("--batch-size", type=_positive, default=32, metavar="N", help="images at a time (default 32)")
    _add_precision(parser)
    _add_checkpoint_dir(parser)


def _add_features(commands: argparse._SubParsersAction) -> None:
    parser = commands.add_parser("features", help="named features of images, from a checkpoint")
    parser.add_argument(
        "inputs", nargs="+", metavar="INPUT", help="an image, a folder, a TFRecord file, a .tar, or @list.txt"
    )
    parser.add_argument(
        "--end-points", required=True, metavar="NAME[,NAME...]", help="names or aliases, as `slimnets nets NAME` lists"
    )
    parser.add_argument(
        "--output", required=True, metavar="DIR", help="a new or empty folder, or what the same command left in one"
    )
    parser.add_argument("--overwrite", action="store_true", help="give up what an earlier command left in it")
    parser.add_argument(
        "--update", action="store_true", help="make again what changed or failed, add new images, and keep the rest"
    )
    _add_patterns(parser)
    parser.add_argument("--format", default="npy", metavar="NAME", help="npy, parquet or tfrecord (default npy)")
    parser.add_argument(
        "--dtype", choices=("float32", "float16"), default="float32", help="of what is stored (default float32)"
    )
    parser.add_argument(
        "--shards", type=_positive, metavar="N", help="cut the work into N folders (default one for 8,192 images)"
    )
    parser.add_argument("--shard-index", type=_count, metavar="I", help="make this one alone, from 0 to N - 1")
    parser.add_argument(
        "--distributor", choices=("local", "ray"), default="local", help="who makes the shards (default local)"
    )
    parser.add_argument("--workers", type=_positive, metavar="N", help="processes or Ray actors (default 1)")
    parser.add_argument("--threads", type=_positive, metavar="N", help="of each; otherwise one a core for all")
    parser.add_argument("--ray-address", metavar="ADDRESS", help="of a cluster to join")
    parser.add_argument(
        "--pool", choices=("none", "mean", "max"), default="none", help="reduce height and width (default none)"
    )
    _add_restoration(parser)
    parser.set_defaults(run=_run_features)


def _add_patterns(parser: argparse.ArgumentParser) -> None:
    """The options of a command that opens images."""
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


def _run_features(arguments: argparse.Namespace) -> int:
    from tools.features_command import run

    options = vars(arguments)
    del options["run"]
    return run(**{**options, "end_points": [name.strip() for name in arguments.end_points.split(",")]})


def _add_merge(commands: argparse._SubParsersAction) -> None:
    parser = commands.add_parser("merge", help="the shards of `slimnets features` as one")
    parser.add_argument("folders", nargs="+", metavar="DIR", help="with shards of one job, together all of them")
    parser.add_argument("--output", required=True, metavar="DIR", help="a new or empty folder")
    parser.set_defaults(run=_run_merge)


def _run_merge(arguments: argparse.Namespace) -> int:
    from tools.merging import run

    return run(arguments.folders, arguments.output)


def _add_classify(commands: argparse._SubParsersAction) -> None:
    parser = commands.add_parser("classify", help="the most probable classes of images, by name")
    parser.add_argument("inputs", nargs="+", metavar="IMAGE", help="an image, a folder, or @list.txt")
    _add_patterns(parser)
    parser.add_argument("--top", type=_positive, default=5, metavar="N", help="classes of each image (default 5)")
    parser.add_argument("--labels", metavar="FILE", help="names of the classes, one a line; otherwise ImageNet's")
    parser.add_argument("--json", action="store_true", dest="as_json", help="print JSON")
    _add_restoration(parser)
    parser.set_defaults(run=_run_classify)


def _run_classify(arguments: argparse.Namespace) -> int:
    from tools.classification import run

    options = vars(arguments)
    del options["run"]
    return run(**options)


def _add_time(commands: argparse._SubParsersAction) -> None:
    parser = commands.add_parser("time", help="how long networks take on this machine")
    parser.add_argument(
        "nets", nargs="+", metavar="NET", help="networks, as `slimnets nets` lists, one after the other"
    )
    parser.add_argument("--batch-size", type=_positive, default=32, metavar="N", help="images at a time (default 32)")
    parser.add_argument("--image-size", type=_positive, metavar="N", help="height and width; otherwise the network's")
    parser.add_argument(
        "--num-classes", type=int, metavar="N", help="classes, 0 for no logits; otherwise the network's"
    )
    parser.add_argument("--steps", type=_positive, default=100, metavar="N", help="steps that count (default 100)")
    parser.add_argument("--burn-in", type=_count, default=10, metavar="N", help="steps before them (default 10)")
    parser.add_argument(
        "--mode",
        choices=("forward", "forward-backward", "train"),
        default="forward",
        help="inference, gradients of a loss, or whole steps of training",
    )
    _add_precision(parser)
    parser.add_argument("--xla", action="store_true", help="compile the whole with XLA")
    parser.add_argument("--freeze", action="store_true", help="weights as constants, which TensorFlow can fold")
    parser.add_argument("--feed", action="store_true", help="feed the images in each step, and count that")
    parser.add_argument(
        "--end-point", metavar="NAME", help="stop there; a name or alias, as `slimnets nets NAME` lists"
    )
    parser.add_argument("--device", metavar="DEVICE", help="cpu, gpu, gpu:1, ...; otherwise TensorFlow's choice")
    parser.add_argument("--threads", type=_positive, metavar="N", help="otherwise one a core")
    parser.add_argument(
        "--checkpoint",
        metavar="PATH",
        help="weights: a file, a folder, or a key of `slimnets weights`; otherwise random",
    )
    _add_checkpoint_dir(parser)
    parser.add_argument("--json", dest="json_file", metavar="FILE", help="write all figures, each step's duration too")
    parser.add_argument("--plot", metavar="FILE", help="draw the durations: .png, .svg or .pdf")
    parser.add_argument("--against", metavar="ENGINE[,ENGINE...]", help="time others in turns: slim, keras, torch, ...")
    parser.set_defaults(run=_run_time)


def _run_time(arguments: argparse.Namespace) -> int:
    from tools.time_command import run

    options = vars(arguments)
    del options["run"]
    against = [name.strip() for name in arguments.against.split(",")] if arguments.against is not None else ()
    return run(**{**options, "against": against})


def _add_demo(commands: argparse._SubParsersAction) -> None:
    parser = commands.add_parser("demo", help="the main job on the checkpoint and images that ship with slimnets")
    parser.add_argument("--output", default="demo-output", metavar="DIR", help="folder (default demo-output)")
    parser.set_defaults(run=_run_demo)


def _run_demo(arguments: argparse.Namespace) -> int:
    from tools.demo import run

    return run(arguments.output)


if __name__ == "__main__":
    sys.exit(main())
