"""Images in files of their own."""

from collections.abc import Mapping, Sequence

from tools.errors import ImageError
from tools.images.inputs import EncodedImage, Stamp
from tools.images.sources import storage

__all__ = ["ImageFiles"]


class ImageFiles:
    """Images by the addresses of their files; whether a file is there shows when it is read.

    Args:
      addresses: of the files.
      listed: from addresses to stamps, where the listing of a remote folder told them.
      skipped: what the folders held besides, see ``Inputs``.
    """

    def __init__(
        self,
        addresses: Sequence[str],
        listed: Mapping[str, Stamp] | None = None,
        skipped: Mapping[str, int] | None = None,
    ) -> None:
        self._addresses = addresses
        self._listed = listed or {}
        self.skipped = skipped or {}

    def __len__(self) -> int:
        return len(self._addresses)

    def name(self, i: int) -> str:
        return self._addresses[i]

    def read(self, i: int) -> EncodedImage:
        address = self._addresses[i]
        try:
            data, stamp = storage.read_file(address)
        except FileNotFoundError:
            raise ImageError("there is no such file") from None
        except OSError as error:
            raise ImageError(f"the file cannot be read ({error.strerror or error})") from None
        if address in self._listed:
            stamp = Stamp(stamp.size, self._listed[address].version)
        return EncodedImage(address, "", data, stamp)

    def stamp(self, i: int) -> Stamp | None:
        address = self._addresses[i]
        if address in self._listed:
            return self._listed[address]
        try:
            return storage.stamp(address)
        except OSError:
            return None
