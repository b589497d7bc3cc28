"""Selects the files that are images, and counts those that are skipped, by kind."""

import fnmatch
import re
from collections import Counter
from collections.abc import Callable, Sequence

from tools.errors import InputError
from tools.images.formats import IMAGE_SUFFIXES, image_format
from tools.images.sources import storage

__all__ = ["Selection", "is_image"]

# Formats whose first bytes are unmistakable. Files of other formats are recognized only by their suffix, because any
# data could begin with the few bytes that mark them.
_SURE = {"AVIF", "BMP", "DDS", "GIF", "ICNS", "JPEG", "JPEG2000", "PNG", "PSD", "QOI", "TIFF", "WEBP"}

# Hidden files, and files that systems (macOS, Windows, NAS) leave between a user's own.
_SYSTEM = re.compile(
    r"\..*|__MACOSX|Thumbs\.db|ehthumbs\.db|desktop\.ini|@eaDir|#recycle|\$RECYCLE\.BIN|System Volume Information"
    r"|lost\+found",
    re.IGNORECASE,
)

# Containers of images. In a folder they are skipped, because the user may not have meant them.
_CONTAINER_NAME = re.compile(r"\.(tar|tfrecords?)(\.\w+)?$|\.t(gz|bz2?|xz)$|-\d{5}-of-\d{5}$")
_CONTAINERS = "tar archives and TFRecord files in a folder, to be named themselves"


def is_image(head: bytes) -> bool:
    """Returns whether a file with these first bytes is an image, whatever its name."""
    return image_format(head) in _SURE


class Selection:
    """Decides on one file after the other, and counts those that are skipped.

    Args:
      include: patterns with * and ?. If there are any, an image must match one.
      exclude: patterns that an image must not match. Patterns are compared with the whole name, with the name inside
        the given folder or archive, and with its last part.

    Attributes:
      skipped: number of skipped files, by kind.
    """

    def __init__(self, include: Sequence[str] = (), exclude: Sequence[str] = ()) -> None:
        self._include = [(pattern, re.compile(fnmatch.translate(pattern))) for pattern in include]
        self._exclude = [(pattern, re.compile(fnmatch.translate(pattern))) for pattern in exclude]
        self._unused = {*include, *exclude}
        self.skipped: Counter[str] = Counter()

    def skip(self, kind: str) -> None:
        """Counts a file that is skipped."""
        self.skipped[kind] += 1

    def is_system(self, name: str) -> bool:
        """Returns whether a file or folder is hidden or a system's own, by its last name; counts it if so."""
        found = _SYSTEM.fullmatch(name) is not None
        if found:
            self.skip("hidden or system files")
        return found

    def takes(self, name: str, inside: str, head: Callable[[], bytes] | None = None) -> bool:
        """Returns whether a file is an image that the patterns select; counts it as skipped if not.

        Args:
          name: its whole name.
          inside: its name inside the given folder or archive, with '/'.
          head: reads its first ``HEAD_BYTES`` bytes, which decide if the suffix is not that of an image; None if only
            the name decides.

        Raises:
          OSError: if ``head`` cannot read them.
        """
        if storage.suffix(inside) not in IMAGE_SUFFIXES and (head is None or not is_image(head())):
            self.skip(_CONTAINERS if _CONTAINER_NAME.search(inside) else "files that are not images")
            return False
        return self.matches(name, inside)

    def matches(self, name: str, inside: str) -> bool:
        """Returns whether the patterns select an image of this name; counts it as skipped if not."""
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
        """Returns a note on the skipped files for an error message; '' if there are none."""
        kinds = ", ".join(f"{kind}: {count:,}" for kind, count in self.skipped.items())
        return f" (skipped {kinds})" if kinds else ""

    @property
    def has_patterns(self) -> bool:
        """Returns whether there are any patterns."""
        return bool(self._include or self._exclude)

    def check_patterns(self) -> None:
        """Raises InputError for a pattern that matched no image, which is probably a mistake."""
        if self._unused:
            raise InputError(
                f"The pattern {min(self._unused)!r} matches no image: it is compared with whole names, with names "
                "inside the folder, and with their last parts; * matches any characters."
            )
