"""Evaluates a checkpoint on labelled images, batch by batch, in inference and by the statistics of the batches."""

import contextlib
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from nets.endpoint_info import UnknownEndPointError
from tools.errors import InputError
from tools.evaluation.batch_statistics import BatchStatisticsNetwork, batch_statistics_logits, mixed_rows
from tools.evaluation.evaluation import (
    BatchStatistics,
    Evaluation,
    Images,
    PredictionsWriter,
    results_folder,
    write_results,
)
from tools.evaluation.labelling import Labelled, names_of, number_labels
from tools.evaluation.metrics import Accumulator, Metrics, wilson
from tools.features import FeatureExtractor
from tools.features.computing import TENSORFLOW
from tools.features.computing.arithmetic import freeze_for
from tools.images import Inputs, open_inputs
from tools.images.reading import ImageStatus
from tools.images.sources.folders import folders_in

__all__ = ["STATISTICS_IMAGES", "evaluate", "evaluate_labelled", "labelled_for", "logits_extractor", "measure"]

_LOGITS = "logits"

# Largest number of images by which inference is compared with the statistics of the batches.
STATISTICS_IMAGES = 512

_TOO_FEW = "a batch needs two images at least"

_FIGURES = ("all", "inference", "batch statistics")


def evaluate(
    data: str | Path | Iterable[str | Path],
    checkpoint: str | Path,
    *,
    labels: str | Path | None = None,
    label_offset: int | None = None,
    output: str | Path | None = None,
    overwrite: bool = False,
    figures: str = "all",
    include: Sequence[str] = (),
    exclude_inputs: Sequence[str] = (),
    advance: Callable[[int], None] = lambda count: None,
    **options: Any,
) -> Evaluation:
    """Evaluates a checkpoint on labelled images.

    Args:
      data: a folder with a folder of images for each class, TFRecord files, or tar archives; see
        ``tools.images.open_inputs``.
      checkpoint: a path or a key, as for ``FeatureExtractor``.
      labels: a file with the names of the network's classes in their order; None for those of the checkpoint's notes,
        or else of a file ``labels.txt`` in a folder of ``data``.
      label_offset: class = label's number - label_offset; None for the default of ``number_labels``.
      output: a folder for ``metrics.json``, ``predictions.csv``, ``confusion.csv`` and ``confusion.png``.
      overwrite: whether it takes the place of a folder with the results of another evaluation.
      figures: 'inference' for the measures, 'batch statistics' for the accuracy by the statistics of the batches of up
        to 512 images, or 'all'.
      include, exclude_inputs: patterns of the images' names, as ``include`` and ``exclude`` of ``open_inputs``.
      advance: called with the number of images whenever some are done.
      **options: as for ``FeatureExtractor``.

    Raises:
      CheckpointError: if the checkpoint cannot be read, or does not fit the network.
      InputError: if the images have no labels, these do not fit the network, or no image can be read.
      ValueError: for another argument that cannot be honoured.

    Warns:
      InferenceWarning: if the figures are doubtful.
    """
    paths = [str(path) for path in ([data] if isinstance(data, str | Path) else data)]
    inputs = open_inputs(paths, include=include, exclude=exclude_inputs)
    with logits_extractor(checkpoint, len(inputs), **options) as extractor:
        labelled = labelled_for(extractor, inputs, paths, labels=labels, label_offset=label_offset)
        return evaluate_labelled(
            extractor, labelled, output=output, overwrite=overwrite, figures=figures, advance=advance
        )


def logits_extractor(checkpoint: str | Path, num_images: int, **options: Any) -> FeatureExtractor:
    """Returns an extractor of logits.

    Args:
      checkpoint, **options: as for ``FeatureExtractor``.
      num_images: approximate number of images to evaluate.

    Raises:
      ValueError: if the network has no logits, those of one class, or logits for each place of the image.
    """
    try:
        freeze = freeze_for(num_images, options.get("engine", TENSORFLOW))
        extractor = FeatureExtractor(checkpoint, [_LOGITS], **{"freeze": freeze} | options)
    except UnknownEndPointError:
        sentence = f"{checkpoint} has no logits to evaluate: give a checkpoint that has them."
        if options.get("num_classes") == 0:
            sentence = "num_classes=0 removes the logits that an evaluation needs: omit it."
        raise ValueError(sentence) from None
    shape = extractor.shapes[_LOGITS]
    fault = None
    if len(shape) != 1 or shape[0] is None:
        fault = f"the logits of {extractor.net} have the shape {list(shape)} for each image, and not [classes]"
    elif shape[0] < 2:
        fault = f"{extractor.net} has one class, and a classification has two at least"
    if fault:
        extractor.close()
        raise ValueError(f"{checkpoint} cannot be evaluated: {fault}. Write its logits with `slimnets features`.")
    return extractor


