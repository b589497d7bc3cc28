"""Says which input a network gets, and what of it is assumed."""

from typing import Protocol

__all__ = ["described_input"]

_OPTIONS = {"preprocessing": "--preprocessing", "image_size": "--image-size"}


class _HasInput(Protocol):
    """An input: its preprocessing, its image size, and which of these two are assumed."""

    @property
    def preprocessing(self) -> str | None: ...

    @property
    def image_size(self) -> int | None: ...

    @property
    def assumed(self) -> tuple[str, ...]: ...


def described_input(found: _HasInput, remedy: str | None = None) -> str:
    """Returns the input of a diagnosis or an extractor: 'preprocessing vgg at 224', and what of it is assumed.

    Args:
      found: the diagnosis, extractor, conversion or notes.
      remedy: what to do about an assumption; None for the option of a command that computes, or `slimnets note`.
    """
    text = f"preprocessing {found.preprocessing} at {found.image_size}"
    if not found.assumed:
        return text
    # The option for the preprocessing stands for both.
    remedy = remedy or f"{_OPTIONS[found.assumed[0]]}, or slimnets note"
    what = "" if len(found.assumed) == len(_OPTIONS) else f"{getattr(found, found.assumed[0])} is "
    return f"{text} ({what}assumed: nothing in the file says so; {remedy})"
