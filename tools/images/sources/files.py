"""Reads images from files of their own."""

import errno
import os
import time
from collections.abc import Mapping, Sequence

from tools.errors import ImageError
from tools.images.inputs import EncodedImage, Stamp
from tools.images.sources import storage

__all__ = ["ImageFiles"]

# Bytes of the largest file that is read: more than the pixels of the largest image that is decoded.
_LARGEST = 2 << 30

# Nanoseconds in which a file may change again without another time: the resolution of a file system's clock, or FAT's.
_JUST_NOW = 2_000_000_000


class ImageFiles:
    """Images by the addresses of their files. A missing file is noticed when it is read.

    Args:
      addresses: of the files.
      listed: stamps by address, if the listing of a remote folder had them.
      skipped: number of files that were skipped, by kind; see ``Inputs``.
      roots: for each address, the number of its characters that name the folder that was searched, with its last '/';
        -1 if none was. A file in a folder inside of it is labelled by that folder's name.
    """

    def __init__(
        self,
        addresses: Sequence[str],
        listed: Mapping[str, Stamp] | None = None,
        skipped: Mapping[str, int] | None = None,
        roots: Sequence[int] | None = None,
    ) -> None:
        self._addresses = addresses
        self._listed = listed or {}
        self.skipped = skipped or {}
        self._roots = roots

    def __len__(self) -> int:
        return len(self._addresses)

    def name(self, i: int) -> str:
        return self._addresses[i]

    def label(self, i: int) -> str:
        if not self._roots or self._roots[i] < 0:
            return ""
        folder, slash, _ = self._addresses[i][self._roots[i] :].partition("/")
        return folder if slash else ""

    def read(self, i: int) -> EncodedImage:
        address = self._addresses[i]
        try:
            data, stamp = _read(address)
        except FileNotFoundError:
            raise ImageError("there is no such file") from None
        except OSError as error:
            raise ImageError(f"the file cannot be read ({error.strerror or error})") from None
        if address in self._listed:
            stamp = Stamp(stamp.size, self._listed[address].version)
        return EncodedImage(address, self.label(i), data, stamp, label_in_name=True)

    def stamp(self, i: int) -> Stamp | None:
        address = self._addresses[i]
        if address in self._listed:
            return self._listed[address]
        try:
            return storage.remote_stamp(address) if storage.is_remote(address) else _stamp(os.stat(address))  # noqa: PTH116
        except OSError:
            return None


def _read(address: str) -> tuple[bytes, Stamp]:
    """Reads a whole file, and its stamp before. Raises errors as ``storage.read_bytes`` does."""
    if storage.is_remote(address):
        data = storage.read_bytes(address)
        return data, Stamp(len(data), 0)  # the version would require another request
    with open(address, "rb", buffering=0) as stream:  # noqa: PTH123
        before = _stamp(os.fstat(stream.fileno()))
        if before.size > _LARGEST:
            raise OSError(errno.EFBIG, f"its {before.size:,} bytes are more than any image has")
        return stream.readall(), before


def _stamp(status: os.stat_result) -> Stamp:
    # A file that has just changed may change again without another time, so its stamp never equals another one.
    if abs(time.time_ns() - status.st_ctime_ns) < _JUST_NOW:
        return Stamp(status.st_size, time.time_ns())
    # ctime, because programs can set mtime back, as `cp -p` does.
    return Stamp(status.st_size, status.st_ctime_ns or 1)
