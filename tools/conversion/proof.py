"""Compares two networks with the same weights, each in its framework, on the same images and from pixels on.

Each side uses its own preprocessing. The difference in an end point is relative to its largest value. Few logits may
all be near zero, so theirs is relative to the size of their terms if that is larger.
"""

import tempfile
import warnings
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from checkpoints.files import write_checkpoint, write_notes
from checkpoints.frameworks import Weights, kind_of, read_weights
from checkpoints.names import joined
from nets.guards import InferenceWarning
from tools.conversion.proof_images import cropped, images_for, preprocessing_for
from tools.conversion.selecting import FRAMEWORKS
from tools.features import FeatureExtractor
from tools.runtime.agreement import logit_size, relative_difference

__all__ = ["TOLERANCE", "prove"]

# Upper bound of the relative difference in an end point.
TOLERANCE = 1e-4

# Sizes of the images, small because all activations are kept. Even until the last block, so that a wrong padding shows.
# Not every network can be built for them.
_SIZE, _SIZES = 64, {"vgg_16": 224, "vgg_19": 224, "inception_v3": 128}


def prove(source: Path, weights: Weights, written: Path, kind: str, ema: bool) -> dict[str, float]:
    """Runs both networks, and compares every end point that they share.

    Args:
      source: the file that was converted.
      weights: its weights; of the values only those of the logits are used.
      written: the file that it was converted to. One of the two is Keras' or PyTorch's.
      kind: kind of the written file.
      ema: whether the source's moving averages were converted.

    Returns:
      End point → largest relative difference.

    Raises:
      ValueError: if a difference is above ``TOLERANCE``, or not a number.
    """
    foreign = "keras" if "keras" in (weights.kind, kind) else "torch"
    ours, theirs = (written, source) if kind != foreign else (source, written)
    if foreign == "keras":
        from tools.conversion.keras_models import end_point_names, outputs
    else:
        from tools.conversion.torch_models import end_point_names, outputs
    aliases = end_point_names(weights)
    preprocessing, size = preprocessing_for(weights), _size(weights)
    images = images_for(preprocessing, size, weights.channels)
    expected = outputs(theirs, weights, cropped(images, preprocessing, size))
    classes = expected[aliases[-1]].shape[-1] if weights.num_classes else None
    results = _our_outputs(ours, weights, aliases, images, classes, ema and ours == source)
    least = {"logits": _logit_size(weights, expected)} if "logits" in expected else {}
    differences = {
        alias: _difference(alias, results[alias], expected[alias], least.get(alias, 0.0)) for alias in aliases
    }
    # A difference that is not a number counts as the largest.
    worst = max(differences, key=lambda alias: np.nan_to_num(differences[alias], nan=np.inf))
    if not differences[worst] <= TOLERANCE:
        numbers = np.isfinite(differences[worst])
        cause = "is it the network that its names say" if numbers else "does it hold NaNs, or variances below 0"
        raise ValueError(
            f"The networks of {source} and of its conversion differ by {differences[worst]:.2g} of the largest value "
            f"in {worst}, more than {TOLERANCE:g}: nothing is written; {cause}?"
        )
    return differences


def _size(weights: Weights) -> int:
    return _SIZES.get(weights.network.name, _SIZE)


def _our_outputs(
    path: Path, weights: Weights, aliases: list[str], images: np.ndarray, classes: int | None, ema: bool
) -> Mapping[str, np.ndarray]:
    """Returns the end points of our network, computed as from any checkpoint."""
    with tempfile.TemporaryDirectory() as folder:
        if kind_of(path) != "slim":
            path = _checkpoint_of(path, weights, Path(folder), ema)
            ema = False
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", InferenceWarning)  # of the proof's own image size
            extractor = FeatureExtractor(
                path,
                aliases,
                net=weights.network.name,
                num_classes=classes,
                scope=weights.scope or None,
                exclude=[joined(weights.scope, f"{layer}/*") for layer in weights.lacking],
                ema=ema,
                image_size=_size(weights),
                preprocessing=preprocessing_for(weights),
                batch_size=len(images),
                freeze=False,
            )
        with extractor:
            return extractor(images)


def _checkpoint_of(path: Path, known: Weights, folder: Path, ema: bool) -> Path:
    """Writes the network of another kind of file as a checkpoint; returns its path."""
    # The scope chooses among networks with slim's names.
    scope = None if kind_of(path) in FRAMEWORKS else known.scope or None
    weights = read_weights(path, net=known.network.name, scope=scope, ema=ema).of_network()
    checkpoint = folder / "checkpoint.ckpt"
    *_, index = write_checkpoint(checkpoint, weights.values)
    write_notes(checkpoint, weights.notes, index)
    return checkpoint


def _logit_size(weights: Weights, points: Mapping[str, np.ndarray]) -> float:
    return logit_size(points["global_pool"], weights.value("logits/weights"))


def _difference(alias: str, result: np.ndarray, expected: np.ndarray, least_scale: float) -> float:
    """Returns the relative difference, where the two may stride in different units."""
    # Slim's version 1 strides in the last unit of a block, Keras' in the first unit of the next block.
    if result.ndim == 4 and expected[:, ::2, ::2].shape == result.shape:
        expected = expected[:, ::2, ::2]
    if result.shape != expected.shape:
        raise ValueError(f"The networks' {alias} have different shapes: {list(result.shape)}, {list(expected.shape)}.")
    return relative_difference(result, expected, least_scale)