def labelled_for(
    extractor: FeatureExtractor,
    inputs: Inputs,
    paths: Sequence[str],
    *,
    labels: str | Path | None = None,
    label_offset: int | None = None,
    advance: Callable[[int], None] = lambda count: None,
) -> Labelled:
    """Returns images with the numbers of their classes in an extractor's logits.

    Args:
      extractor: of logits.
      inputs: the images.
      paths: what ``inputs`` were opened from.
      labels, label_offset: as for ``evaluate``.
      advance: called with the number of images whose labels were read.

    Raises:
      InputError: as ``number_labels``.
    """
    noted = extractor.labels if labels is None else None
    return number_labels(
        inputs,
        names=noted or names_of(paths, labels),
        folders=folders_in(paths),
        num_classes=extractor.shapes[_LOGITS][0],
        label_offset=label_offset,
        advance=advance,
    )


def evaluate_labelled(
    extractor: FeatureExtractor,
    labelled: Labelled,
    *,
    output: str | Path | None = None,
    overwrite: bool = False,
    figures: str = "all",
    advance: Callable[[int], None] = lambda count: None,
) -> Evaluation:
    """Evaluates an extractor of logits; the arguments are those of ``evaluate``.

    Raises:
      InputError: if no image can be evaluated, or the output cannot be written.
      ValueError: for unknown ``figures``.
    """
    if figures not in _FIGURES:
        raise ValueError(f"figures must be one of {', '.join(_FIGURES)}, and is {figures!r}.")
    metrics, statistics, advice, said = None, None, [], list(labelled.said)
    errors: Counter[str] = Counter()
    # The images that were evaluated, or that may be.
    good = labelled.classes >= 0
    advance(0)
    with results_folder(output, overwrite=overwrite) as folder, contextlib.ExitStack() as stack:
        writer = None
        if folder is not None and figures != "batch statistics":
            writer = stack.enter_context(PredictionsWriter(folder, labelled.names))

        def note(images: Images) -> None:
            for row, error in zip(images.rows, images.errors, strict=True):
                if error is not None:
                    good[row] = False
                    errors[error.partition(" (")[0]] += 1
            if writer:
                writer.append(images)

        if figures != "batch statistics":
            metrics = measure(extractor, labelled, on_batch=note, advance=advance)
        if figures != "inference":
            rows = np.flatnonzero(good)
            rows = rows[mixed_rows(len(rows), STATISTICS_IMAGES)].tolist()
            statistics = _by_batch_statistics(extractor, labelled, rows, errors, metrics is not None, advance)
            if isinstance(statistics, str):
                if metrics is None:
                    raise InputError(f"The statistics of batches cannot be used: {statistics}.")
                said.append(f"Inference was not compared with the statistics of the batches: {statistics}.")
                statistics = None
            elif metrics is not None and statistics.top_1.low > metrics.top_1.high:
                advice.append(_advice(extractor, metrics, statistics))
        stack.close()
        evaluation = Evaluation(
            metrics,
            statistics,
            errors.total(),
            dict(errors.most_common()),
            labelled.names,
            tuple(said),
            tuple(advice),
            _settings(extractor, labelled),
        )
        if folder is not None:
            write_results(folder, evaluation)
    return evaluation


