"""The result of an evaluation, and the files that hold it."""

import csv
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np

from checkpoints.files.atomic import new_folder
from tools.errors import InputError
from tools.evaluation.confusion_plot import draw_confusion
from tools.evaluation.metrics import BINS, TOP, Metrics, Scores, Share
from tools.features.formats import utf8

__all__ = [
    "BatchStatistics",
    "Evaluation",
    "Images",
    "PredictionsWriter",
    "check_output",
    "results_folder",
    "write_results",
]

_METRICS, _PREDICTIONS, _CONFUSION, _PLOT = "metrics.json", "predictions.csv", "confusion.csv", "confusion.png"

# Number of confusions in the JSON record.
_CONFUSIONS = 20


class Images(NamedTuple):
    """Some images, one row for each.

    rows: their numbers.
    paths, labels: their names and labels.
    errors: the reason why each was not evaluated; None if it was.
    classes: the numbers of the classes of the evaluated ones.
    scores: the results of the evaluated ones.
    """

    rows: Sequence[int]
    paths: list[str]
    labels: list[str]
    errors: list[str | None]
    classes: np.ndarray
    scores: Scores


class BatchStatistics(NamedTuple):
    """The accuracy by the statistics of the batches, as in training.

    images: their number.
    top_1: share of images whose class has the highest logit.
    """

    images: int
    top_1: Share


class Evaluation(NamedTuple):
    """The result of an evaluation.

    metrics: the measures in inference; None if only batch statistics were asked for.
    batch_statistics: the accuracy by the statistics of the batches; None if it was not computed.
    failed: number of images that were left out because they could not be read or computed.
    reasons: their number by reason.
    names: the name of each class.
    said: how labels became classes, what was left out, and doubts about the weights.
    advice: what to do about faults that the measures reveal.
    settings: checkpoint, network, classes, preprocessing and size of the images, and label offset.
    """

    metrics: Metrics | None
    batch_statistics: BatchStatistics | None
    failed: int
    reasons: dict[str, int]
    names: list[str]
    said: tuple[str, ...]
    advice: tuple[str, ...]
    settings: dict[str, Any]

    def record(self) -> dict[str, Any]:
        """Returns the result for JSON. Shares are fractions of 1."""
        metrics, names = self.metrics, self.names
        record: dict[str, Any] = {"top_1": None, "top_5": None, "cross_entropy": None, "calibration_error": None}
        images = self.batch_statistics.images if self.batch_statistics else 0
        if metrics is not None:
            record = {
                "top_1": metrics.top_1._asdict(),
                "top_5": metrics.top_5._asdict(),
                "cross_entropy": metrics.cross_entropy,
                "calibration_error": metrics.calibration_error,
            }
            images = metrics.images
        record |= {"images": images, "failed": self.failed, "reasons": self.reasons, "advice": list(self.advice)}
        statistics = self.batch_statistics
        record["batch_statistics"] = statistics and {"images": statistics.images, "top_1": statistics.top_1._asdict()}
        if metrics is not None:
            counts = metrics.confusion.sum(axis=1).tolist()
            record["recall"] = [
                {"class": number, "name": names[number], "images": counts[number], "recall": recall}
                for number, recall in enumerate(metrics.recall)
                if recall is not None
            ]
            record["confusions"] = [
                {"class": of, "predicted": to, "images": count, "name": names[of], "predicted_name": names[to]}
                for of, to, count in metrics.confusions(_CONFUSIONS)
            ]
            record["calibration_bins"] = BINS
        return record | {"said": list(self.said)} | self.settings


@contextmanager
def results_folder(output: str | Path | None, *, overwrite: bool = False) -> Iterator[Path | None]:
    """Makes a folder for results, which appears as a whole at the end of the block, or not at all.

    Args:
      output: its path; None for no folder.
      overwrite: whether it takes the place of a folder with the results of another evaluation.

    Yields:
      The folder to write into; None without ``output``.

    Raises:
      InputError: if the folder exists and is not empty, or cannot be written.
    """
    if output is None:
        yield None
        return
    output = Path(output)
    check_output(output, overwrite=overwrite)
    try:
        with new_folder(output, replace=overwrite) as folder:
            yield folder
    except OSError as error:
        if error.filename is None or Path(error.filename).parent not in (output.parent, output):
            raise
        raise InputError(f"{output} cannot be written ({error.strerror}): give another output folder.") from None


def check_output(output: str | Path, *, overwrite: bool = False) -> None:
    """Raises InputError if results cannot be written to a folder: it is a file, or holds something."""
    output = Path(output)
    if output.exists() and not output.is_dir():
        raise InputError(f"The output {output} is a file: name a folder.")
    there = {path.name for path in output.iterdir()} if output.is_dir() else set()
    if others := there - {_METRICS, _PREDICTIONS, _CONFUSION, _PLOT}:
        raise InputError(f"The output folder {output} holds {min(others)}, which no evaluation writes: name another.")
    if there and not overwrite:
        raise InputError(
            f"The output folder {output} holds an evaluation: name another, or replace it with overwrite=True."
        )


class PredictionsWriter:
    """A context manager that writes ``predictions.csv``, a row for each image.

    Args:
      folder: the folder of the file.
      names: the name of each class.
    """

    def __init__(self, folder: Path, names: Sequence[str]) -> None:
        self._path, self._names = folder / _PREDICTIONS, names

    def __enter__(self) -> Self:
        self._stream = self._path.open("w", encoding="utf-8", newline="")
        self._writer = csv.writer(self._stream)
        places = range(1, min(TOP, len(self._names)) + 1)
        measured = ["class", "predicted", "predicted_name", "class_probability", "cross_entropy"]
        measured += [f"{what}_{place}" for what in ("top", "probability") for place in places]
        self._writer.writerow(["row", "path", "status", "error", "label", *measured])
        self._nothing = [""] * len(measured)
        return self

    def append(self, images: Images) -> None:
        """Writes the next rows."""
        scores = images.scores
        evaluated = zip(
            images.classes.tolist(),
            scores.top.tolist(),
            scores.probabilities.tolist(),
            scores.class_probability.tolist(),
            scores.cross_entropy.tolist(),
            strict=True,
        )
        for row, path, label, error in zip(images.rows, images.paths, images.labels, images.errors, strict=True):
            if error is not None:
                self._writer.writerow([row, utf8(path), "failed", utf8(error), utf8(label), *self._nothing])
                continue
            number, top, probabilities, probability, cross_entropy = next(evaluated)
            results = [number, top[0], utf8(self._names[top[0]]), probability, cross_entropy, *top, *probabilities]
            self._writer.writerow([row, utf8(path), "ok", "", utf8(label), *results])

    def __exit__(self, *error: object) -> None:
        self._stream.close()


def write_results(folder: Path, evaluation: Evaluation) -> None:
    """Writes ``metrics.json``, ``confusion.csv`` and, if matplotlib is installed, ``confusion.png``.

    Warns:
      UserWarning: if there is no picture because matplotlib is missing.
    """
    text = json.dumps(evaluation.record(), indent=2) + "\n"
    (folder / _METRICS).write_text(text, encoding="utf-8")
    if evaluation.metrics is None:
        return
    confusion = evaluation.metrics.confusion
    with (folder / _CONFUSION).open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["class", "name", *range(len(confusion))])
        for number, (name, row) in enumerate(zip(evaluation.names, confusion.tolist(), strict=True)):
            writer.writerow([number, utf8(name), *row])
    draw_confusion(folder / _PLOT, evaluation.metrics, evaluation.names)
