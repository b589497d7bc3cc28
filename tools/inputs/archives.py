"""Pictures in tar archives, in webdataset's convention: members whose names share all up to the first dot are one
sample, such as ``0001.jpg`` with its class ``0001.cls``."""

import tarfile
from collections.abc import Iterator

import numpy as np

from tools.images import IMAGE_SUFFIXES, ImageError
from tools.inputs import InputError, Picture, storage

__all__ = ["TarArchive"]

_LABEL = "cls"


class TarArchive:
    """The pictures of a tar archive that is not compressed, in its order.

    Args:
      address: of the archive.

    Raises:
      InputError: if it is no such archive, is cut short, or holds no pictures.
    """

    def __init__(self, address: str) -> None:
        self._address = address
        self._size = storage.size(address)
        names, places, labels = [], [], {}
        try:
            with storage.open_file(address) as stream, tarfile.open(fileobj=stream, mode="r:") as archive:
                for member in archive:
                    key, kind = _key(member.name)
                    if not member.isfile():
                        continue
                    if kind == _LABEL:
                        labels[key] = archive.extractfile(member).read().decode("utf-8", "replace").strip()
                    elif "." + kind.rpartition(".")[2] in IMAGE_SUFFIXES:
                        names.append(member.name)
                        places.append((member.offset_data, member.size))
                    archive.members.clear()  # ten thousands of them would be kept
                # It ends with blocks of zeros; reading also ends, without a word, at a damaged header.
                stream.seek(archive.offset)
                end = stream.read(tarfile.BLOCKSIZE)
        except tarfile.TarError as error:
            raise InputError(f"{address} is no tar archive, or cut short ({error}): fetch or write it again.") from None
        if any(end) or len(end) < tarfile.BLOCKSIZE:
            raise InputError(f"{address} is cut short or damaged after {len(names)} pictures: fetch or write it again.")
        if not names:
            raise InputError(f"No images found in {address}: looked for members that end in an image's suffix.")
        self._names, self._places = names, np.array(places, np.int64)
        self._labels = [labels.get(_key(name)[0], "") for name in names]

    def __len__(self) -> int:
        return len(self._names)

    def name(self, i: int) -> str:
        return f"{self._address}/{self._names[i]}"

    def read(self, i: int) -> Picture:
        start, count = map(int, self._places[i])
        try:
            data = storage.read_bytes(self._address, start, count)
        except OSError as error:
            raise ImageError(f"the archive cannot be read ({error.strerror or error})") from None
        return Picture(self.name(i), self._labels[i], data)

    def identity(self) -> Iterator[str]:
        yield f"{self._address}: {self._size} bytes, {len(self)} pictures"


def _key(name: str) -> tuple[str, str]:
    """What the members of a sample share, and what kind of member this is, in small letters."""
    folder, slash, file = name.rpartition("/")
    stem, _, kind = file.partition(".")
    return folder + slash + stem, kind.lower()
