"""Tests the store of published checkpoints against a local server that fails as servers do.

The server sends no real checkpoint: to the store it is only bytes under a name.
"""

import contextlib
import errno
import gzip
import hashlib
import http.server
import io
import json
import logging
import os
import random
import re
import socket
import subprocess
import sys
import tarfile
import threading
from pathlib import Path

import pooch
import pytest

import checkpoints
from checkpoints import CheckpointError
from checkpoints.errors import DownloadError
from checkpoints.files.atomic import new_folder
from checkpoints.published import CATALOG, downloading, store
from tools.cli import main
from tools.commands.weights import print_weights

ROOT = Path(checkpoints.__file__).parent.parent

KEY, CHECKPOINT = "resnet_v2_50", "resnet_v2_50.ckpt"
# As hard to compress as weights, and larger than several of the pieces that are read at once.
CONTENT = random.Random(0).randbytes(3_400_000)


def tar_gz(*members, format=tarfile.GNU_FORMAT):
    """Returns an archive of these members: a name and its bytes, or a TarInfo and the bytes that follow it."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=format) as tar:
        for member, data in members:
            if isinstance(member, str):
                member = tarfile.TarInfo(member)
                member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return gzip.compress(stream.getvalue(), 1, mtime=0)


def info(name, **fields):
    member = tarfile.TarInfo(name)
    for field, value in fields.items():
        setattr(member, field, value)
    return member


ARCHIVE = tar_gz((CHECKPOINT, CONTENT), ("eval.graph", b"graph"))
SHA256 = hashlib.sha256(ARCHIVE).hexdigest()
INSTALL = f"and install it with `slimnets download {KEY} --from FILE`."
ELSEWHERE = f"the file may be hosted elsewhere: look for weights.tar.gz with the sha256 {SHA256}, {INSTALL}"


# The server.


class Server(http.server.ThreadingHTTPServer):
    """Answers requests with ``answers`` in turn, and repeats the last."""

    answers = ()
    count = 0


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        answer = self.server.answers[min(self.server.count, len(self.server.answers) - 1)]
        self.server.count += 1
        with contextlib.suppress(ConnectionError):  # a client may leave
            answer(self)

    def log_message(self, *_):
        pass

    def start(self, status, **headers):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), str(value))
        self.end_headers()


def serve(data):
    def answer(handler):
        handler.start(200, Content_Length=len(data))
        handler.wfile.write(data)

    return answer


whole = serve(ARCHIVE)
truncated = serve(ARCHIVE[:2_000_000])
PAGE = b"<html>This file has moved.</html>"
page = serve(PAGE)


def of_unknown_length(handler):
    handler.start(200)
    handler.wfile.write(ARCHIVE)


def dropped(handler):
    handler.start(200, Content_Length=len(ARCHIVE))
    handler.wfile.write(ARCHIVE[:2_000_000])


def reset(handler):
    """Resets the connection by a packet; ``dropped`` instead ends as if everything had been sent."""
    dropped(handler)
    handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")


def stalled(handler):
    handler.start(200, Content_Length=len(ARCHIVE))
    handler.wfile.write(ARCHIVE[:2_000_000])
    handler.rfile.read()  # until the client is gone


def silent(handler):
    handler.rfile.read()


def hung_up(handler):
    pass


def status(code):
    return lambda handler: handler.start(code, Content_Length=0)


def redirect(handler):
    handler.start(302, Location="/moved/elsewhere.tar.gz", Content_Length=0)


def endless_redirect(handler):
    handler.start(302, Location=handler.path, Content_Length=0)


def nonsense(handler):
    handler.start(200, Content_Length="many")
    handler.wfile.write(ARCHIVE)


@pytest.fixture
def server(monkeypatch):
    """Yields the server, to which the catalog's entry for KEY points."""
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.setenv(name, "127.0.0.1")
    with Server(("127.0.0.1", 0), Handler) as server:
        publish(monkeypatch, f"http://127.0.0.1:{server.server_port}/weights.tar.gz", SHA256)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def publish(monkeypatch, url, sha256):
    monkeypatch.setitem(CATALOG, KEY, CATALOG[KEY]._replace(url=url, sha256=sha256))


