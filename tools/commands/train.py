"""``slimnets train``: trains a network on labelled images, from scratch or from a checkpoint."""

import argparse
import sys
from typing import TYPE_CHECKING, Any

from tools.commands.arguments import add_checkpoint_dir, add_patterns, add_precision, patterns_of, positive
from tools.terminal.network_input import described_input
from tools.terminal.option_names import as_options
from tools.terminal.progress import progress
from tools.terminal.skipped import REASONS, say_skipped
from tools.terminal.stopping import stoppable
from tools.terminal.visible import visible

if TYPE_CHECKING:
    from tools.training import Event, Job, Training

__all__ = ["add"]

# Settings whose options have the type and help here. ``None`` is left to the library, which documents the defaults.
_NUMBERS: dict[str, dict[str, tuple[Any, str, str]]] = {
    "length": {
        "steps": (int, "N", "number of steps"),
        "epochs": (float, "N", "number of times that each image is used, in place of --steps (default 20)"),
        "batch_size": (positive, "N", "images of a step (default 32)"),
    },
    "learning rate": {
        "learning_rate": (float, "RATE", "highest learning rate (default 0.01; with adam 0.001)"),
        "warmup_steps": (int, "N", "steps in which the learning rate rises (default 0)"),
        "end_learning_rate": (float, "RATE", "learning rate at the end of cosine (default 0) or polynomial (0.0001)"),
        "decay_factor": (float, "FACTOR", "factor of exponential (default 0.94) or piecewise (default 0.1)"),
        "decay_steps": (int, "N", "steps between two decays of exponential (default 2 epochs)"),
        "power": (float, "POWER", "of polynomial (default 1)"),
    },
    "optimizer": {
        "momentum": (float, "M", "of momentum and rmsprop (default 0.9)"),
        "adam_beta1": (float, "BETA", "of adam (default 0.9)"),
        "adam_beta2": (float, "BETA", "of adam (default 0.999)"),
        "rmsprop_decay": (float, "DECAY", "of rmsprop (default 0.9)"),
        "opt_epsilon": (float, "EPSILON", "of adam (default 1e-8) and rmsprop (default 1)"),
        "weight_decay": (float, "FACTOR", "factor of the L2 loss (default: the network's)"),
        "label_smoothing": (float, "SHARE", "share of the target that is spread over all classes (default 0)"),
        "ema": (float, "DECAY", "keep moving averages of the weights, with this decay"),
        "batch_norm_decay": (float, "DECAY", "decay of the moving statistics (default: by the number of steps)"),
    },
    "work": {
        "seed": (int, "N", "of initial values, order and augmentation (default 0)"),
        "eval_steps": (int, "N", "steps between two validations (default: one epoch)"),
        "save_seconds": (float, "SECONDS", "most seconds of work that a kill can cost (default 5)"),
        "checkpoint_seconds": (float, "SECONDS", "most seconds of work between two checkpoints (default 60)"),
        "keep": (positive, "N", "number of checkpoints to keep, besides the best (default 3)"),
        "threads": (positive, "N", "threads that decode, and that compute (default: one for each core)"),
    },
}


def add(commands: argparse._SubParsersAction) -> None:
    """Adds the command to the parser."""
    parser = commands.add_parser(
        "train",
        help="train a network on labelled images, from scratch or from a checkpoint",
        description="Trains a network on labelled images, from scratch or from a checkpoint. All images count the "
        "same: there are no weights of classes.",
        # A setting that is not given is not passed on.
        argument_default=argparse.SUPPRESS,
    )
    parser.add_argument(
        "data",
        nargs="+",
        metavar="DATA",
        help="labelled images: a folder with a folder for each class, TFRecord files, tar archives",
    )
    parser.add_argument(
        "--output",
        required=True,
        metavar="DIR",
        help="folder of the training: a new or empty one, or one in which the same command was stopped, to resume it "
        "(images are compared by their names, and not by their contents)",
    )
    parser.add_argument(
        "--from",
        "--checkpoint",
        dest="checkpoint",
        metavar="PATH",
        help="checkpoint to start from, or a key of `slimnets weights`; other classes get new logits",
    )
    parser.add_argument(
        "--net",
        metavar="NAME",
        help="network to train from scratch, or the one to take from the checkpoint; `slimnets nets` lists them",
    )
    parser.add_argument("--val", nargs="+", metavar="DATA", help="labelled images to validate on")
    parser.add_argument("--labels", metavar="FILE", help="file with the names of the classes in their order")
    parser.add_argument(
        "--label-offset", type=int, metavar="N", help="number to subtract from the class numbers of the data"
    )
    parser.add_argument("--overwrite", action="store_true", help="delete another training that the folder holds")
    add_patterns(parser)
    parser.add_argument(
        "--trainable",
        action="append",
        metavar="all|head|PATTERN",
        help="variables to train: all (the default), the logits, or those whose name matches; * and ? are wildcards",
    )
    parser.add_argument("--new-head", action="store_true", help="begin the logits anew, even if the classes fit")
    parser.add_argument("--freeze-batch-norm", action="store_true", help="use the stored statistics, and keep them")
    parser.add_argument("--optimizer", metavar="NAME", help="momentum (the default), sgd, adam or rmsprop")
    parser.add_argument(
        "--schedule",
        metavar="NAME",
        help="course of the learning rate: cosine (the default), constant, exponential, piecewise or polynomial",
    )
    parser.add_argument(
        "--boundaries", type=_steps, metavar="STEP[,STEP...]", help="steps at which piecewise lowers the learning rate"
    )
    parser.add_argument(
        "--augmentation",
        metavar="NAME",
        help="random changes of the images: vgg, inception, cifar or none (default: by the preprocessing)",
    )
    parser.add_argument("--no-flip", dest="flip", action="store_false", help="do not mirror images")
    parser.add_argument("--no-color", dest="color", action="store_false", help="do not change colours")
    parser.add_argument("--preprocessing", metavar="NAME", help="vgg, inception, torchvision, cifar or grayscale")
    parser.add_argument("--image-size", type=positive, metavar="N", help="height and width of the network's input")
    for title, options in _NUMBERS.items():
        group = parser.add_argument_group(title)
        for name, (kind, metavar, description) in options.items():
            group.add_argument(f"--{name.replace('_', '-')}", type=kind, metavar=metavar, help=description)
    add_precision(parser)
    add_checkpoint_dir(parser)
    parser.set_defaults(run=_run)


