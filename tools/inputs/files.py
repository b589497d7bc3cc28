"""Pictures in files of their own."""

from collections.abc import Iterator, Sequence

from tools.images import ImageError
from tools.inputs import Picture, storage

__all__ = ["PictureFiles"]


class PictureFiles:
    """Pictures by the addresses of their files; whether a file is there shows when it is read."""

    def __init__(self, addresses: Sequence[str]) -> None:
        self._addresses = addresses

    def __len__(self) -> int:
        return len(self._addresses)

    def name(self, i: int) -> str:
        return self._addresses[i]

    def read(self, i: int) -> Picture:
        address = self._addresses[i]
        if not storage.is_remote(address):
            return Picture(address, "", address)
        try:
            return Picture(address, "", storage.read_bytes(address))
        except FileNotFoundError:
            raise ImageError("there is no such file") from None
        except OSError as error:
            raise ImageError(f"the file cannot be read ({error.strerror or error})") from None

    def identity(self) -> Iterator[str]:
        return iter(self._addresses)
