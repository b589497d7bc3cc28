"""Names of classes: ImageNet's, with or without a background class, or those of a file."""

import re
from pathlib import Path

from checkpoints.background_class import BACKGROUND

__all__ = ["imagenet_identifiers", "imagenet_labels", "labels_for", "read_labels"]

# WordNet's identifier and words of each class of ILSVRC 2012, in the order of the identifiers.
_SYNSETS = Path(__file__).parents[1] / "imagenet_synsets.txt"

# The lines of the labels.txt that slim's data set scripts write.
_NUMBERED = re.compile(r"(\d{1,9}):(.*)")


def imagenet_labels(num_classes: int) -> list[str]:
    """Returns the names of ImageNet's classes as WordNet gives them, such as 'tench, Tinca tinca'.

    Args:
      num_classes: 1000; or 1001, with the background as class 0 before the 1000.

    Raises:
      ValueError: for another number.
    """
    if num_classes not in (1000, 1001):
        raise ValueError(f"ImageNet has 1000 classes, 1001 with the background, and not {num_classes}.")
    labels = [words for _, words in _synsets()]
    return [BACKGROUND, *labels] if num_classes == 1001 else labels


def imagenet_identifiers() -> list[str]:
    """Returns WordNet's identifiers of ImageNet's 1000 classes, such as 'n01440764'."""
    return [identifier for identifier, _ in _synsets()]


def _synsets() -> list[list[str]]:
    return [line.split("\t") for line in _SYNSETS.read_text(encoding="utf-8").splitlines()]


def read_labels(path: str | Path, num_classes: int | None) -> list[str]:
    """Reads the names of classes from a text file: one a line, or each with its number as slim writes it, ``0:name``.

    Args:
      path: path of the file.
      num_classes: number of classes that need a name; None for as many as the file names.

    Raises:
      ValueError: if the file cannot be read, or names no class, or another number of classes.
    """
    try:
        lines = Path(path).read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        sentence = f"The labels {path} cannot be read ({error}): give a text file with one name a line."
        raise ValueError(sentence) from None
    labels = [line.strip() for line in lines if line.strip()]
    if not labels and num_classes is None:
        raise ValueError(f"The labels {path} name no class: write one name a line.")
    numbered = [match for label in labels if (match := _NUMBERED.fullmatch(label))]
    if labels and len(numbered) == len(labels):
        by_number = {int(match[1]): match[2].strip() for match in numbered}
        if len(by_number) < len(numbered):
            raise ValueError(f"The labels {path} name a class twice: give each number once.")
        count = max(by_number) + 1 if num_classes is None else num_classes
        if missing := next((number for number in range(count) if number not in by_number), None):
            raise ValueError(f"The labels {path} have no name for class {missing} of {count}: add it.")
        labels = [by_number[number] for number in sorted(by_number)]
    if num_classes is not None and len(labels) != num_classes:
        raise ValueError(
            f"The labels {path} name {len(labels)} classes, and the network has {num_classes}: give one name for each."
        )
    return labels


def labels_for(num_classes: int) -> list[str]:
    """Returns ImageNet's names for 1000 or 1001 classes, and the classes' numbers for any other number of them."""
    if num_classes in (1000, 1001):
        return imagenet_labels(num_classes)
    return [str(number) for number in range(num_classes)]
