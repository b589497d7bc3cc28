"""Two networks of the same weights, each in its framework and on the same pictures: how far are they apart?

From pixels on, through the preprocessing of each side.
"""

import tempfile
import warnings
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from checkpoints.files import write_checkpoint, write_notes
from checkpoints.frameworks import Weights, kind_of, read_weights
from nets.guards import InferenceWarning
from tools.conversion.proof_images import cropped, pictures_for, preprocessing_for
from tools.features import FeatureExtractor

__all__ = ["TOLERANCE", "prove"]

# Of the largest difference to the largest value of an end point.
TOLERANCE = 1e-4

# Small, as all activations are kept; even until the last block, where padding that differs shows.
_SIZE = 64


def prove(source: Path, weights: Weights, written: Path, kind: str, ema: bool) -> dict[str, float]:
    """Runs both networks.

    Args:
      source: the file that was converted.
      weights: what is known of it, without the values.
      written: the file that it was converted to, of the kind ``kind``; one of the two is Keras' or PyTorch's.
      ema: whether the source's moving averages were taken.

    Returns:
      From the end points that both sides have to the largest difference, relative to the largest value.

    Raises:
      ValueError: if one is above ``TOLERANCE``, or no number.
    """
    foreign = "keras" if "keras" in (weights.kind, kind) else "torch"
    ours, theirs = (written, source) if kind != foreign else (source, written)
    if foreign == "keras":
        from tools.conversion.keras_models import end_point_names, outputs
    else:
        from tools.conversion.torch_models import end_point_names, outputs
    aliases = end_point_names(weights)
    preprocessing = preprocessing_for(weights)
    pictures = pictures_for(preprocessing, _SIZE, weights.channels)
    expected = outputs(theirs, weights, cropped(pictures, preprocessing, _SIZE))
    classes = expected[aliases[-1]].shape[-1] if weights.num_classes else None
    results = _our_outputs(ours, weights, aliases, pictures, classes, ema and ours == source)
    differences = {alias: _difference(alias, results[alias], expected[alias]) for alias in aliases}
    # What is no number is further off than any.
    worst = max(differences, key=lambda alias: np.nan_to_num(differences[alias], nan=np.inf))
    if not differences[worst] <= TOLERANCE:
        numbers = np.isfinite(differences[worst])
        cause = "is it the network that its names say" if numbers else "does it hold NaNs, or variances below 0"
        raise ValueError(
            f"The networks of {source} and of what was made of it differ by {differences[worst]:.2g} of the largest "
            f"value in {worst}, more than {TOLERANCE:g}: nothing is written; {cause}?"
        )
    return differences


def _our_outputs(
    path: Path, weights: Weights, aliases: list[str], pictures: np.ndarray, classes: int | None, ema: bool
) -> Mapping[str, np.ndarray]:
    """The end points of our network, by the way that any checkpoint of its goes."""
    with tempfile.TemporaryDirectory() as folder:
        if kind_of(path) != "slim":
            path = _checkpoint_of(path, weights, Path(folder), ema)
            ema = False
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", InferenceWarning)  # of the size, which is ours
            extractor = FeatureExtractor(
                path,
                aliases,
                net=weights.network.name,
                num_classes=classes,
                scope=weights.scope or None,
                ema=ema,
                image_size=_SIZE,
                preprocessing=preprocessing_for(weights),
                batch_size=len(pictures),
                freeze=False,
            )
        with extractor:
            return extractor(pictures)


def _checkpoint_of(path: Path, known: Weights, folder: Path, ema: bool) -> Path:
    """A checkpoint of the network in another kind of file."""
    weights = read_weights(path, net=known.network.name, scope=known.scope or None, ema=ema).of_network()
    checkpoint = folder / "checkpoint.ckpt"
    *_, index = write_checkpoint(checkpoint, weights.values)
    write_notes(checkpoint, weights.notes, index)
    return checkpoint


def _difference(alias: str, result: np.ndarray, expected: np.ndarray) -> float:
    # Slim's version 1 strides in the last unit of a block, Keras' in the first one of the next.
    if result.ndim == 4 and expected[:, ::2, ::2].shape == result.shape:
        expected = expected[:, ::2, ::2]
    if result.shape != expected.shape:
        raise ValueError(f"The networks' {alias} differ in shape, {list(result.shape)} and {list(expected.shape)}.")
    with np.errstate(invalid="ignore"):  # of infinities, whose difference is no number
        return float(np.max(np.abs(result - expected)) / max(np.max(np.abs(expected)), np.finfo(np.float32).tiny))
