"""The images that a shard was made of, recorded in its ``images.npz`` so that changed images are noticed.

The file holds the arrays ``name`` (the images' names in the inputs, each ended by a zero byte), ``size`` and
``version`` (their stamps; -1 for an image that could not be read), ``sha256`` (of all that a row depends on),
``failed`` (which could not be decoded) and ``arithmetic`` (see ``FeatureExtractor.arithmetic``).
"""

import io
import zipfile
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np

from checkpoints.files.atomic import write_whole
from tools.errors import ImageError
from tools.images import Inputs
from tools.images.inputs import Stamp, sha256_of

__all__ = [
    "IMAGES",
    "ShardImages",
    "changed_images",
    "joined",
    "numbers_by_name",
    "places_of",
    "read_images",
    "write_images",
]

IMAGES = "images.npz"

# Number of threads that ask for stamps and read images again, and of images a thread takes at a time. Remote files are
# slow.
_THREADS, _CHUNK = 16, 256


class ShardImages(NamedTuple):
    """The images of a shard, row by row.

    names: their names in the inputs.
    sizes, versions: int64 [N].
    sha256: uint8 [N, 32].
    failed: bool [N].
    arithmetic: of the extractor that made the rows.
    """

    names: list[str]
    sizes: np.ndarray
    versions: np.ndarray
    sha256: np.ndarray
    failed: np.ndarray
    arithmetic: tuple[int, ...]

    @classmethod
    def empty(cls, count: int, arithmetic: Sequence[int]) -> "ShardImages":
        """Returns a record for ``count`` images, which ``put`` and ``copy`` fill."""
        numbers = [np.full(count, -1, np.int64) for _ in range(2)]
        return cls([], *numbers, np.zeros([count, 32], np.uint8), np.ones(count, bool), tuple(arithmetic))

    def put(self, name: str, stamp: Stamp | None, sha256: bytes, failed: bool) -> None:
        """Records the next image."""
        row = len(self.names)
        self.names.append(name)
        if stamp is not None:
            self.sizes[row], self.versions[row] = stamp
            self.sha256[row] = np.frombuffer(sha256, np.uint8)
        self.failed[row] = failed

    def stamp(self, row: int) -> Stamp:
        """Returns the stamp of a row's image."""
        return Stamp(int(self.sizes[row]), int(self.versions[row]))

    def taken_from(self, numbers: dict[str, deque[int]]) -> list[int | None]:
        """Takes a number for each image out of ``numbers_by_name``, or None if its name has none left."""
        return [numbers[name].popleft() if numbers.get(name) else None for name in self.names]

    def copy(self, other: "ShardImages", place: int) -> None:
        """Records the next image, which is that of row ``place`` in another record."""
        row = len(self.names)
        self.names.append(other.names[place])
        for mine, theirs in zip(self[1:5], other[1:5], strict=True):
            mine[row] = theirs[place]


def joined(parts: Sequence[ShardImages]) -> ShardImages:
    """Returns the record of several shards, one after the other."""
    names = [name for part in parts for name in part.names]
    arrays = (np.concatenate(arrays) for arrays in zip(*(part[1:5] for part in parts), strict=True))
    return ShardImages(names, *arrays, parts[0].arithmetic)


def write_images(folder: Path, images: ShardImages, *, replace: bool = False) -> None:
    """Writes ``images.npz`` to a shard's new folder. ``replace=True`` replaces the one of a finished shard."""
    names = b"".join(name.encode("utf-8", "surrogateescape") + b"\0" for name in images.names)
    stream = io.BytesIO()
    np.savez(
        stream,
        name=np.frombuffer(names, np.uint8),
        size=images.sizes,
        version=images.versions,
        sha256=images.sha256,
        failed=images.failed,
        arithmetic=np.array(images.arithmetic, np.int64),
    )
    if replace:
        write_whole(folder / IMAGES, stream.getvalue())
    else:  # the caller flushes all files of a new folder to the disk
        (folder / IMAGES).write_bytes(stream.getvalue())


def read_images(folder: Path) -> ShardImages | None:
    """Reads ``images.npz`` in a shard's folder. Returns None if there is none, as in folders of older versions.

    Raises:
      ValueError: if it is damaged.
    """
    try:
        with np.load(folder / IMAGES) as file:
            names = file["name"].tobytes().split(b"\0")[:-1]
            arrays = [file[name] for name in ("size", "version", "sha256", "failed")]
            arithmetic = tuple(file["arithmetic"].tolist())
    except FileNotFoundError:
        return None
    except (EOFError, KeyError, zipfile.BadZipFile) as error:
        raise ValueError(f"{IMAGES} is damaged: {error}") from None
    return ShardImages([name.decode("utf-8", "surrogateescape") for name in names], *arrays, arithmetic)


def places_of(images: ShardImages, inputs: Inputs, start: int) -> list[int | None]:
    """Returns the number of each image of a shard in the inputs, by name; None for images that are gone.

    Args:
      images: of the shard.
      inputs: the current images.
      start: number of the first one, if nothing has changed.
    """
    count = len(images.names)
    if start + count <= len(inputs) and all(inputs.name(start + i) == name for i, name in enumerate(images.names)):
        return list(range(start, start + count))
    return images.taken_from(numbers_by_name(map(inputs.name, range(len(inputs)))))


def numbers_by_name(names: Iterable[str]) -> dict[str, deque[int]]:
    """Returns the numbers of each name, in order. A list may name an image more than once."""
    numbers = defaultdict(deque)
    for i, name in enumerate(names):
        numbers[name].append(i)
    return numbers


def changed_images(
    images: ShardImages, inputs: Inputs, places: Sequence[int | None], advance: Callable[[int], None]
) -> tuple[list[int], ShardImages]:
    """Finds the images that have changed since the features were made.

    An image with the old stamp is the same. Any other is read again: a new time with the same bytes is not a change.

    Args:
      images: of a shard.
      inputs: the current images.
      places: number of each row's image in the inputs. Rows with None, whose image is gone, are ignored.
      advance: called with the number of images whenever some have been compared.

    Returns:
      The changed rows, and the record with the current stamps of the unchanged images.
    """
    rows = [row for row, place in enumerate(places) if place is not None]
    chunks = [rows[start : start + _CHUNK] for start in range(0, len(rows), _CHUNK)]
    changed: list[int] = []
    renewed = images._replace(sizes=images.sizes.copy(), versions=images.versions.copy())

    def look(chunk: list[int]) -> list[int]:
        return [row for row in chunk if not _is_same(images.stamp(row), inputs.stamp(places[row]))]

    def read_again(row: int) -> Stamp | None:
        """Returns the current stamp of an unchanged image; None for a changed one."""
        try:
            image = inputs.read(places[row])
        except ImageError:
            return None
        same = sha256_of(inputs.name(places[row]), image) == images.sha256[row].tobytes()
        return image.stamp if same else None

    with ThreadPoolExecutor(_THREADS) as pool:
        doubtful: list[int] = []
        for chunk, found in zip(chunks, pool.map(look, chunks), strict=True):
            doubtful += found
            advance(len(chunk))
        for row, stamp in zip(doubtful, pool.map(read_again, doubtful), strict=True):
            if stamp is None:
                changed.append(row)
            else:
                renewed.sizes[row], renewed.versions[row] = stamp
    return sorted(changed), renewed


def _is_same(then: Stamp, now: Stamp | None) -> bool:
    if now is None or then.size < 0:  # could not be read then, or cannot be read now
        return now is None and then.size < 0
    # Some servers do not tell a version, or not even the size.
    return now.size in (-1, then.size) and (0 in (then.version, now.version) or now.version == then.version)
