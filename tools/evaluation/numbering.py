"""Finds the number of each label: by names, as the number that it is, by ImageNet's names, or in sorted order."""

import re
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from checkpoints.background_class import BACKGROUND
from checkpoints.published import imagenet_labels
from checkpoints.published.labels import imagenet_identifiers
from tools.errors import InputError
from tools.images import Inputs

__all__ = [
    "IMAGENET",
    "WITH_BACKGROUND",
    "FoundLabels",
    "Numbering",
    "are_imagenet",
    "example",
    "find_numbers",
    "listed",
]

# ImageNet's classes, without and with the background class 0 that some of slim's networks have.
IMAGENET, WITH_BACKGROUND = 1000, 1001

_WHOLE_NUMBER = re.compile(r"-?[0-9]{1,18}")

# Number of classes that a sentence names.
_NAMED = 5


class FoundLabels(NamedTuple):
    """The labels of images as they are in the data.

    texts: the different labels, in the order in which they were found; labels of empty folders come last.
    first: the first image of each; -1 for an empty folder.
    of: for each image, its label's place in ``texts``; -1 if it cannot be read.
    """

    texts: list[str]
    first: list[int]
    of: np.ndarray


class Numbering(NamedTuple):
    """The data's classes.

    numbers: of each label, in the order of ``FoundLabels.texts``.
    names: of the numbers, from 0; None if the labels are numbers and have no names.
    said: a sentence on how labels became numbers; None if that is obvious.
    """

    numbers: list[int]
    names: list[str] | None
    said: str | None


def find_numbers(
    labels: FoundLabels, names: Sequence[str] | None, num_classes: int | None, inputs: Inputs
) -> Numbering:
    """Returns the numbers of the labels.

    Args:
      labels: the labels.
      names: names of the classes, in their order; None if unknown.
      num_classes: of the network; None if the data decide.
      inputs: the images, one of which an error names.

    Raises:
      InputError: if the labels do not fit the names, or are fewer or more than the classes.
    """
    texts = labels.texts
    if names is not None and {*names} >= {*texts}:
        return _by_names(texts, names)
    if all(map(_WHOLE_NUMBER.fullmatch, texts)):
        return Numbering([int(text) for text in texts], None if names is None else [*names], None)
    if names is not None:
        text = min(set(texts) - {*names})
        raise InputError(
            f"The label {text!r}{example(labels, text, inputs)} is not among the names of the {len(names):,} classes, "
            f"{listed(names)}: rename the folder, or give other names as labels=FILE."
        )
    if num_classes in (IMAGENET, WITH_BACKGROUND) and (found := _by_imagenet(labels, inputs)):
        return found
    return _sorted(texts, num_classes)


def are_imagenet(names: Sequence[str]) -> bool:
    """Returns whether names are those of ImageNet's 1000 classes, or their identifiers, with or without background."""
    names = [name for name in names if name != BACKGROUND]
    if len(names) != IMAGENET:
        return False
    return sorted(names) in (sorted(imagenet_labels(IMAGENET)), sorted(imagenet_identifiers()))


def example(labels: FoundLabels, text: str, inputs: Inputs) -> str:
    """Returns an image with that label, as a clause; '' if there is none."""
    image = labels.first[labels.texts.index(text)]
    return f" of {inputs.name(image)}" if image >= 0 else ""


def _by_names(texts: Sequence[str], names: Sequence[str]) -> Numbering:
    if repeated := [name for name, count in Counter(names).items() if count > 1 and name in texts]:
        raise InputError(f"Two classes have the name {repeated[0]!r}: give each class a name of its own.")
    places = {name: number for number, name in enumerate(names)}
    return Numbering([places[text] for text in texts], [*names], None)


def _by_imagenet(labels: FoundLabels, inputs: Inputs) -> Numbering | None:
    """Returns the numbering by ImageNet's identifiers or words; None if the labels are neither."""
    words = imagenet_labels(IMAGENET)
    identifiers = imagenet_identifiers()
    known: dict[str, list[int]] = {}
    for number, (identifier, text) in enumerate(zip(identifiers, words, strict=True)):
        for name in {identifier, text, text.partition(",")[0]}:
            known.setdefault(name, []).append(number)
    if not any(text in known for text in labels.texts):
        return None
    for text in labels.texts:
        numbers = known.get(text, [])
        if len(numbers) != 1:
            fault = "names no class of ImageNet" if not numbers else f"names {len(numbers)} classes of ImageNet"
            raise InputError(
                f"The label {text!r}{example(labels, text, inputs)} {fault}: use the WordNet identifiers, such as "
                f"{identifiers[0]}, as names of the folders."
            )
    numbers = [known[text][0] for text in labels.texts]
    by_identifier = {*labels.texts} <= {*identifiers}
    kind = "WordNet identifiers" if by_identifier else "names of ImageNet's classes"
    return Numbering(numbers, words, f"The labels are {kind}.")


def _sorted(texts: Sequence[str], num_classes: int | None) -> Numbering:
    names = sorted(texts)
    # A network of 1001 classes has the background besides.
    if num_classes is not None and (len(names), num_classes) != (IMAGENET, WITH_BACKGROUND):
        if len(names) > num_classes:
            raise InputError(
                f"The data have {len(names):,} classes, {listed(names)}, and the network {num_classes:,}: leave "
                "folders out, or give a checkpoint of so many classes."
            )
        if len(names) < num_classes:
            raise InputError(
                f"The data have {len(names):,} classes, {listed(names)}, and the network {num_classes:,}, and nothing "
                f"says which these are: give labels=FILE, a file with the names of all {num_classes:,} classes."
            )
    if len(names) == 1:
        raise InputError(
            f"All images have the label {names[0]!r}, and a classification needs two classes at least: give a folder "
            "that has a folder of images for each class."
        )
    places = {name: number for number, name in enumerate(names)}
    said = f"In sorted order, the labels are the classes 0 ({names[0]}) to {len(names) - 1:,} ({names[-1]})."
    return Numbering([places[text] for text in texts], names, said)


def listed(names: Sequence[str]) -> str:
    """Returns the first names, separated by commas."""
    return ", ".join(names[:_NAMED]) + (", ..." if len(names) > _NAMED else "")
