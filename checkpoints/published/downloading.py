"""Published checkpoints into the store: fetched or from a file at hand, verified, unpacked."""

import hashlib
import logging
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol
from urllib.parse import urlsplit

import pooch
import requests

from checkpoints.errors import CheckpointError, DownloadError
from checkpoints.files.atomic import new_folder
from checkpoints.published.catalog import CATALOG, CatalogEntry, get_entry
from checkpoints.published.store import find, store_folder
from checkpoints.published.unpack import extract

__all__ = ["Progress", "download", "install"]

_RETRIES = 3
_TIMEOUT = 30  # seconds without a byte
_CHUNK = 1 << 20


class Progress(Protocol):
    """What a download tells of itself: of tqdm's interface, that which pooch uses. All numbers are bytes.

    ``total`` is set at the start of each attempt, to 0 where it is not known; ``update`` is called as bytes come;
    ``reset``, ``update`` with the total, and ``close`` at the end of an attempt that came through.
    """

    total: int

    def update(self, count: int) -> None: ...

    def reset(self) -> None: ...

    def close(self) -> None: ...


def download(
    key: str, folder: str | Path | None = None, *, progress: Progress | None = None, retries: int = _RETRIES
) -> Path:
    """Fetches the checkpoint of a catalog key, unless it is there already.

    Args:
      key: of the catalog.
      folder: the store; by default ``store_folder()``.
      progress: is told of the bytes that come.
      retries: how often to begin again where the connection breaks, the server fails or what comes is damaged.

    Returns:
      The checkpoint.

    Raises:
      ValueError: for an unknown key.
      DownloadError: if it cannot be fetched, or the store cannot be written to.
      CheckpointError: if another file came, or one that cannot be unpacked.
    """
    entry = get_entry(key)
    if (path := find(key, folder)) is not None:
        return path
    store = store_folder(folder)
    with _writing_to(store):
        _make_place(entry, store)
        with tempfile.TemporaryDirectory(prefix=f".{key}.", suffix=".incomplete", dir=store) as scratch:
            return _unpack_into_store(entry, _fetch(entry, Path(scratch), progress, retries), store)


def install(key: str, archive: str | Path, folder: str | Path | None = None) -> Path:
    """Takes the checkpoint of a catalog key from its archive, which was fetched by other means.

    Args:
      key: of the catalog.
      archive: the file; it is left where it is.
      folder: the store; by default ``store_folder()``.

    Returns:
      The checkpoint.

    Raises:
      ValueError: for an unknown key.
      DownloadError: if the store cannot be written to.
      CheckpointError: if the file is not that archive.
    """
    entry, archive = get_entry(key), Path(archive)
    if entry.url is None:
        raise CheckpointError(f"The weights {key} ship with slimnets: they need no archive to be installed from.")
    if not archive.is_file():
        raise CheckpointError(f"There is no file {archive}: give the archive {entry.archive}.")
    _check_sha256(archive, entry, str(archive))
    if (path := find(key, folder)) is not None:
        return path
    store = store_folder(folder)
    with _writing_to(store):
        _make_place(entry, store)
        return _unpack_into_store(entry, archive, store)


@contextmanager
def _writing_to(store: Path) -> Iterator[None]:
    """Says which store it is that cannot be written to, or is full."""
    try:
        yield
    except DownloadError:
        raise
    except OSError as error:
        raise DownloadError(
            f"The store {store} cannot be written to ({error.strerror or error}): make room, or name another."
        ) from error


def _make_place(entry: CatalogEntry, store: Path) -> None:
    """Makes the store; raises CheckpointError if it has something else where the entry's folder belongs."""
    store.mkdir(parents=True, exist_ok=True)
    place = store / entry.key
    if place.is_dir() and not any(place.iterdir()):
        return
    if place.exists():
        raise CheckpointError(f"{place} is in the way, and holds no {entry.checkpoint}: remove it.")


def _unpack_into_store(entry: CatalogEntry, archive: Path, store: Path) -> Path:
    try:
        with new_folder(store / entry.key) as folder:
            extract(archive, folder)
            if not (folder / entry.checkpoint).is_file():
                raise CheckpointError(f"{archive.name} holds no {entry.checkpoint}: it is not the archive to install.")
    except OSError:
        # Nobody but a process that did the same can have filled that folder since.
        if find(entry.key, store) is None:
            raise
    return store / entry.key / entry.checkpoint


def _check_sha256(archive: Path, entry: CatalogEntry, name: str) -> None:
    """Raises CheckpointError if the file, which errors call by ``name``, is not the archive of that entry."""
    with archive.open("rb") as stream:
        sha256 = hashlib.file_digest(stream, "sha256").hexdigest()
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
    return (
        f"the file may be hosted elsewhere: look for {entry.archive} with the sha256 {entry.sha256}, "
        f"and install it with `slimnets download {entry.key} --from FILE`."
    )


def _fetch(entry: CatalogEntry, folder: Path, progress: Progress | None, retries: int) -> Path:
    """The archive of an entry, downloaded into a folder and verified."""
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


def _downloader(entry: CatalogEntry, progress: Progress | None) -> Callable[[str, str, pooch.Pooch], None]:
    """One attempt, as pooch calls it; pooch begins again after requests' errors and ValueError, and no others."""
    # The file's own bytes: a server may otherwise call gzip an encoding, which is then undone on the way.
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
        _check_sha256(Path(output), entry, f"What {url} sends")

    return attempt


def _answered(entry: CatalogEntry, response: requests.Response) -> str:
    return f"{response.url} answered {response.status_code} {response.reason}: {_elsewhere(entry)}"


def _trouble(entry: CatalogEntry, error: Exception) -> str:
    # After a redirection it is another's.
    request = getattr(error, "request", None)
    url = entry.url if request is None else request.url
    kind = next(text for kind, text in _TROUBLES if isinstance(error, kind))
    return kind.format(host=urlsplit(url).netloc, url=url, timeout=_TIMEOUT, error=error)


# The first that is an error's kind: some are kinds of the later ones.
_TROUBLES = (
    (requests.exceptions.SSLError, "{host} has no certificate that can be verified"),
    (requests.exceptions.ProxyError, "The proxy on the way to {host} does not connect"),
    (requests.Timeout, "{host} did not answer within {timeout} seconds"),
    (requests.exceptions.ChunkedEncodingError, "The connection to {host} broke off before all of {url} had come"),
    (requests.ConnectionError, "{host} cannot be reached, or broke the connection off"),
    (Exception, "{url} cannot be fetched ({error})"),
)


@contextmanager
def _quiet_pooch() -> Iterator[None]:
    """Keeps pooch from printing what it does, which is the caller's to report."""
    logger = pooch.get_logger()
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