def _steps(text: str) -> list[int]:
    return [int(step) for step in text.split(",")]


_steps.__name__ = "list of steps"


def _run(arguments: argparse.Namespace) -> int:
    from tools.training import prepare, run

    given = vars(arguments)
    named = ("checkpoint", "net", "val", "labels", "label_offset", "checkpoint_dir", "overwrite")
    chosen = {name: given[name] for name in named if name in given}
    with progress("labels", None, "images", brief=True) as advance:
        job = prepare(
            arguments.data, arguments.output, **chosen, **patterns_of(arguments), **_settings(given), advance=advance
        )
    say_skipped(job.start.labelled.inputs.skipped)
    _say(job, given.get("checkpoint"))
    batch = job.plan.settings.batch_size
    with stoppable(), progress("train", (job.plan.steps - job.done) * batch, "images") as advance:

        def watch(event: "Event") -> None:
            advance(0 if event.is_validation else batch, _figures(event))

        try:
            if job.done < job.plan.steps:
                advance(0)
            result = run(job, watch)
        except KeyboardInterrupt:
            print("slimnets: stopped; run the same command again to go on from the last saved state", file=sys.stderr)
            return 1
    return _report(result)


def _settings(given: dict[str, Any]) -> dict[str, Any]:
    """Returns the settings that were given, as keyword arguments of ``fit``."""
    import dataclasses

    from tools.training import Settings

    settings = {field.name: given[field.name] for field in dataclasses.fields(Settings) if field.name in given}
    if settings.get("trainable") in (["all"], ["head"]):
        settings["trainable"] = settings["trainable"][0]
    return settings


def _say(job: "Job", checkpoint: str | None) -> None:
    start, plan = job.start, job.plan
    begin = "from scratch" if checkpoint is None else f"from {checkpoint}"
    images = len(start.labelled.rows)
    epochs = f"{plan.steps / plan.steps_an_epoch:.3g}"
    print(
        f"{start.network.name} {begin}, {len(start.labelled.names):,} classes, {images:,} images, "
        f"{described_input(start)}, augmentation {plan.augmentation}\n"
        f"{plan.steps:,} {_plural('step', plan.steps)} of {plan.settings.batch_size} images "
        f"({epochs} {_plural('epoch', epochs)}), "
        f"{plan.settings.optimizer}, learning rate {plan.learning_rate:g}, {plan.settings.schedule}",
        file=sys.stderr,
    )
    for sentence in job.said:
        print(as_options(sentence), file=sys.stderr)
    if job.done == plan.steps:
        print(f"The training in {job.output} is complete.", file=sys.stderr)
    elif job.done:
        print(f"Resumes the training in {job.output} after step {job.done:,}.", file=sys.stderr)


def _plural(noun: str, number: int | str) -> str:
    return noun if str(number) == "1" else f"{noun}s"


def _figures(event: "Event") -> str:
    if event.is_validation:
        return f"validation {event.val_top_1:.2%}"
    return f"loss {event.loss:.4f}"


def _report(result: "Training") -> int:
    for name, reason in list(result.failed.items())[:REASONS]:
        print(visible(f"failed: {name}: {reason}"), file=sys.stderr)
    if failed := len(result.failed):
        were = "was" if failed == 1 else "were"
        images = f"{failed:,} {_plural('image', failed)} failed and {were} left out"
        print(f"{images}: {result.output / 'failed.csv'}", file=sys.stderr)
    last = result.last
    print(f"{result.steps:,} {_plural('step', result.steps)} done, saved in {result.output}")
    print(f"last batch: loss {last.loss:.4f}, of which cross entropy {last.cross_entropy:.4f}")
    if result.validation is not None:
        top_1, cross_entropy = result.validation.val_top_1, result.validation.val_cross_entropy
        print(f"validation: top-1 {top_1:.2%}, cross entropy {cross_entropy:.4f}")
        print(
            f"best: top-1 {result.best.val_top_1:.2%} at step {result.best.step:,}, saved in {result.output / 'best'}"
        )
    return 1 if result.failed else 0
