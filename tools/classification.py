"""``slimnets classify``: the most probable classes of images, by name."""

import json
import sys
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from checkpoints.labels import labels_for, read_labels
from nets.endpoint_info import UnknownEndPointError
from tools.feature_extractor import FeatureExtractor, freeze_for
from tools.features_command import say_skipped
from tools.inputs import Inputs
from tools.inputs.opening import open_inputs
from tools.progress import progress
from tools.tables import print_table

__all__ = ["Classification", "classify", "run"]

_END_POINT = "predictions"


class Classification(NamedTuple):
    """The most probable classes of one image, the first the most probable; or the reason why there are none.

    path: of the image.
    error: None where the image was classified.
    classes: numbers of the classes.
    labels: their names.
    probabilities: likewise, in [0, 1].
    """

    path: str
    error: str | None
    classes: list[int]
    labels: list[str]
    probabilities: list[float]


def classify(
    pictures: Inputs | Sequence[str], extractor: FeatureExtractor, labels: Sequence[str], top: int = 5
) -> Iterator[Classification]:
    """Yields the ``top`` most probable classes of each image file, in their order.

    Args:
      pictures: inputs, or paths of image files.
      extractor: of the end point 'predictions'.
      labels: a name for each of its classes.
      top: how many; at most as there are classes.
    """
    for batch in extractor.batches(pictures):
        for status, probabilities in zip(batch.statuses, batch.features[_END_POINT], strict=True):
            error = status.error
            if error is None and not np.isfinite(probabilities).all():
                error = "its probabilities are no numbers: look at the checkpoint with `slimnets inspect --check`"
            if error is not None:
                yield Classification(status.path, error, [], [], [])
                continue
            # Stable, so that of equals the first wins, whatever the processor.
            best = np.argsort(-probabilities, kind="stable")[:top].tolist()
            named = [labels[number] for number in best]
            yield Classification(status.path, None, best, named, [float(probabilities[number]) for number in best])


def run(
    inputs: Sequence[str],
    *,
    top: int,
    labels: str | None,
    as_json: bool,
    include: Sequence[str] = (),
    exclude_inputs: Sequence[str] = (),
    **options: Any,
) -> int:
    """The command: prints the classes, and returns the exit status; ``options`` are those of ``FeatureExtractor``."""
    pictures = open_inputs(inputs, include=include, exclude=exclude_inputs)
    say_skipped(pictures)
    try:
        extractor = FeatureExtractor(end_points=[_END_POINT], **options, freeze=freeze_for(len(pictures)))
    except UnknownEndPointError:
        sentence = f"{options['checkpoint']} has no logits to classify by: give a checkpoint that has its classes."
        if options["num_classes"] == 0:
            sentence = "num_classes=0 leaves no logits to classify by: leave it out."
        raise ValueError(sentence) from None
    with extractor:
        if extractor.num_classes == 1 and extractor.end_points[_END_POINT].tensor.op.type != "Sigmoid":
            raise ValueError(
                f"{extractor.net} has one class, whose softmax is 1 for any image: take its logits with "
                "`slimnets features --end-points logits`."
            )
        names = read_labels(labels, extractor.num_classes) if labels else labels_for(extractor.num_classes)
        print(
            f"{extractor.net} from {options['checkpoint']}, {extractor.num_classes} classes, "
            f"preprocessing {extractor.preprocessing} at {extractor.image_size}",
            file=sys.stderr,
        )
        results = []
        with progress("classify", len(pictures), "images") as advance:
            for result in classify(pictures, extractor, names, top):
                results.append(result)
                advance(1)
    if as_json:
        print(json.dumps([_record(result) for result in results], indent=2))
    else:
        print_table(("image", "probability", "class", "label"), [row for result in results for row in _rows(result)])
    return 1 if any(result.error for result in results) else 0


def _record(result: Classification) -> dict[str, Any]:
    found = zip(result.classes, result.labels, result.probabilities, strict=True)
    classes = [{"class": number, "label": label, "probability": value} for number, label, value in found]
    return {"path": result.path, "error": result.error, "classes": classes}


def _rows(result: Classification) -> list[tuple[object, ...]]:
    if result.error is not None:
        return [(result.path, None, None, f"failed: {result.error}")]
    found = zip(result.classes, result.labels, result.probabilities, strict=True)
    rows = [("", f"{probability:.4f}", str(number), label) for number, label, probability in found]
    return [(result.path, *rows[0][1:]), *rows[1:]]
