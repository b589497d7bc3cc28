"""Numbers the classes of labelled images. No other file decides which class a label is.

A label is the name of a folder, or a whole number (TFRecord files, tar archives). A number is a class of the data,
and class = number - offset is a class of the network, with the sign of slim's flag ``labels_offset``.
"""

from array import array
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from checkpoints.background_class import BACKGROUND
from checkpoints.published import imagenet_labels, read_labels
from tools.errors import ImageError, InputError
from tools.evaluation.numbering import IMAGENET, WITH_BACKGROUND, FoundLabels, Numbering, example, find_numbers, listed
from tools.images import Inputs, open_inputs
from tools.images.sources.folders import folders_in

__all__ = ["Labelled", "names_of", "number_labels", "open_labelled"]

_LABELS_FILE = "labels.txt"

# Largest number of classes if only the data say how many there are. A larger label is surely no class.
_MOST_CLASSES = 100_000

# A class with so many times the images of another one is worth a sentence.
_IMBALANCE = 3

# Number of images between two calls of ``advance``.
_STEP = 1000


class Labelled(NamedTuple):
    """Images with the numbers of their classes.

    inputs: the images.
    classes: int64 [N], the class of each image in the network's numbering; -1 if its record cannot be read.
    names: the name of each class of the network.
    offset: class = label's number - offset.
    said: sentences on how labels became classes, and on classes without images or with few.
    found: the labels as they are in the data, from which other classes can be numbered without reading them again.
    """

    inputs: Inputs
    classes: np.ndarray
    names: list[str]
    offset: int
    said: tuple[str, ...]
    found: FoundLabels | None = None

    @property
    def rows(self) -> np.ndarray:
        """The numbers of the images that have a class, int64."""
        return np.flatnonzero(self.classes >= 0)

    @property
    def counts(self) -> np.ndarray:
        """The number of images of each class, int64 [classes]."""
        return np.bincount(self.classes[self.classes >= 0], minlength=len(self.names))


def open_labelled(
    data: Iterable[str | Path],
    *,
    labels: str | Path | None = None,
    names: Sequence[str] | None = None,
    num_classes: int | None = None,
    label_offset: int | None = None,
    empty_allowed: bool = True,
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
    advance: Callable[[int], None] = lambda count: None,
) -> Labelled:
    """Opens labelled images, and numbers their classes as ``number_labels`` does.

    Args:
      data: as for ``tools.images.open_inputs``.
      labels: a file with the names of the classes in their order; see ``checkpoints.published.read_labels``.
      names: names of the network's classes, which apply if ``labels`` is None. If both are None, a file ``labels.txt``
        in one of the folders of ``data`` applies.
      num_classes, label_offset, empty_allowed, advance: as for ``number_labels``.
      include, exclude: as for ``tools.images.open_inputs``.

    Raises:
      InputError: as ``tools.images.open_inputs`` and ``number_labels``.
      ValueError: if the file with the names cannot be read.
    """
    data = [str(one) for one in data]
    inputs = open_inputs(data, include=include, exclude=exclude)
    if labels is not None or names is None:
        names = names_of(data, labels)
    return number_labels(
        inputs,
        names=names,
        folders=folders_in(data),
        num_classes=num_classes,
        label_offset=label_offset,
        empty_allowed=empty_allowed,
        advance=advance,
    )


def names_of(data: Sequence[str | Path], labels: str | Path | None = None) -> list[str] | None:
    """Returns the names in the file ``labels``, else in the ``labels.txt`` of a folder of ``data``; None without one.

    Raises:
      InputError: if two folders have files with different names.
      ValueError: if a file cannot be read.
    """
    if labels is not None:
        return read_labels(labels, None)
    files = [file for folder in data if (file := Path(folder, _LABELS_FILE)).is_file()]
    names = [read_labels(file, None) for file in files]
    for file, other in zip(files[1:], names[1:], strict=True):
        if other != names[0]:
            raise InputError(f"{files[0]} and {file} name different classes: give the file that counts as labels=FILE.")
    return names[0] if names else None


