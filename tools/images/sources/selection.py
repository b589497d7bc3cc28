"""Which of the files that were found are images to work on, and what was left out, by kind."""

import fnmatch
import re
from collections import Counter
from collections.abc import Callable, Sequence

from tools.errors import InputError
from tools.images.formats import IMAGE_SUFFIXES, image_format
from tools.images.sources import storage

__all__ = ["Selection", "is_image"]

# The formats whose files begin with something that no other file does. Other files are images by their suffix alone: by
# a few bytes, data of any kind could be taken for one of the others.
_SURE = {"AVIF", "BMP", "DDS", "GIF", "ICNS", "JPEG", "JPEG2000", "PNG", "PSD", "QOI", "TIFF", "WEBP"}

# What systems and programs leave between people's files, beside all whose names begin with a dot: macOS, Windows, NAS.
_SYSTEM = re.compile(
    r"\..*|__MACOSX|Thumbs\.db|ehthumbs\.db|desktop\.ini|@eaDir|#recycle|\$RECYCLE\.BIN|System Volume Information"
    r"|lost\+found",
    re.IGNORECASE,
)

# Files of images that a folder may hold, in which nobody may have meant to look.
_CONTAINER_NAME = re.compile(r"\.(tar|tfrecords?)(\.\w+)?$|\.t(gz|bz2?|xz)$|-\d{5}-of-\d{5}$")
_CONTAINERS = "tar archives and TFRecord files in a folder, to be named themselves"


def is_image(head: bytes) -> bool:
    """Returns whether a file of any name that begins so is an image."""
    return image_format(head) in _SURE


class Selection:
    """Decides on one file after the other, and counts what is left out.

    Args:
      include: patterns with * and ?; where there are some, an image must match one.
      exclude: patterns that no image may match. A pattern is compared with the whole name, with the name inside of the
        folder or archive that was given, and with its last part.

    Attributes:
      skipped: from the kinds of what was left out to how many there were.
    """

    def __init__(self, include: Sequence[str] = (), exclude: Sequence[str] = ()) -> None:
        self._include = [(pattern, re.compile(fnmatch.translate(pattern))) for pattern in include]
        self._exclude = [(pattern, re.compile(fnmatch.translate(pattern))) for pattern in exclude]
        self._unused = {*include, *exclude}
        self.skipped: Counter[str] = Counter()

    def skip(self, kind: str) -> None:
        """Counts something that is left out."""
        self.skipped[kind] += 1

    def is_system(self, name: str) -> bool:
        """Returns whether a file or folder, by the last part of its name, is a system's own; counts it if so."""
        found = _SYSTEM.fullmatch(name) is not None
        if found:
            self.skip("hidden or system files")
        return found

    def takes(self, name: str, inside: str, head: Callable[[], bytes] | None = None) -> bool:
        """Returns whether a file is an image that the patterns let through; counts it if not.

        Args:
          name: its whole name.
          inside: its name inside of what was given, with '/'.
          head: reads its first ``HEAD_BYTES`` bytes, which decide where the suffix is not that of an image; None where
            the name alone decides.

        Raises:
          OSError: if ``head`` cannot read them.
        """
        if storage.suffix(inside) not in IMAGE_SUFFIXES and (head is None or not is_image(head())):
            self.skip(_CONTAINERS if _CONTAINER_NAME.search(inside) else "files that are not images")
            return False
        return self.matches(name, inside)

    def matches(self, name: str, inside: str) -> bool:
        """Returns whether the patterns let an image of this name through; counts it if not."""
        names = {name, inside, inside.rpartition("/")[2]}
        included = [pattern for pattern, compiled in self._include if any(map(compiled.fullmatch, names))]
        excluded = [pattern for pattern, compiled in self._exclude if any(map(compiled.fullmatch, names))]
        self._unused.difference_update(included, excluded)
        if (self._include and not included) or excluded:
            self.skip("images that a pattern leaves out")
            return False
        return True

    @property
    def besides(self) -> str:
        """Returns what was left out, in brackets, to put into a sentence; '' where nothing was."""
        kinds = ", ".join(f"{kind}: {count:,}" for kind, count in self.skipped.items())
        return f" (skipped {kinds})" if kinds else ""

    @property
    def has_patterns(self) -> bool:
        return bool(self._include or self._exclude)

    def check_patterns(self) -> None:
        """Raises InputError for a pattern that no image matched: more would be worked on, or less, than was meant."""
        if self._unused:
            raise InputError(
                f"The pattern {min(self._unused)!r} matches no image: it is compared with whole names, with names "
                "inside of the folder, and with their last parts, and * stands for any characters."
            )
