"""Puts published checkpoints into the store: downloads an archive or takes one from a file, verifies and unpacks it.

pooch, requests and tarfile are imported inside functions, as opening a checkpoint rarely needs them.
"""

import hashlib
import logging
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Protocol
from urllib.parse import urlsplit

from checkpoints.errors import CheckpointError, DownloadError
from checkpoints.files import write_notes
from checkpoints.files.atomic import new_folder
from checkpoints.published.catalog import CATALOG, CatalogEntry, get_entry
from checkpoints.published.store import find, store_folder

if TYPE_CHECKING:
    import pooch
    import requests

__all__ = ["Progress", "download", "install"]

_RETRIES = 3
_TIMEOUT = 30  # seconds without a byte
_CHUNK = 1 << 20


class Progress(Protocol):
    """Receives the progress of a download in bytes; pooch uses this part of tqdm's interface.

    Each attempt begins by setting ``total``, to 0 if the size is unknown, and calls ``update`` as bytes arrive. An
    attempt that succeeds ends with ``reset``, ``update`` with the total, and ``close``.
    """

    total: int

    def update(self, count: int) -> None: ...

    def reset(self) -> None: ...

    def close(self) -> None: ...


def download(
    key: str, folder: str | Path | None = None, *, progress: Progress | None = None, retries: int = _RETRIES
) -> Path:
    """Downloads the checkpoint of a catalog key, unless the store already has it.

    Args:
      key: key of the catalog.
      folder: the store; by default ``store_folder()``.
      progress: receives the number of bytes as they arrive.
      retries: how often to try again after a lost connection, a server error or a damaged file.

    Returns:
      The checkpoint's path.

    Raises:
      ValueError: for an unknown key.
      DownloadError: if the file cannot be downloaded, or the store cannot be written.
      CheckpointError: if the server sends another file, or the archive cannot be unpacked.
    """
    entry = get_entry(key)
    if (path := find(key, folder)) is not None:
        return path
    store = store_folder(folder)
    with _writing_to(store):
        _make_place(entry, store)
        with tempfile.TemporaryDirectory(prefix=f".{key}.", suffix=".incomplete", dir=store) as scratch:
            archive = _fetch(entry, Path(scratch), progress, retries)
            with archive.open("rb") as stream:
                _check_sha256(stream, entry, archive.name)
                return _unpack_into_store(entry, stream, store)


def install(key: str, archive: str | Path, folder: str | Path | None = None) -> Path:
    """Installs the checkpoint of a catalog key from an archive that the user has already downloaded.

    Args:
      key: key of the catalog.
      archive: the archive; it is not changed.
      folder: the store; by default ``store_folder()``.

    Returns:
      The checkpoint's path.

    Raises:
      ValueError: for an unknown key.
      DownloadError: if the store cannot be written.
      CheckpointError: if the file is not that archive.
    """
    entry, archive = get_entry(key), Path(archive)
    if entry.url is None:
        raise CheckpointError(f"The weights {key} ship with slimnets: they need no archive to be installed from.")
    if not archive.is_file():
        raise CheckpointError(f"There is no file {archive}: give the archive {entry.archive}.")
    with archive.open("rb") as stream:
        _check_sha256(stream, entry, str(archive))
        if (path := find(key, folder)) is not None:
            return path
        store = store_folder(folder)
        with _writing_to(store):
            _make_place(entry, store)
            return _unpack_into_store(entry, stream, store)


@contextmanager
def _writing_to(store: Path) -> Iterator[None]:
    """Raises DownloadError, which names the store, for an OSError inside the block."""
    try:
        yield
    except DownloadError:
        raise
    except OSError as error:
        raise DownloadError(
            f"The store {store} cannot be written to ({error.strerror or error}): make room, or name another."
        ) from error


def _make_place(entry: CatalogEntry, store: Path) -> None:
    """Creates the store; raises CheckpointError if the entry's folder exists and holds something else."""
    store.mkdir(parents=True, exist_ok=True)
    place = store / entry.key
    if place.is_dir() and not any(place.iterdir()):
        return
    if place.exists():
        raise CheckpointError(f"{place} is in the way, and holds no {entry.checkpoint}: remove it.")


def _unpack_into_store(entry: CatalogEntry, archive: BinaryIO, store: Path) -> Path:
    """Unpacks an archive, whose sha256 was checked, into the entry's folder; returns the checkpoint's path."""
    try:
        with new_folder(store / entry.key) as folder:
            _extract(archive, folder)
            checkpoint = folder / entry.checkpoint
            if not checkpoint.is_file():
                name = Path(archive.name).name
                raise CheckpointError(f"{name} holds no {entry.checkpoint}: it is not the archive to install.")
            write_notes(checkpoint, entry.notes, checkpoint)
    except OSError:
        # Only another process that installed the same checkpoint can have filled the folder in the meantime.
        if find(entry.key, store) is None:
            raise
    return store / entry.key / entry.checkpoint


