"""Classifies images: their most probable classes, by name."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from checkpoints.published import labels_for, read_labels
from nets.endpoint_info import UnknownEndPointError
from tools.features.computing import TENSORFLOW
from tools.features.computing.arithmetic import freeze_for
from tools.features.extractor import FeatureExtractor
from tools.images import Inputs

__all__ = ["Classification", "class_names", "classifier", "classify", "has_constant_predictions"]

_END_POINT = "predictions"


class Classification(NamedTuple):
    """The most probable classes of one image, the most probable first.

    path: of the image.
    error: the reason why it was not classified; None if it was.
    classes: numbers of the classes.
    labels: their names.
    probabilities: their probabilities, in [0, 1].
    """

    path: str
    error: str | None
    classes: list[int]
    labels: list[str]
    probabilities: list[float]


def classifier(num_images: int, checkpoint: str | Path, **options: Any) -> FeatureExtractor:
    """Returns an extractor of class probabilities.

    Args:
      num_images: approximate number of images to classify.
      checkpoint, **options: as for ``FeatureExtractor``.

    Raises:
      ValueError: if the network has no logits, or only one class, whose softmax is always 1.
    """
    try:
        freeze = freeze_for(num_images, options.get("engine", TENSORFLOW))
        extractor = FeatureExtractor(checkpoint, [_END_POINT], **options, freeze=freeze)
    except UnknownEndPointError:
        sentence = f"{checkpoint} has no logits to classify with: give a checkpoint that has them."
        if options.get("num_classes") == 0:
            sentence = "num_classes=0 removes the logits that classification needs: omit it."
        raise ValueError(sentence) from None
    if has_constant_predictions(extractor):
        extractor.close()
        raise ValueError(
            f"{extractor.net} has one class, whose softmax is 1 for every image: write its logits with "
            "`slimnets features --end-points logits`."
        )
    return extractor


def has_constant_predictions(extractor: FeatureExtractor) -> bool:
    """Returns whether the extractor's 'predictions' are the softmax of one class, which is 1 for every image."""
    return extractor.num_classes == 1 and extractor.end_points[_END_POINT].tensor.op.type != "Sigmoid"


def class_names(labels: str | Path | None, extractor: FeatureExtractor, num_classes: int | None = None) -> list[str]:
    """Returns the names of an extractor's classes: those in a file, else the checkpoint's own, else ImageNet's.

    If the number of classes is not ImageNet's, the numbers of the classes are the last resort.

    Args:
      labels: the file; None for none.
      extractor: of the network.
      num_classes: number of classes; None for the extractor's, or those of its 'predictions' if a function builds it.
    """
    num_classes = num_classes or extractor.num_classes or extractor.shapes[_END_POINT][-1]
    if labels:
        return read_labels(labels, num_classes)
    return list(extractor.labels or labels_for(num_classes))


def classify(
    images: Inputs | Sequence[str], extractor: FeatureExtractor, labels: Sequence[str] | None = None, top: int = 5
) -> Iterator[Classification]:
    """Yields the most probable classes of each image, in the order of the images.

    Args:
      images: inputs, or paths of image files.
      extractor: computes the end point 'predictions'; see ``classifier``.
      labels: the names of its classes; None for those of ``class_names``.
      top: number of classes for each image.
    """
    labels = class_names(None, extractor) if labels is None else labels
    for batch in extractor.batches(images):
        for status, probabilities in zip(batch.statuses, batch.features[_END_POINT], strict=True):
            error = status.error
            if error is None and not np.isfinite(probabilities).all():
                error = "its probabilities are not numbers: check the checkpoint with `slimnets inspect --check`"
            if error is not None:
                yield Classification(status.path, error, [], [], [])
                continue
            # A stable sort, so that the order of equal values does not depend on the processor.
            best = np.argsort(-probabilities, kind="stable")[:top].tolist()
            named = [labels[number] for number in best]
            yield Classification(status.path, None, best, named, [float(probabilities[number]) for number in best])