@pytest.fixture(autouse=True)
def waits(monkeypatch):
    """Returns the list of seconds that pooch would wait before each retry."""
    waits = []
    monkeypatch.setattr(pooch.core.time, "sleep", waits.append)
    return waits


def tree(folder):
    """Maps every path below a folder to the bytes of the file, or to None if it is not a file."""
    return {path.relative_to(folder): path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}


def notes_on(content):
    """Returns the notes that are written beside the checkpoint of KEY, a file with this content."""
    record = {
        "network": KEY,
        "pool1_padding": "SAME",
        "preprocessing": "inception",
        "image_size": 299,
        "source": None,
        "labels": None,
        "assumed": [],
        "file": CHECKPOINT,
        "sha256": hashlib.sha256(content).hexdigest(),
    }
    return (json.dumps(record, indent=2) + "\n").encode()


def assert_installed(path, folder):
    assert path == folder / KEY / CHECKPOINT
    assert tree(folder) == {
        Path(KEY): None,
        Path(KEY, CHECKPOINT): CONTENT,
        Path(KEY, f"{CHECKPOINT}.slimnets.json"): notes_on(CONTENT),
        Path(KEY, "eval.graph"): b"graph",
    }
    assert store.find(KEY, folder) == store.locate(KEY, folder) == path


def assert_nothing_left(folder):
    assert tree(folder) == {}
    assert store.find(KEY, folder) is None


# Where checkpoints lie.


def test_store_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", "/home/somebody")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv("SLIMNETS_CHECKPOINTS", raising=False)
    if sys.platform == "linux":
        assert store.store_folder() == tmp_path / "slimnets"
    monkeypatch.setenv("SLIMNETS_CHECKPOINTS", "~/weights")
    assert store.store_folder() == Path("/home/somebody/weights")
    assert store.store_folder("~/other") == Path("/home/somebody/other")


def test_the_shipped_checkpoint_is_always_there(tmp_path):
    path = store.locate("resnet_v2_tiny_digits", tmp_path)
    assert path == ROOT / "checkpoints" / "resnet_v2_tiny_digits.ckpt"
    assert Path(f"{path}.index").is_file()
    assert downloading.download("resnet_v2_tiny_digits", tmp_path) == path
    assert tree(tmp_path) == {}


def test_missing(monkeypatch, tmp_path):
    monkeypatch.setenv("SLIMNETS_CHECKPOINTS", str(tmp_path / "weights"))
    where = re.escape(f"The weights {KEY} are not in {tmp_path / 'weights'}: fetch them with ")
    with pytest.raises(CheckpointError, match=f"^{where}`slimnets download {KEY}`.$"):
        store.locate(KEY)
    with pytest.raises(CheckpointError, match=f"^{where}`slimnets download {KEY} --to {tmp_path / 'weights'}`.$"):
        store.resolve(KEY, tmp_path / "weights")
    with pytest.raises(ValueError, match="'resnet_v2_51'; did you mean resnet_v2_50"):
        store.locate("resnet_v2_51")


def test_resolve(monkeypatch, tmp_path):
    """An existing path has priority over a key of that name. Anything else is left to ``open_checkpoint``."""
    monkeypatch.chdir(tmp_path)
    assert store.resolve("model.ckpt") == Path("model.ckpt")
    assert store.resolve("resnet_v2_tiny_digits") == ROOT / "checkpoints" / "resnet_v2_tiny_digits.ckpt"
    Path("resnet_v2_tiny_digits.index").touch()
    assert store.resolve("resnet_v2_tiny_digits") == Path("resnet_v2_tiny_digits")
    Path(KEY).touch()
    assert store.resolve(Path(KEY)) == Path(KEY)
    installed = tmp_path / "weights" / "resnet_v1_50" / "resnet_v1_50.ckpt"
    installed.parent.mkdir(parents=True)
    installed.touch()
    assert store.resolve("resnet_v1_50", tmp_path / "weights") == installed


