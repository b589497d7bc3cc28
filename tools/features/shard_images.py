"""What the images of a shard were when its features were made: ``images.npz``, by which changed ones are told.

``name`` are the images' names in the inputs, one after the other, each ended by a zero byte; ``size`` and ``version``
their stamps (-1 where an image could not be read); ``sha256`` what their rows depend on; ``failed`` which could not be
decoded; ``arithmetic`` what else the last bits of a row depend on, see ``FeatureExtractor.arithmetic``.
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

# Threads that ask for the stamps of images, of so many at a time, and that read images again: remote ones take long.
_THREADS, _CHUNK = 16, 256


class ShardImages(NamedTuple):
    """The images of a shard, row by row; see above.

    names: in the inputs.
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
        """Returns records of ``count`` images, which are to be put in."""
        numbers = [np.full(count, -1, np.int64) for _ in range(2)]
        return cls([], *numbers, np.zeros([count, 32], np.uint8), np.ones(count, bool), tuple(arithmetic))

    def put(self, name: str, stamp: Stamp | None, sha256: bytes, failed: bool) -> None:
        """Puts in the next image."""
        row = len(self.names)
        self.names.append(name)
        if stamp is not None:
            self.sizes[row], self.versions[row] = stamp
            self.sha256[row] = np.frombuffer(sha256, np.uint8)
        self.failed[row] = failed

    def stamp(self, row: int) -> Stamp:
        return Stamp(int(self.sizes[row]), int(self.versions[row]))

    def taken_from(self, numbers: dict[str, deque[int]]) -> list[int | None]:
        """Takes a number for each image out of ``numbers_by_name``; None where its name has none left."""
        return [numbers[name].popleft() if numbers.get(name) else None for name in self.names]

    def copy(self, other: "ShardImages", place: int) -> None:
        """Puts in the next image, which is that of row ``place`` of other records."""
        row = len(self.names)
        self.names.append(other.names[place])
        for mine, theirs in zip(self[1:5], other[1:5], strict=True):
            mine[row] = theirs[place]


def joined(parts: Sequence[ShardImages]) -> ShardImages:
    """Returns the records of several shards, one after the other."""
    names = [name for part in parts for name in part.names]
    arrays = (np.concatenate(arrays) for arrays in zip(*(part[1:5] for part in parts), strict=True))
    return ShardImages(names, *arrays, parts[0].arithmetic)


def write_images(folder: Path, images: ShardImages, *, replace: bool = False) -> None:
    """Writes the file in a shard's new folder; or, at once, in the place of the one in a folder that is done."""
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
    else:  # who makes the folder has it on the disk before it is done
        (folder / IMAGES).write_bytes(stream.getvalue())


def read_images(folder: Path) -> ShardImages | None:
    """Reads the file in a shard's folder; None where there is none, as in folders made before there were such files.

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
    """Returns where the images of a shard, by their names, are in the inputs; None for those that are not.

    Args:
      images: of the shard.
      inputs: to look in.
      start: where the first one is, if nothing has changed.
    """
    count = len(images.names)
    if start + count <= len(inputs) and all(inputs.name(start + i) == name for i, name in enumerate(images.names)):
        return list(range(start, start + count))
    return images.taken_from(numbers_by_name(map(inputs.name, range(len(inputs)))))


def numbers_by_name(names: Iterable[str]) -> dict[str, deque[int]]:
    """Returns from each name to its numbers, in their order: a list may name an image more than once."""
    numbers = defaultdict(deque)
    for i, name in enumerate(names):
        numbers[name].append(i)
    return numbers


def changed_images(
    images: ShardImages, inputs: Inputs, places: Sequence[int | None], advance: Callable[[int], None]
) -> tuple[list[int], ShardImages]:
    """Tells which images are others than those that the features were made of.

    An image whose stamp is the old one is the same. Any other one is read again: a new time with the same bytes is no
    change.

    Args:
      images: of a shard.
      inputs: the images as they are now.
      places: of each row's image in the inputs; None for one that is gone, which is not counted here.
      advance: called with the number of images whenever some were looked at.

    Returns:
      The rows, and the records with the stamps of now for the images that are the same.
    """
    rows = [row for row, place in enumerate(places) if place is not None]
    chunks = [rows[start : start + _CHUNK] for start in range(0, len(rows), _CHUNK)]
    changed: list[int] = []
    renewed = images._replace(sizes=images.sizes.copy(), versions=images.versions.copy())

    def look(chunk: list[int]) -> list[int]:
        return [row for row in chunk if not _is_same(images.stamp(row), inputs.stamp(places[row]))]

    def read_again(row: int) -> Stamp | None:
        """Returns the stamp that the same image has now; None for another one."""
        try:
            picture = inputs.read(places[row])
        except ImageError:
            return None
        same = sha256_of(inputs.name(places[row]), picture) == images.sha256[row].tobytes()
        return picture.stamp if same else None

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
    if now is None or then.size < 0:  # what could not be read then, or cannot be now
        return now is None and then.size < 0
    # Of some addresses only the size is known, or not even that.
    return now.size in (-1, then.size) and (0 in (then.version, now.version) or now.version == then.version)