def measure(
    extractor: FeatureExtractor,
    labelled: Labelled,
    *,
    rows: Sequence[int] | None = None,
    on_batch: Callable[[Images], None] | None = None,
    advance: Callable[[int], None] = lambda count: None,
) -> Metrics:
    """Measures how well an extractor's logits classify images. Images that cannot be evaluated are left out.

    Args:
      extractor: of the end point 'logits'; see ``logits_extractor``.
      labelled: the images, with classes of the extractor's network.
      rows: numbers of the images to take; None for all.
      on_batch: called with the results of each batch.
      advance: called with the number of images just computed.

    Raises:
      InputError: if no image can be evaluated.
    """
    accumulator = Accumulator(extractor.shapes[_LOGITS][0])
    rows = range(len(labelled.inputs)) if rows is None else rows
    done, failed, first = 0, 0, ""
    for batch in extractor.batches(labelled.inputs, rows):
        part = rows[done : done + len(batch.statuses)]
        logits, classes = batch.features[_LOGITS], labelled.classes[part]
        finite = np.isfinite(logits).all(axis=1)
        errors = [_error(*each) for each in zip(batch.statuses, classes.tolist(), finite.tolist(), strict=True)]
        good = [place for place, error in enumerate(errors) if error is None]
        scores = accumulator.add(logits[good], classes[good])
        if len(good) < len(part):
            bad = next(place for place, error in enumerate(errors) if error is not None)
            first = first or f"{batch.statuses[bad].path}: {errors[bad]}"
            failed += len(part) - len(good)
        if on_batch is not None:
            paths, labels = [status.path for status in batch.statuses], [status.label for status in batch.statuses]
            on_batch(Images(part, paths, labels, errors, classes[good], scores))
        done += len(part)
        advance(len(part))
    if failed == done:
        raise InputError(f"None of {done:,} images can be evaluated. The first is {first}.")
    return accumulator.metrics()


def _error(status: ImageStatus, number: int, finite: bool) -> str | None:
    """Returns the reason why an image was not evaluated; None if it was."""
    if status.error is not None:
        return status.error
    if number < 0:
        return "its label could not be read"
    return None if finite else "its logits are not numbers: check the checkpoint with `slimnets inspect --check`"


def _by_batch_statistics(
    extractor: FeatureExtractor,
    labelled: Labelled,
    rows: list[int],
    errors: Counter[str],
    known_readable: bool,
    advance: Callable[[int], None],
) -> BatchStatistics | str:
    """Returns the accuracy by the statistics of the batches, or a clause on why there is none.

    Args:
      extractor, labelled: as for ``measure``.
      rows: numbers of the images, in a mixed order.
      errors: counts the reasons of images that cannot be read.
      known_readable: whether all of them have been read before.
      advance: called with the number of images just computed.
    """
    if extractor.num_classes is None:
        return "the network was given as a function"
    if len(rows) < 2 or extractor.batch_size < 2:
        return _TOO_FEW
    with BatchStatisticsNetwork(
        extractor.reader,
        net=extractor.net,
        num_classes=extractor.num_classes,
        image_size=extractor.image_size,
        preprocessing=extractor.preprocessing,
        # The statistics of batches are TensorFlow's.
        precision=extractor.precision if extractor.engine == TENSORFLOW else "float32",
        batch_size=extractor.batch_size,
        scope=extractor.scope,
        exclude=extractor.exclude,
        ema=extractor.ema,
        threads=extractor.threads,
    ) as network:
        if not network.batch_norms:
            return f"{extractor.net} has no batch norms here"
        if not known_readable:
            rows, failed = network.readable(labelled.inputs, rows)
            errors.update(status.error.partition(" (")[0] for status in failed)
        if len(rows) < 2:
            return _TOO_FEW
        logits = batch_statistics_logits(network, labelled.inputs, rows, advance)
    hits = logits.argmax(axis=1) == labelled.classes[rows]
    return BatchStatistics(len(rows), wilson(int(np.count_nonzero(hits)), len(rows)))


def _advice(extractor: FeatureExtractor, metrics: Metrics, statistics: BatchStatistics) -> str:
    return (
        f"In inference the network is right for {100 * metrics.top_1.value:.1f} % of the images, and with the "
        f"statistics of its batches, as in training, for {100 * statistics.top_1.value:.1f} %: the moving statistics "
        "in the checkpoint do not fit its weights. Its training had too few steps for the decay of the batch norms, or "
        "never ran their update operations. Estimate the statistics again: "
        f"`slimnets recalibrate {extractor.reader.path} DATA --output NEW`."
    )


def _settings(extractor: FeatureExtractor, labelled: Labelled) -> dict[str, Any]:
    return {
        "checkpoint": str(extractor.reader.path),
        "network": extractor.net,
        "num_classes": len(labelled.names),
        "preprocessing": extractor.preprocessing,
        "image_size": extractor.image_size,
        "engine": extractor.engine,
        "precision": extractor.precision,
        "input_known": extractor.input_known,
        "label_offset": labelled.offset,
        "warnings": list(extractor.warnings),
    }
