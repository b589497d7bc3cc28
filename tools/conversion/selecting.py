"""Selects and changes the weights that a conversion writes."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TypedDict

from checkpoints.errors import CheckpointError
from checkpoints.frameworks import Weights, read_weights
from checkpoints.frameworks.foreign_names import foreign_names
from checkpoints.frameworks.keras_applications import our_names
from checkpoints.names import joined

__all__ = ["FRAMEWORKS", "Selection", "changes_framework", "check_selection", "fitting", "selected"]

# The kinds of files that hold another framework's networks.
FRAMEWORKS = frozenset(("keras", "torch"))

# Characters of a name that a message shows.
_SHOWN = 60


class Selection(TypedDict, total=False):
    """Arguments of ``convert`` that select the weights to write, or change them.

    net, scope: choose a network in the source, as for ``read_weights``.
    to_scope: new scope of the network, under slim's names.
    num_classes: classes of the logits. 1000 drops the background of 1001 classes, 1001 adds one to 1000, and 0 omits
      the logits.
    image_size: size of the images for these weights, if it is unusual and the file does not tell it.
    only, exclude: patterns of slim's names to write, or to omit. ``only=["*"]`` also copies arrays with another
      library's names as they are.
    model_only: omits what a training run leaves: slots, moving averages, a global step.
    ema: writes the moving averages in place of the variables.
    """

    net: str | None
    scope: str | None
    to_scope: str | None
    num_classes: int | None
    image_size: int | None
    only: Sequence[str]
    exclude: Sequence[str]
    model_only: bool
    ema: bool


def check_selection(selection: Selection) -> None:
    """Raises TypeError for an argument that ``Selection`` does not have."""
    if unknown := sorted(selection.keys() - Selection.__annotations__.keys()):
        raise TypeError(
            f"convert() got an unexpected keyword argument {unknown[0]!r}: it also takes "
            f"{', '.join(Selection.__annotations__)}."
        )


def changes_framework(weights: Weights, kind: str) -> bool:
    """Returns whether these weights, written as a file of this kind, come from or go to another framework."""
    return not FRAMEWORKS.isdisjoint((weights.kind, kind))


def selected(source: Path, target: Path, kind: str, selection: Selection) -> Weights:
    """Reads the source, and returns the weights to write.

    Args:
      source, target: paths.
      kind: kind of the target, one of ``checkpoints.frameworks.read.KINDS``.
      selection: as for ``convert``.

    Raises:
      CheckpointError: if the source cannot be read, or does not hold what is selected.
      ValueError: for arguments that cannot be honoured.
    """
    only, exclude = selection.get("only", ()), selection.get("exclude", ())
    net, scope = selection.get("net"), selection.get("scope")
    weights = read_weights(source, net=net, scope=scope, ema=selection.get("ema", False))
    crosses = changes_framework(weights, kind)
    if not only:
        _check_names(weights)
    if selection.get("model_only"):
        weights = weights.of_model()
    if only or exclude:
        if crosses:
            raise ValueError("only and exclude select a part of a network: another framework's file needs all of it.")
        weights = weights.matching(only, exclude)
    if crosses:
        weights = weights.of_network()
    if (num_classes := selection.get("num_classes")) is not None:
        weights = weights.with_classes(num_classes)
    if (to_scope := selection.get("to_scope")) is not None:
        if kind in FRAMEWORKS:
            raise ValueError(f"to_scope={to_scope!r} applies to slim's names, which {target} does not have: omit it.")
        weights = weights.under(to_scope)
    if (image_size := selection.get("image_size")) is not None:
        weights = weights.for_size(image_size)
    if not weights.values:
        raise ValueError(f"Nothing of {source} is left to write: omit an option.")
    return weights


def fitting(weights: Weights, kind: str) -> tuple[Weights, tuple[str, ...]]:
    """Leaves out what the network of another framework has no place for.

    Keras' Inception v3 has no auxiliary logits, and its VGGs without the top have no fully connected layers.

    Args:
      weights: weights of a network that the framework has.
      kind: kind of the target.

    Returns:
      The rest, and the names of what was left out.
    """
    if kind != "keras":
        return weights, ()
    places = {joined(weights.scope, name) for name in our_names(weights.network, bool(weights.num_classes))}
    left_out = tuple(name for name in weights.values if name not in places)
    layers = dict.fromkeys(name.removeprefix(joined(weights.scope, "")).rpartition("/")[0] for name in left_out)
    options = weights.options
    if weights.num_classes and any(layer.startswith("AuxLogits/") for layer in layers):
        options = options | {"create_aux_logits": False}
    lacking = weights.lacking or tuple(layer for layer in layers if layer in ("fc6", "fc7"))
    rest = weights.renamed({name: name for name in weights.values if name in places})
    return dataclasses.replace(rest, options=options, lacking=lacking), left_out


def _check_names(weights: Weights) -> None:
    """Raises CheckpointError for arrays with another library's names: nobody could use what was written."""
    if weights.network is not None or weights.kind not in ("npz", "safetensors"):
        return
    shapes = {name: value.shape for name, value in weights.values.items()}
    if names := foreign_names(shapes):
        examples = ", ".join(name if len(name) <= _SHOWN else f"{name[:_SHOWN]}..." for name in names[:3])
        raise CheckpointError(
            f"{weights.path} holds arrays with another library's names ({len(shapes)}, such as {examples}): convert "
            "arrays with slim's names (resnet_v2_50/conv1/weights) or those of torchvision's ResNet-18 and 34 "
            "(layer1.0.conv1.weight); only=['*'] copies arrays with any names as they are.",
            "unknown network",
        )
