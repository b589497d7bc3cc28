"""Makes control characters visible, which names of files may hold and a terminal would obey."""

import re

__all__ = ["visible"]

_CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]")


def visible(text: str, *, lines: bool = True) -> str:
    """Returns a text in which control characters are written as ``\\x1b``.

    Args:
      text: any text.
      lines: whether line breaks stay.
    """
    text = _CONTROL.sub(lambda found: f"\\x{ord(found[0]):02x}", text)
    return text if lines else text.replace("\n", "\\x0a")
