"""Sentences that speak of Python's arguments, for who gives them as options of a command."""

import re

__all__ = ["as_options"]

# What the library's own sentences offer, and the command has as an option.
_OPTIONS = (
    (r"ema=True", "--ema"),
    (r"overwrite=True", "--overwrite"),
    (r"update=True", "--update"),
    (r"(format|names)='([^']*)'", r"--\1 \2"),
    (r"to_scope='([^']*)'", r"--to-scope \1"),
    (r"num_classes=None", "--num-classes 0"),
    (r"(scope|preprocessing|net)='([^']*)'", r"--\1 \2"),
    (r"(exclude|only)=\[?('[^']*')\]?", r"--\1 \2"),
    (r"exclude=\[\.\.\.\]", "--exclude"),
    (r"num_classes=(\d+)", r"--num-classes \1"),
    (r"image_size=(\d+)", r"--image-size \1"),
)
# As words of their own: the names of folders have such things in them.
_WORDS = tuple((re.compile(rf"(?<![^\s(]){argument}(?![^\s.,;:)])"), option) for argument, option in _OPTIONS)


def as_options(sentence: str) -> str:
    """The sentence with each argument that is also an option written as the option: ``ema=True`` as ``--ema``."""
    for pattern, option in _WORDS:
        sentence = pattern.sub(option, sentence)
    return sentence
