"""Trains a network on labelled images; ``prepare`` and ``run`` are its two halves."""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from tools.errors import InputError
from tools.evaluation import Labelled, open_labelled
from tools.training.folder.history import Event
from tools.training.folder.record import describe_training, steps_done
from tools.training.plan import Plan, make_plan
from tools.training.running import Training, run
from tools.training.settings import settings_from
from tools.training.start import Start, choose_start

__all__ = ["Job", "fit", "prepare"]

_Images = str | Path | Iterable[str | Path]


class Job(NamedTuple):
    """A training that is ready to run.

    output: its folder.
    start: the network, the images and the checkpoint.
    plan: the settings, with what they left open.
    validation: the labelled images for validation; None for none.
    record: all that the weights depend on, as values of JSON.
    overwrite: whether another training in the folder is given up.
    done: number of steps that earlier runs did.
    """

    output: Path
    start: Start
    plan: Plan
    validation: Labelled | None
    record: dict[str, Any]
    overwrite: bool
    done: int

    @property
    def said(self) -> list[str]:
        """Returns sentences on what was chosen."""
        validation = [] if self.validation is None else [f"Validation: {one}" for one in self.validation.said]
        return [*self.start.labelled.said, *self.start.said, *self.plan.said(), *validation]


def prepare(
    data: _Images,
    output: str | Path,
    *,
    checkpoint: str | Path | None = None,
    net: str | None = None,
    val: _Images | None = None,
    labels: str | Path | None = None,
    label_offset: int | None = None,
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
    checkpoint_dir: str | Path | None = None,
    overwrite: bool = False,
    advance: Callable[[int], None] = lambda count: None,
    **settings: Any,
) -> Job:
    """Returns a training that is ready to run; nothing is written yet.

    Args:
      data, output, checkpoint, net, val, labels, label_offset, include, exclude, checkpoint_dir, overwrite,
        **settings: as for ``fit``.
      advance: called with the number of labels just read.

    Raises:
      CheckpointError, InputError, TypeError: as ``fit``.
    """
    chosen = settings_from(settings)
    if val is None and chosen.eval_steps is not None:
        raise InputError(f"eval_steps={chosen.eval_steps} goes with images for validation: give val=DATA, or omit it.")
    output = _folder(output, [*_paths(data), *_paths(val or ())])
    images = open_labelled(
        _paths(data),
        labels=labels,
        label_offset=label_offset,
        empty_allowed=False,
        include=include,
        exclude=exclude,
        advance=advance,
    )
    start = choose_start(images, chosen, checkpoint, net, label_offset=label_offset, checkpoint_dir=checkpoint_dir)
    plan = make_plan(chosen, start)
    validation = None
    if val is not None:
        validation = _open_validation(val, start.labelled, include=include, exclude=exclude, advance=advance)
    record = describe_training(start, plan, validation)
    done = steps_done(output, record, overwrite=overwrite)
    return Job(output, start, plan, validation, record, overwrite, done)


def _folder(output: str | Path, data: list[str | Path]) -> Path:
    """Returns the folder of the training. Raises InputError if it can hold none."""
    if "://" in str(output):
        raise InputError(f"{output} is no folder of this machine, where a training is saved: name one.")
    if str(output).encode(errors="replace").decode() != str(output):
        raise InputError(f"TensorFlow cannot write to {str(output)!a}, which is not UTF-8: name another folder.")
    output = Path(output)
    for path in data:
        if Path(path).is_dir() and output.resolve().is_relative_to(Path(path).resolve()):
            raise InputError(
                f"{output} lies in the images' folder {path}, where it would pass for a class: name another folder."
            )
    return output


def _open_validation(val: _Images, training: Labelled, **options: Any) -> Labelled:
    """Returns the images for validation, numbered as those of the training."""
    names, offset = training.names, training.offset
    if offset and names == [str(offset + number) for number in range(len(names))]:
        names = None  # the labels are numbers, which the offset alone makes classes
    return open_labelled(_paths(val), names=names, num_classes=len(training.names), label_offset=offset, **options)


def fit(
    data: _Images,
    output: str | Path,
    *,
    checkpoint: str | Path | None = None,
    net: str | None = None,
    val: _Images | None = None,
    labels: str | Path | None = None,
    label_offset: int | None = None,
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
    checkpoint_dir: str | Path | None = None,
    overwrite: bool = False,
    watch: Callable[[Event], None] = lambda event: None,
    **settings: Any,
) -> Training:
    """Trains a network, and goes on where an earlier call with the same arguments was stopped or killed.

    Args:
      data: labelled images, as for ``tools.images.open_inputs``: a folder with a folder a class, TFRecord files or tar
        archives.
      output: folder of the training. It holds checkpoints with notes (``open_checkpoint`` takes the folder), the best
        one by validation in ``best``, ``history.csv``, ``curves.png``, events for TensorBoard and ``run.json``.
      checkpoint: a path or a key to start from; None to train ``net`` from scratch. The logits begin anew where the
        classes differ.
      net: name of the network; chooses among several in the checkpoint.
      val: labelled images to validate on.
      labels: file with the names of the classes in their order.
      label_offset: number that is subtracted from the data's class numbers; see ``tools.evaluation.number_labels``.
      include, exclude: patterns of the images' names, as for ``open_inputs``.
      checkpoint_dir: folder of downloaded checkpoints.
      overwrite: whether another training in the folder is given up.
      watch: called with the figures of each step and validation.
      **settings: fields of ``tools.training.Settings``.

    A call is the same if its settings, versions and classes are, the checkpoint's content, and the names of the images
    in their order. The contents of the images are not compared.

    Raises:
      CheckpointError: if the checkpoint cannot be read, or does not fit the network.
      InputError: for images, settings or a folder that cannot be used.
      OSError: if a file cannot be written; the states before remain.
      TrainingError: if the loss is not finite; the states before remain.
      TypeError: for an unknown setting.
    """
    job = prepare(
        data,
        output,
        checkpoint=checkpoint,
        net=net,
        val=val,
        labels=labels,
        label_offset=label_offset,
        include=include,
        exclude=exclude,
        checkpoint_dir=checkpoint_dir,
        overwrite=overwrite,
        **settings,
    )
    return run(job, watch)


def _paths(data: _Images) -> list[str | Path]:
    return [data] if isinstance(data, str | Path) else list(data)
