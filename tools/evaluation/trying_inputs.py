"""Compares the preprocessings and image sizes that could go with some weights, by the accuracy on some images."""

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from nets.guards import InferenceWarning
from nets.nets_factory import NETWORKS
from nets.preprocessing import PREPROCESSINGS
from tools.evaluation.batch_statistics import mixed_rows
from tools.evaluation.evaluating import logits_extractor, measure
from tools.evaluation.labelling import Labelled
from tools.evaluation.metrics import Share
from tools.features import FeatureExtractor
from tools.features.computing import TENSORFLOW

__all__ = ["TRIED_IMAGES", "TriedInput", "best_inputs", "images_to_try", "inputs_to_try", "try_inputs"]

# Number of images that decide.
TRIED_IMAGES = 300

# Networks for images of at least this size are for photographs, which 'cifar' would crop to a small part, and which
# slim's Inception preprocessing enlarges to 299.
_LARGE, _INCEPTION_SIZE = 100, 299


class TriedInput(NamedTuple):
    """An input of a network, and its accuracy."""

    preprocessing: str
    image_size: int
    top_1: Share


def inputs_to_try(extractor: FeatureExtractor) -> list[tuple[str, int]]:
    """Returns the preprocessings and sizes that could go with the weights; the extractor's own come first.

    They are those for images of the network's channels, at the size that the network was made for; for photographs
    also 'inception' at 299.
    """
    own = (extractor.preprocessing, extractor.image_size)
    network = NETWORKS.get(extractor.net)  # a function may have built it
    size = network.image_size if network else extractor.image_size
    large = size >= _LARGE
    # tf_slim's other networks take images of few sizes.
    takes_others = large and network is not None and network.variant is not None
    is_grey = extractor.preprocessing == "grayscale"
    unlikely = {"none", "cifar" if large else None}
    names = ["grayscale"] if is_grey else sorted(PREPROCESSINGS.keys() - unlikely - {"grayscale"})
    found = [(name, size) for name in names]
    if takes_others and not is_grey:
        found.append(("inception", _INCEPTION_SIZE))
    return list(dict.fromkeys([own, *found]))


def images_to_try(labelled: Labelled) -> list[int]:
    """Returns the numbers of up to 300 images, in a fixed shuffle."""
    rows = labelled.rows
    return rows[mixed_rows(len(rows), TRIED_IMAGES)].tolist()


def try_inputs(
    extractor: FeatureExtractor,
    labelled: Labelled,
    checkpoint: str | Path,
    *,
    advance: Callable[[int], None] = lambda count: None,
    **options: Any,
) -> list[TriedInput]:
    """Measures the accuracy with each of ``inputs_to_try`` on up to 300 images in a fixed shuffle.

    Args:
      extractor: of logits.
      labelled: the images, with classes of the extractor's network.
      checkpoint, **options: what the extractor was made of.
      advance: called with the number of images just computed.

    Returns:
      The inputs, the best first.

    Raises:
      InputError: if no image can be evaluated.
      ValueError: if the network was given as a function.
    """
    if extractor.num_classes is None:
        raise ValueError("For a network given as a function nothing tells which inputs could suit: give its name.")
    rows = images_to_try(labelled)
    # Which input it is does not depend on the engine, whose model for each would have to be made.
    options |= {"engine": TENSORFLOW} | ({"precision": "float32"} if options.get("precision") == "int8" else {})
    advance(0)
    tried = []
    for preprocessing, size in inputs_to_try(extractor):
        with warnings.catch_warnings():
            # Every input but one is another than the weights need, and the first extractor has warned of other faults.
            warnings.simplefilter("ignore", InferenceWarning)
            given = {**options, "preprocessing": preprocessing, "image_size": size, "freeze": False}
            with logits_extractor(checkpoint, len(rows), **given) as other:
                tried.append(
                    TriedInput(preprocessing, size, measure(other, labelled, rows=rows, advance=advance).top_1)
                )
    return sorted(tried, key=lambda each: -each.top_1.value)  # of equal ones, the first tried stays first


def best_inputs(tried: list[TriedInput]) -> list[TriedInput]:
    """Returns the best input, and those whose intervals overlap with its interval."""
    return [each for each in tried if each.top_1.high >= tried[0].top_1.low]
