"""Sentences that speak of Python's arguments, for who gives them as options of a command."""

import re

__all__ = ["as_options"]

# What the library's own sentences offer, and the command has as an option.
_OPTIONS = (
    (re.compile(r"\bema=True"), "--ema"),
    (re.compile(r"\bnum_classes=None"), "--num-classes 0"),
    (re.compile(r"\b(scope|preprocessing|net)='([^']*)'"), r"--\1 \2"),
    (re.compile(r"\bexclude=\[?('[^']*')\]?"), r"--exclude \1"),
    (re.compile(r"\b(num)_(classes)=(\d+)"), r"--\1-\2 \3"),
    (re.compile(r"\b(image)_(size)=(\d+)"), r"--\1-\2 \3"),
)


def as_options(sentence: str) -> str:
    """The sentence with each argument that is also an option written as the option: ``ema=True`` as ``--ema``."""
    for pattern, option in _OPTIONS:
        sentence = pattern.sub(option, sentence)
    return sentence