# Downloads.


@pytest.mark.parametrize(
    ("answers", "requests"),
    [
        ([whole], 1),
        ([of_unknown_length], 1),
        ([redirect, whole], 2),
        ([dropped, whole], 2),
        ([reset, whole], 2),
        ([truncated, whole], 2),
        ([hung_up, whole], 2),
        ([status(500), whole], 2),
        ([page, whole], 2),
        ([dropped, truncated, status(503), whole], 4),
    ],
)
def test_download(server, tmp_path, waits, capfd, answers, requests):
    server.answers = answers
    assert_installed(downloading.download(KEY, tmp_path), tmp_path)
    assert server.count == requests
    assert len(waits) == (0 if redirect in answers else requests - 1)
    assert capfd.readouterr() == ("", "")
    if os.name == "posix":
        assert {path.stat().st_mode & 0o777 for path in (tmp_path / KEY).iterdir()} == {0o644}
        assert (tmp_path / KEY).stat().st_mode & 0o777 == 0o755
    # Immediately, and without a request.
    assert downloading.download(KEY, tmp_path) == tmp_path / KEY / CHECKPOINT
    assert server.count == requests


@pytest.mark.parametrize(
    ("answer", "error", "sentence"),
    [
        (
            status(500),
            DownloadError,
            r"http://127.0.0.1:\d+/weights.tar.gz answered 500 Internal Server Error: the file",
        ),
        (dropped, DownloadError, r"The connection to 127.0.0.1:\d+ broke off before all of http://\S+ had come: check"),
        (hung_up, DownloadError, r"127.0.0.1:\d+ cannot be reached, or broke the connection off: check the network"),
        (
            endless_redirect,
            DownloadError,
            r"http://127.0.0.1:\d+/weights.tar.gz cannot be fetched \(Exceeded 30 redirects",
        ),
        (
            truncated,
            CheckpointError,
            r"What http://\S+ sends is not weights.tar.gz: its sha256 is "
            f"{hashlib.sha256(ARCHIVE[:2_000_000]).hexdigest()}, and should be {SHA256}; look for the right file",
        ),
        (
            page,
            CheckpointError,
            r"What http://\S+ sends is not weights.tar.gz: its sha256 is "
            f"{hashlib.sha256(PAGE).hexdigest()}, and should be {SHA256}; look for the right file",
        ),
    ],
)
def test_failure_that_stays(server, tmp_path, waits, capfd, answer, error, sentence):
    server.answers = [answer]
    with pytest.raises(error, match=f"^{sentence}") as caught:
        downloading.download(KEY, tmp_path, retries=2)
    assert str(caught.value).endswith(ELSEWHERE if error is DownloadError else INSTALL)
    assert waits == [1, 2]
    assert capfd.readouterr() == ("", "")
    assert_nothing_left(tmp_path)


@pytest.mark.parametrize(("code", "reason"), [(403, "Forbidden"), (404, "Not Found"), (410, "Gone")])
def test_refusal_is_final(server, tmp_path, waits, code, reason):
    server.answers = [redirect, status(code)]
    url = f"http://127.0.0.1:{server.server_port}/moved/elsewhere.tar.gz"
    with pytest.raises(DownloadError, match=f"^{re.escape(f'{url} answered {code} {reason}: {ELSEWHERE}')}$"):
        downloading.download(KEY, tmp_path)
    assert (server.count, waits) == (2, [])
    assert_nothing_left(tmp_path)


def test_pooch_is_quiet(monkeypatch, server, tmp_path):
    """The logger of pooch is left as it was, since other code may use it too."""
    logger, records = pooch.get_logger(), []
    monkeypatch.setattr(logger, "handle", records.append)
    monkeypatch.setattr(logger, "level", logging.INFO)
    server.answers = [dropped, whole]
    downloading.download(KEY, tmp_path)
    assert records == []
    assert logger.level == logging.INFO


