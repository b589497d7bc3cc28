"""The most probable classes of images, by name."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from checkpoints.published import labels_for, read_labels
from nets.endpoint_info import UnknownEndPointError
from tools.features.extractor import FeatureExtractor, freeze_for
from tools.images import Inputs

__all__ = ["Classification", "class_names", "classifier", "classify"]

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


def classifier(num_images: int, checkpoint: str | Path, **options: Any) -> FeatureExtractor:
    """Returns an extractor of the probabilities of a checkpoint's classes.

    Args:
      num_images: about how many images it is for.
      checkpoint, **options: as for ``FeatureExtractor``.

    Raises:
      ValueError: if the network has no logits, or a single class whose softmax says nothing.
    """
    try:
        extractor = FeatureExtractor(checkpoint, [_END_POINT], **options, freeze=freeze_for(num_images))
    except UnknownEndPointError:
        sentence = f"{checkpoint} has no logits to classify by: give a checkpoint that has its classes."
        if options.get("num_classes") == 0:
            sentence = "num_classes=0 leaves no logits to classify by: leave it out."
        raise ValueError(sentence) from None
    if extractor.num_classes == 1 and extractor.end_points[_END_POINT].tensor.op.type != "Sigmoid":
        extractor.close()
        raise ValueError(
            f"{extractor.net} has one class, whose softmax is 1 for any image: take its logits with "
            "`slimnets features --end-points logits`."
        )
    return extractor


def class_names(labels: str | Path | None, num_classes: int) -> list[str]:
    """Returns the names of the classes: those in a file of labels, or else ImageNet's."""
    return read_labels(labels, num_classes) if labels else labels_for(num_classes)


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