def number_labels(
    inputs: Inputs,
    *,
    names: Sequence[str] | None = None,
    folders: Iterable[str] = (),
    num_classes: int | None = None,
    label_offset: int | None = None,
    empty_allowed: bool = True,
    found: FoundLabels | None = None,
    advance: Callable[[int], None] = lambda count: None,
) -> Labelled:
    """Numbers the classes of labelled images.

    A label that is one of ``names`` has its place there as its number. Otherwise, labels that are all whole numbers are
    the numbers themselves. Other labels are ImageNet's WordNet identifiers or words if the network has 1000 or 1001
    classes, and else are numbered in sorted order.

    The offset is 0 by default. It is -1 if only the network has a background class, and 1 if only the data have one:
    the 1000 classes of ImageNet are 0 to 999 or, in slim's data sets, 1 to 1000.

    Args:
      inputs: the images.
      names: names of the classes, in their order.
      folders: names of all folders that are classes, also of those without images.
      num_classes: of the network; None if the data decide.
      label_offset: class = number - label_offset; None for the default.
      empty_allowed: whether classes may have no images.
      found: the labels, if they were read before, with those of the folders; see ``Labelled``.
      advance: called with the number of images whose labels were read.

    Raises:
      InputError: if the images have no labels, or these do not fit the names or the network.
    """
    labels = _read(inputs, folders, advance) if found is None else found
    if num_classes in (IMAGENET, WITH_BACKGROUND) and names is not None:
        # Without names, identifiers are understood besides the words.
        names = None if list(names) in (imagenet_labels(IMAGENET), imagenet_labels(WITH_BACKGROUND)) else names
    numbering = find_numbers(labels, names, num_classes, inputs)
    offset = _offset(numbering, num_classes) if label_offset is None else label_offset
    if num_classes is None:
        count = max(numbering.numbers) + 1 if numbering.names is None else len(numbering.names)
        num_classes = max(min(count - offset, _MOST_CLASSES), 1)
    class_names = _class_names(numbering.names, num_classes, offset)
    _check_range(labels, numbering, offset, num_classes, inputs)
    classes_of = np.array([*numbering.numbers, offset - 1], np.int64) - offset  # the last one for those without label
    labelled = Labelled(inputs, classes_of[labels.of], class_names, offset, (), labels)
    said = (
        numbering.said,
        _said_of_offset(numbering, offset, num_classes),
        _said_of_empty(labelled, empty_allowed),
        _said_of_imbalance(labelled),
    )
    return labelled._replace(said=tuple(sentence for sentence in said if sentence))


def _read(inputs: Inputs, folders: Iterable[str], advance: Callable[[int], None]) -> FoundLabels:
    """Reads the label of each image, and keeps one string for each different label."""
    places: dict[str, int] = {}
    first: list[int] = []
    of = array("q")
    unlabelled, count_unlabelled = None, 0
    advance(0)
    for i in range(len(inputs)):
        try:
            label = inputs.label(i)
        except ImageError:
            of.append(-1)
        else:
            if not label:
                unlabelled = i if unlabelled is None else unlabelled
                count_unlabelled += 1
            if label not in places:
                places[label] = len(first)
                first.append(i)
            of.append(places[label])
        if (i + 1) % _STEP == 0 or i + 1 == len(inputs):
            advance(i % _STEP + 1)
    if not first:
        raise InputError(f"No label can be read of {len(inputs):,} images, {inputs.name(0)} first: check the files.")
    if unlabelled is not None:
        raise InputError(_sentence_on_unlabelled(inputs.name(unlabelled), count_unlabelled, len(inputs)))
    for folder in folders:
        if folder not in places:
            places[folder] = len(first)
            first.append(-1)
    return FoundLabels([*places], first, np.frombuffer(of, np.int64))


def _sentence_on_unlabelled(name: str, unlabelled: int, images: int) -> str:
    if unlabelled == images:
        return (
            f"The images have no labels, {name} for one: give a folder that has a folder of images for each class, a "
            "TFRecord file with image/class/label, or a tar archive with .cls files."
        )
    return (
        f"{unlabelled:,} of {images:,} images have no label, {name} for one: move them into the folder of their class, "
        "or leave them out."
    )