def test_no_answer(monkeypatch, server, tmp_path):
    monkeypatch.setattr(downloading, "_TIMEOUT", 0.1)
    server.answers = [silent]
    with pytest.raises(DownloadError, match=r"^127.0.0.1:\d+ did not answer within 0.1 seconds: check the network"):
        downloading.download(KEY, tmp_path, retries=0)
    server.answers = [stalled]
    with pytest.raises(DownloadError, match=r"broke the connection off: check the network"):
        downloading.download(KEY, tmp_path, retries=0)
    assert_nothing_left(tmp_path)


def test_answer_without_sense(server, tmp_path):
    server.answers = [nonsense]
    with pytest.raises(DownloadError, match=r"weights.tar.gz cannot be fetched \(.*'many'.*\): check"):
        downloading.download(KEY, tmp_path, retries=0)
    assert_nothing_left(tmp_path)


def test_nobody_listens(monkeypatch, server, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    publish(monkeypatch, f"http://127.0.0.1:{port}/weights.tar.gz", SHA256)
    with pytest.raises(
        DownloadError, match=f"^127.0.0.1:{port} cannot be reached, .*: check the network and try again"
    ):
        downloading.download(KEY, tmp_path)
    assert_nothing_left(tmp_path)


def test_name_that_is_not_resolved(monkeypatch, server, tmp_path):
    def unresolved(*_):
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unresolved)
    monkeypatch.setenv("NO_PROXY", "weights.invalid")
    monkeypatch.setenv("no_proxy", "weights.invalid")
    publish(monkeypatch, "http://weights.invalid/weights.tar.gz", SHA256)
    with pytest.raises(
        DownloadError, match=r"^weights\.invalid cannot be reached, .*: check the network and try again"
    ):
        downloading.download(KEY, tmp_path)
    assert_nothing_left(tmp_path)


class Bar:
    """The part of tqdm's interface that pooch uses."""

    def __init__(self, act=lambda: None):
        self.totals, self.updates, self._act = [], 0, act

    @property
    def total(self):
        return self.totals[-1]

    @total.setter
    def total(self, total):
        self.totals.append(total)

    def update(self, count):
        self.updates += 1
        self._act()

    def reset(self):
        pass

    def close(self):
        pass


def test_progress_begins_anew(server, tmp_path):
    server.answers = [truncated, of_unknown_length]
    bar = Bar()
    downloading.download(KEY, tmp_path, progress=bar)
    assert bar.totals == [2_000_000, 0]
    assert bar.updates > 2


def test_interrupt(server, tmp_path):
    def interrupt():
        raise KeyboardInterrupt

    server.answers = [whole]
    with pytest.raises(KeyboardInterrupt):
        downloading.download(KEY, tmp_path, progress=Bar(interrupt))
    assert_nothing_left(tmp_path)


def test_another_process_was_faster(server, tmp_path):
    """Both processes end with the same file, and the second leaves nothing behind."""
    archive = tmp_path / "copy.tar.gz"
    archive.write_bytes(ARCHIVE)
    server.answers = [whole]
    folder = tmp_path / "store"
    bar = Bar(lambda: downloading.install(KEY, archive, folder))
    assert_installed(downloading.download(KEY, folder, progress=bar), folder)


KILLED = """
import sys
from checkpoints import download
from checkpoints.published.catalog import CATALOG

class Bar:
    def update(self, count):
        print("receiving", flush=True)

key, url, sha256, folder = sys.argv[1:]
CATALOG[key] = CATALOG[key]._replace(url=url, sha256=sha256)
download(key, folder, progress=Bar())
"""