def _extract(archive: BinaryIO, folder: Path) -> None:
    """Unpacks a .tar.gz file; refuses devices, and members and links that would lie outside the folder."""
    import gzip
    import tarfile
    import zlib

    name = Path(archive.name).name
    try:
        with tarfile.open(fileobj=archive, mode="r:gz") as tar:
            tar.extractall(folder, filter="data")
    except tarfile.FilterError as error:
        raise CheckpointError(
            f"{name} was not unpacked, as it holds more than files and folders of its own ({error}): "
            "look for the right archive."
        ) from error
    except (tarfile.TarError, gzip.BadGzipFile, zlib.error, EOFError) as error:
        raise CheckpointError(f"{name} is damaged or cut short ({error}): fetch it again.") from error


def _check_sha256(archive: BinaryIO, entry: CatalogEntry, name: str) -> None:
    """Raises CheckpointError, which calls the file by ``name``, if an open file is not the entry's archive."""
    sha256 = hashlib.file_digest(archive, "sha256").hexdigest()
    archive.seek(0)
    if sha256 == entry.sha256:
        return
    for other in CATALOG.values():
        if sha256 == other.sha256:
            raise CheckpointError(
                f"{name} is {other.archive}, the archive of {other.key} and not of {entry.key}: "
                f"give {entry.archive}, or install {other.key}."
            )
    raise CheckpointError(
        f"{name} is not {entry.archive}: its sha256 is {sha256}, and should be {entry.sha256}; "
        f"look for the right file, and install it with `slimnets download {entry.key} --from FILE`."
    )


def _elsewhere(entry: CatalogEntry) -> str:
    """Returns the advice to look for the archive at another address, a clause."""
    return (
        f"the file may be hosted elsewhere: look for {entry.archive} with the sha256 {entry.sha256}, "
        f"and install it with `slimnets download {entry.key} --from FILE`."
    )


def _fetch(entry: CatalogEntry, folder: Path, progress: Progress | None, retries: int) -> Path:
    """Downloads the archive of an entry into a folder and returns its path."""
    import pooch
    import requests

    fetcher = pooch.create(
        folder,
        base_url="",
        registry={entry.archive: f"sha256:{entry.sha256}"},
        urls={entry.archive: entry.url},
        retry_if_failed=retries,
    )
    try:
        with _quiet_pooch():
            return Path(fetcher.fetch(entry.archive, downloader=_downloader(entry, progress)))
    except CheckpointError:
        raise
    except requests.HTTPError as error:
        raise DownloadError(_answered(entry, error.response)) from error
    except (requests.RequestException, ValueError) as error:
        trouble = _trouble(entry, error)
        raise DownloadError(f"{trouble}: check the network and try again; {_elsewhere(entry)}") from error


def _downloader(entry: CatalogEntry, progress: Progress | None) -> "Callable[[str, str, pooch.Pooch], None]":
    """Returns the function that pooch calls for each attempt.

    pooch tries again after a ValueError or an error of requests, and after no other.
    """
    import pooch
    import requests

    # Asks for the file's own bytes: a server may otherwise declare gzip as an encoding, which requests would undo.
    headers = {"Accept-Encoding": "identity"}
    http = pooch.HTTPDownloader(progress or False, chunk_size=_CHUNK, timeout=_TIMEOUT, headers=headers)

    def attempt(url: str, output: str, fetcher: pooch.Pooch) -> None:
        try:
            http(url, output, fetcher)
        except requests.HTTPError as error:
            error.response.close()
            if error.response.status_code < 500:
                raise DownloadError(_answered(entry, error.response)) from error
            raise
        with Path(output).open("rb") as stream:
            _check_sha256(stream, entry, f"What {url} sends")

    return attempt


def _answered(entry: CatalogEntry, response: "requests.Response") -> str:
    return f"{response.url} answered {response.status_code} {response.reason}: {_elsewhere(entry)}"


def _trouble(entry: CatalogEntry, error: Exception) -> str:
    """Returns what went wrong on the network, a clause."""
    from requests import exceptions

    # The first class that fits counts: some are subclasses of later ones.
    troubles = (
        (exceptions.SSLError, "{host} has no certificate that can be verified"),
        (exceptions.ProxyError, "The proxy on the way to {host} does not connect"),
        (exceptions.Timeout, "{host} did not answer within {timeout} seconds"),
        (exceptions.ChunkedEncodingError, "The connection to {host} broke off before all of {url} had come"),
        (exceptions.ConnectionError, "{host} cannot be reached, or broke the connection off"),
        (Exception, "{url} cannot be fetched ({error})"),
    )
    # After a redirection the request has another address than the entry.
    request = getattr(error, "request", None)
    url = entry.url if request is None else request.url
    kind = next(text for kind, text in troubles if isinstance(error, kind))
    return kind.format(host=urlsplit(url).netloc, url=url, timeout=_TIMEOUT, error=error)


@contextmanager
def _quiet_pooch() -> Iterator[None]:
    """Keeps pooch from printing its progress, which the caller reports."""
    import pooch

    logger = pooch.get_logger()
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