def _offset(numbering: Numbering, num_classes: int | None) -> int:
    """Returns the default offset."""
    numbers, names = numbering.numbers, numbering.names
    if num_classes == WITH_BACKGROUND:
        lacks_background = 0 in numbers if names is None else len(names) == IMAGENET
        return -1 if lacks_background and IMAGENET not in numbers else 0
    if num_classes == IMAGENET:
        has_background = names is not None and len(names) == WITH_BACKGROUND
        return 1 if has_background or (IMAGENET in numbers and 0 not in numbers) else 0
    return 0


def _class_names(names: Sequence[str] | None, num_classes: int, offset: int) -> list[str]:
    """Returns the names of the network's classes."""
    if names is None:
        if num_classes in (IMAGENET, WITH_BACKGROUND):
            return imagenet_labels(num_classes)
        numbers = range(offset, offset + num_classes)
        return [str(number) if number >= 0 else BACKGROUND for number in numbers]
    if len(names) == num_classes:
        return [*names]
    if (len(names), num_classes) == (IMAGENET, WITH_BACKGROUND):
        return [BACKGROUND, *names]
    if len(names) == num_classes + offset:  # the names are those of the data's numbers
        return [names[number] if number >= 0 else BACKGROUND for number in range(offset, len(names))]
    raise InputError(
        f"{len(names):,} classes have names, {listed(names)}, and the network has {num_classes:,} classes: give one "
        "name for each as labels=FILE."
    )


def _check_range(labels: FoundLabels, numbering: Numbering, offset: int, num_classes: int, inputs: Inputs) -> None:
    for text, number in zip(labels.texts, numbering.numbers, strict=True):
        if not 0 <= number - offset < num_classes:
            raise InputError(
                f"The label {text}{example(labels, text, inputs)} is class {number - offset} (label_offset={offset}), "
                f"and there are {num_classes:,} classes, from 0 to {num_classes - 1:,}: give label_offset=N, or a "
                "checkpoint of so many classes."
            )


def _said_of_offset(numbering: Numbering, offset: int, num_classes: int) -> str | None:
    low, high = min(numbering.numbers), max(numbering.numbers)
    if not offset and num_classes != WITH_BACKGROUND:
        return None
    become = f"become the classes {low - offset} to {high - offset}" if offset else "are the classes of these numbers"
    reason = {
        -1: "class 0 of the network is the background, which the data do not have",
        0: "class 0 is the background",
        1: "label 0 would be a background class, which the network does not have",
    }
    sentence = f"Labels {low} to {high} {become} (label_offset={offset})"
    in_play = num_classes in (IMAGENET, WITH_BACKGROUND) and offset in reason
    return f"{sentence}: {reason[offset]}." if in_play else f"{sentence}."


def _said_of_empty(labelled: Labelled, allowed: bool) -> str | None:
    """Returns a sentence on classes without images. Raises InputError if they are not allowed, or only one has any."""
    names, counts = labelled.names, labelled.counts
    no_background = len(names) == WITH_BACKGROUND or names[0] == BACKGROUND
    empty = [name for number, name in enumerate(names) if not counts[number] and not (no_background and not number)]
    if not allowed and np.count_nonzero(counts) < 2:
        raise InputError(
            f"All images are of one class, {names[int(counts.argmax())]}, and a network needs two at least to learn "
            "from: add images of other classes."
        )
    if not empty:
        return None
    have = "classes has" if len(empty) == 1 else "classes have"
    sentence = f"{len(empty):,} of {len(names):,} {have} no images: {listed(empty)}"
    if not allowed:
        raise InputError(
            f"{sentence}; add some, or remove the empty folder or the name. If the labels are numbers that begin "
            "above 0, give label_offset=N, where N is the first of them; if they are names that look like numbers, "
            "give a file with all of them as labels=FILE."
        )
    return f"{sentence}."


def _said_of_imbalance(labelled: Labelled) -> str | None:
    counts = labelled.counts
    present = np.flatnonzero(counts)
    if not len(present):
        return None
    least, most = present[counts[present].argmin()], present[counts[present].argmax()]
    if counts[most] < _IMBALANCE * counts[least]:
        return None
    names = labelled.names
    return (
        f"The classes have different numbers of images: {names[most]} {counts[most]:,}, {names[least]} "
        f"{counts[least]:,}. The recall of each class says more than the accuracy."
    )