def test_kill(server, tmp_path):
    """Leftovers of a killed process are hidden, not mistaken for the checkpoint, and do not hinder the next process."""
    server.answers = [stalled]
    command = [sys.executable, "-c", KILLED, KEY, CATALOG[KEY].url, SHA256, str(tmp_path)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        assert process.stdout.readline() == "receiving\n"
        process.kill()
    (left,) = tmp_path.iterdir()
    assert re.fullmatch(rf"\.{KEY}\..+\.incomplete", left.name)
    assert store.find(KEY, tmp_path) is None
    with pytest.raises(CheckpointError, match="slimnets download"):
        store.locate(KEY, tmp_path)
    server.answers = [whole]
    path = downloading.download(KEY, tmp_path)
    assert path.read_bytes() == CONTENT
    assert {entry.name for entry in tmp_path.iterdir()} == {KEY, left.name}


def test_store_that_cannot_be_written_to(server, tmp_path):
    server.answers = [whole]
    (tmp_path / "file").touch()
    with pytest.raises(DownloadError, match=r"^The store \S+/file/store cannot be written to \(Not a directory\): "):
        downloading.download(KEY, tmp_path / "file" / "store")
    assert server.count == 0


def test_disk_that_is_full(monkeypatch, server, tmp_path):
    def full(_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    server.answers = [whole]
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(DownloadError, match=r" cannot be written to \(No space left on device\): make room"):
        downloading.download(KEY, tmp_path)
    assert_nothing_left(tmp_path)


def test_something_in_the_way(server, tmp_path):
    """A folder of that name that does not belong to the store is not touched."""
    server.answers = [whole]
    (tmp_path / KEY).mkdir()
    (tmp_path / KEY / "notes.txt").touch()
    with pytest.raises(CheckpointError, match=rf"{KEY} is in the way, and holds no {CHECKPOINT}: remove it\.$"):
        downloading.download(KEY, tmp_path)
    assert server.count == 0
    assert tree(tmp_path) == {Path(KEY): None, Path(KEY, "notes.txt"): b""}
    (tmp_path / KEY / "notes.txt").unlink()
    assert_installed(downloading.download(KEY, tmp_path), tmp_path)


def test_archive_without_the_checkpoint(monkeypatch, server, tmp_path):
    data = tar_gz(("other.ckpt", b"weights"))
    publish(monkeypatch, CATALOG[KEY].url, hashlib.sha256(data).hexdigest())
    server.answers = [serve(data)]
    with pytest.raises(CheckpointError, match=rf"^weights.tar.gz holds no {CHECKPOINT}: "):
        downloading.download(KEY, tmp_path)
    assert_nothing_left(tmp_path)


# Installation from a file.


def test_install(server, tmp_path):
    archive, folder = tmp_path / "copy.tgz", tmp_path / "store"
    archive.write_bytes(ARCHIVE)
    assert_installed(downloading.install(KEY, archive, folder), folder)
    assert_installed(downloading.install(KEY, archive, folder), folder)
    assert archive.read_bytes() == ARCHIVE
    assert server.count == 0


def test_install_of_another_file(monkeypatch, server, tmp_path):
    archive, folder = tmp_path / "copy.tar.gz", tmp_path / "store"
    folder.mkdir()
    archive.write_bytes(PAGE)
    hashes = f"its sha256 is {hashlib.sha256(PAGE).hexdigest()}, and should be {SHA256}; look for the right file, and"
    with pytest.raises(CheckpointError, match=f"^{re.escape(str(archive))} is not weights.tar.gz: {hashes}"):
        downloading.install(KEY, archive, folder)
    archive.write_bytes(ARCHIVE)
    sentence = (
        f"is weights.tar.gz, the archive of {KEY} and not of resnet_v1_50: give resnet_v1_50_2016_08_28.tar.gz, or"
    )
    with pytest.raises(CheckpointError, match=sentence):
        downloading.install("resnet_v1_50", archive, folder)
    with pytest.raises(CheckpointError, match=r"^There is no file \S+/none.tar.gz: give the archive weights.tar.gz\.$"):
        downloading.install(KEY, tmp_path / "none.tar.gz", folder)
    with pytest.raises(CheckpointError, match=r"^The weights resnet_v2_tiny_digits ship with slimnets"):
        downloading.install("resnet_v2_tiny_digits", archive, folder)
    assert_nothing_left(folder)


# Archives.


@pytest.fixture
def archive(monkeypatch, tmp_path):
    """Yields a function that writes an archive with the catalog's sha256, beside a file that must not change."""
    (tmp_path / "outside.txt").write_bytes(b"as it was")

    def write(data):
        publish(monkeypatch, "http://127.0.0.1/weights.tar.gz", hashlib.sha256(data).hexdigest())
        (tmp_path / "archive.tar.gz").write_bytes(data)
        return tmp_path / "archive.tar.gz"

    return write


def refused(archive, sentence):
    """Installs an archive, which must fail with this message and leave nothing behind."""
    before = tree(archive.parent)
    with pytest.raises(CheckpointError, match=sentence):
        downloading.install(KEY, archive, archive.parent / "deep" / "store")
    assert tree(archive.parent) == {**before, Path("deep"): None, Path("deep/store"): None}


def hostile(member, data=b""):
    """Puts the member behind the checkpoint, so that harmless members are unpacked first."""
    return tar_gz((CHECKPOINT, b"weights"), (member, data))


def test_a_wrong_sha256_unpacks_nothing(monkeypatch, server, tmp_path):
    """The file is not even opened as an archive, whether it was downloaded or given."""
    data, opened = tar_gz((CHECKPOINT, CONTENT), ("eval.graph", b"another")), []
    monkeypatch.setattr(tarfile, "open", lambda *arguments, **_: opened.append(arguments))
    server.answers = [serve(data)]
    archive, folder = tmp_path / "copy.tar.gz", tmp_path / "store"
    archive.write_bytes(data)
    sentence = f"its sha256 is {hashlib.sha256(data).hexdigest()}, and should be {SHA256}"
    with pytest.raises(CheckpointError, match=sentence):
        downloading.install(KEY, archive, folder)
    assert tree(tmp_path) == {Path("copy.tar.gz"): data}
    with pytest.raises(CheckpointError, match=sentence):
        downloading.download(KEY, folder, retries=0)
    assert tree(tmp_path) == {Path("copy.tar.gz"): data, Path("store"): None}
    # Nor if another file replaces the downloaded one before it is unpacked.
    monkeypatch.setattr(downloading, "_fetch", lambda *_: archive)
    with pytest.raises(CheckpointError, match=f"^copy.tar.gz is not weights.tar.gz: {sentence}"):
        downloading.download(KEY, folder)
    assert tree(tmp_path) == {Path("copy.tar.gz"): data, Path("store"): None}
    assert opened == []


@pytest.mark.parametrize(
    ("member", "reason"),
    [
        (info("../outside.txt"), r"'../outside.txt' would be extracted to .*, which is outside the destination"),
        (info("a/../../outside.txt"), r"'a/../../outside.txt' would be extracted to .*, which is outside the"),
        (info("../aside", type=tarfile.DIRTYPE), r"'../aside' would be extracted to .*, which is outside the"),
        (info("../" + 120 * "a"), r"'../a+' would be extracted to .*, which is outside the"),
        (info("link", type=tarfile.SYMTYPE, linkname="/etc"), r"'link' is a (symlink|link) to an absolute path"),
        (
            info("link", type=tarfile.SYMTYPE, linkname="../../outside.txt"),
            r"'link' would link to .*, which is",
        ),
        (
            info("link", type=tarfile.LNKTYPE, linkname="../../outside.txt"),
            r"'link' would link to .*, which is",
        ),
        (info("null", type=tarfile.CHRTYPE, devmajor=1, devminor=3), r"'null' is a special file"),
        (info("disk", type=tarfile.BLKTYPE, devmajor=8), r"'disk' is a special file"),
        (info("pipe", type=tarfile.FIFOTYPE), r"'pipe' is a special file"),
    ],
)
def test_hostile_member(archive, member, reason):
    sentence = rf"^archive\.tar\.gz was not unpacked, as .* \({reason}.*\): look for the right archive\.$"
    refused(archive(hostile(member)), sentence)


def test_absolute_path(archive, tmp_path):
    """It is unpacked inside the folder, as tar does."""
    path = archive(hostile(info(str(tmp_path / "outside.txt"), size=7), b"another"))
    installed = downloading.install(KEY, path, tmp_path / "store")
    assert (tmp_path / "outside.txt").read_bytes() == b"as it was"
    assert Path(f"{installed.parent}{tmp_path}", "outside.txt").read_bytes() == b"another"


@pytest.mark.parametrize("size", [0, 1, 9, 10_000, len(ARCHIVE) // 2])
def test_truncated_archive(archive, size):
    refused(archive(ARCHIVE[:size]), r"^archive\.tar\.gz is damaged or cut short \(.+\): fetch it again\.$")


def test_damaged_archive(archive):
    damaged = bytearray(ARCHIVE)
    damaged[len(ARCHIVE) // 2 : len(ARCHIVE) // 2 + 100_000] = bytes(100_000)
    for data in (bytes(damaged), b"\0" + ARCHIVE[1:], PAGE):
        refused(archive(data), r"^archive\.tar\.gz is damaged or cut short \(.+\): fetch it again\.$")


@pytest.mark.parametrize("format", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_unpack(archive, tmp_path, format):
    """Unpacks a folder as tar writes it: names longer than the header, and permissions that must not be copied."""
    long_name = f"{'b' * 60}/{'c' * 60}.ckpt"
    data = tar_gz(
        (info(".", type=tarfile.DIRTYPE, mode=0o777), b""),
        (info(f"./{CHECKPOINT}", size=7, mode=0o6666), b"weights"),
        (info("empty", type=tarfile.DIRTYPE, mode=0), b""),
        (info(long_name, size=7), b"another"),
        format=format,
    )
    path = archive(data)
    umask = os.umask(0o077)
    try:
        installed = downloading.install(KEY, path, tmp_path / "store")
    finally:
        os.umask(umask)
    assert tree(installed.parent) == {
        Path(CHECKPOINT): b"weights",
        Path(f"{CHECKPOINT}.slimnets.json"): notes_on(b"weights"),
        Path("empty"): None,
        Path("b" * 60): None,
        Path(long_name): b"another",
    }
    if os.name == "posix":
        assert installed.stat().st_mode & 0o7777 == 0o644
    assert [path.name for path in (tmp_path / "store").iterdir()] == [KEY]


def test_new_folder(tmp_path):
    output = tmp_path / "above" / "folder"
    with new_folder(output) as folder:
        assert re.fullmatch(r"\.folder\..+\.incomplete", folder.name)
        assert folder.parent == output.parent
        (folder / "file").write_bytes(b"data")
        assert not output.exists()
    assert tree(output.parent) == {Path("folder"): None, Path("folder/file"): b"data"}
    with pytest.raises(KeyboardInterrupt), new_folder(tmp_path / "above" / "other") as folder:
        (folder / "file").touch()
        raise KeyboardInterrupt
    assert [path.name for path in output.parent.iterdir()] == ["folder"]


# The command.


def test_command_downloads(server, tmp_path, capsys):
    server.answers = [truncated, whole]
    assert main(["download", KEY, "--to", str(tmp_path)]) == 0
    stdout, stderr = capsys.readouterr()
    assert stdout == f"{tmp_path / KEY / CHECKPOINT}\n"
    # A file of 3.4 MB, of which 2.0 came in the first attempt.
    first, second = stderr.splitlines()
    assert re.fullmatch(rf"download {KEY}: 2/2, \d+\.\d MB/s", first)
    assert re.fullmatch(rf"download {KEY}: 4/4, \d+\.\d MB/s", second)
    assert main(["download", KEY, "--to", str(tmp_path)]) == 0
    assert capsys.readouterr() == (stdout, "")


def test_command_downloads_what_has_no_length(server, tmp_path, capsys):
    server.answers = [of_unknown_length]
    assert main(["download", KEY, "--to", str(tmp_path)]) == 0
    assert capsys.readouterr() == (f"{tmp_path / KEY / CHECKPOINT}\n", "")


def test_command_installs(server, tmp_path, capsys):
    archive = tmp_path / "copy.tar.gz"
    archive.write_bytes(ARCHIVE)
    assert main(["download", KEY, "--to", str(tmp_path / "store"), "--from", str(archive)]) == 0
    assert capsys.readouterr() == (f"{tmp_path / 'store' / KEY / CHECKPOINT}\n", "")
    assert server.count == 0


def test_weights(tmp_path, capsys):
    (tmp_path / KEY).mkdir()
    (tmp_path / KEY / CHECKPOINT).touch()
    print_weights(None, False, tmp_path)
    stdout, stderr = capsys.readouterr()
    assert stderr == ""
    header, _, *lines = (re.split(r"  +", line.strip()) for line in stdout.splitlines())
    assert header == ["key", "network", "classes", "preprocessing", "image size", "top-1", "top-5", "installed"]
    rows = {line[0]: line for line in lines}
    assert len(rows) == 12
    assert rows[KEY] == [KEY, KEY, "1,001", "inception", "299", "75.6", "92.8", "yes"]
    assert rows["resnet_v1_101"] == ["resnet_v1_101"] * 2 + ["1,000", "vgg", "224", "76.4", "92.9", "no"]
    shipped = rows["resnet_v2_tiny_digits"]
    assert shipped[1:] == ["resnet_v2_tiny", "10", "inception", "32", "-", "-", "yes"]


ROW = {
    "key": "resnet_v1_50",
    "network": "resnet_v1_50",
    "classes": 1000,
    "preprocessing": "vgg",
    "image_size": 224,
    "top_1": 75.2,
    "top_5": 92.2,
    "installed": False,
}
DETAILS = {
    "url": "http://download.tensorflow.org/models/resnet_v1_50_2016_08_28.tar.gz",
    "sha256": "91a0dc25289e7ef648df304b15f06c43ce6f4446d08eb0168479dd2295101c73",
    "checkpoint": "resnet_v1_50.ckpt",
    "path": None,
}


def test_weights_as_json(tmp_path, capsys):
    print_weights(None, True, tmp_path)
    rows = json.loads(capsys.readouterr().out)
    assert rows[0] == ROW
    print_weights("resnet_v1_50", True, tmp_path)
    assert json.loads(capsys.readouterr().out) == {**ROW, **DETAILS}
    (tmp_path / "resnet_v1_50").mkdir()
    path = tmp_path / "resnet_v1_50" / "resnet_v1_50.ckpt"
    path.touch()
    print_weights("resnet_v1_50", True, tmp_path)
    assert json.loads(capsys.readouterr().out) == {**ROW, **DETAILS, "installed": True, "path": str(path)}


def test_weights_of_one_key(tmp_path, capsys):
    print_weights("resnet_v1_50", False, tmp_path)
    stdout, stderr = capsys.readouterr()
    assert stderr == ""
    lines = [re.split(r"  +", line.strip()) for line in stdout.splitlines()]
    assert lines[0] == ["property", "value"]
    assert ["image size", "224"] in lines
    assert ["installed", "no"] in lines
    assert ["sha256", DETAILS["sha256"]] in lines
    assert ["url", DETAILS["url"]] in lines
    assert ["path", "-"] in lines
    with pytest.raises(ValueError, match="'resnet_v2_51'; did you mean"):
        print_weights("resnet_v2_51", False, tmp_path)
