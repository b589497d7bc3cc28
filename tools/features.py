"""``slimnets features``: from a checkpoint and images to named features in a folder, and back from there."""

import csv
import importlib.metadata
import json
import platform
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

import numpy as np

from checkpoints.folders import new_folder
from tools.feature_extractor import FeatureExtractor, freeze_for
from tools.images import InputError, list_images
from tools.pipeline import ImageStatus
from tools.progress import progress

__all__ = ["Features", "IndexRow", "Summary", "check_output", "extract", "load", "run"]

_INDEX, _RUN = "index.csv", "run.json"

# The names of files are bytes, and not all of them UTF-8.
_CSV_TEXT = {"encoding": "utf-8", "errors": "surrogateescape"}


class IndexRow(NamedTuple):
    """One input: row ``row`` of every array; ``status`` is 'ok', or 'failed' for the reason ``error``."""

    row: int
    path: str
    status: str
    error: str
    width: int | None
    height: int | None


class Features(NamedTuple):
    """The features in a folder.

    arrays: from the end points' aliases to float32 [N, ...], mapped from the files and not read yet.
    index: one row an input.
    run: what made them: checkpoint, network, end points, preprocessing, versions, counts.
    """

    arrays: dict[str, np.ndarray]
    index: list[IndexRow]
    run: dict[str, Any]


class Summary(NamedTuple):
    """Images done and failed, and the folder that holds the features."""

    done: int
    failed: int
    output: Path


def extract(inputs: Sequence[str | Path], output: str | Path, extractor: FeatureExtractor) -> Summary:
    """Writes the features of images to a folder: ``<alias>.npy`` for each end point, ``index.csv``, ``run.json``.

    The folder appears once it is complete: an interrupted run leaves nothing.

    Args:
      inputs: image files, folders and lists, as for ``list_images``.
      output: a folder that does not exist yet, or is empty.
      extractor: computes the features.

    Raises:
      InputError: if there are no images, or the folder is not empty.
    """
    output = Path(output)
    check_output(output)
    paths = list_images(inputs)
    files = _file_names(extractor)
    statuses: list[ImageStatus] = []
    with _new_folder(output) as folder, ExitStack() as stack:
        arrays = {
            name: stack.enter_context(_NpyWriter(folder / file, (len(paths), *extractor.shapes[name])))
            for name, file in files.items()
        }
        advance = stack.enter_context(progress("features", len(paths), "images"))
        for batch in extractor.batches(paths):
            for name, array in batch.features.items():
                arrays[name].append(array)
            statuses.extend(batch.statuses)
            advance(len(batch.statuses))
        failed = sum(status.error is not None for status in statuses)
        _write_index(folder / _INDEX, statuses)
        run = _run_record(extractor, counts={"images": len(paths), "done": len(paths) - failed, "failed": failed})
        (folder / _RUN).write_text(json.dumps(run, indent=2) + "\n", encoding="utf-8")
    return Summary(len(paths) - failed, failed, output)


def check_output(output: Path) -> None:
    """Raises InputError if features cannot be written to ``output``: it is a file, or holds something."""
    if output.resolve() == Path.cwd():
        raise InputError("The output folder is the current one, which cannot be replaced: name another.")
    if output.exists() and not output.is_dir():
        raise InputError(f"The output {output} is a file: name a folder.")
    if output.is_dir() and any(output.iterdir()):
        raise InputError(f"The output folder {output} is not empty: name a new one, or empty it.")


def _file_names(extractor: FeatureExtractor) -> dict[str, str]:
    names = {name: point.alias.replace("/", ".") + ".npy" for name, point in extractor.end_points.items()}
    for name, file in names.items():
        if twins := [other for other in names if other != name and names[other] == file]:
            raise InputError(f"The end points {name} and {twins[0]} are the same: name it once.")
    return names


@contextmanager
def _new_folder(output: Path) -> Iterator[Path]:
    """``new_folder``, which says in our words that it cannot be made."""
    with ExitStack() as stack:
        try:
            folder = stack.enter_context(new_folder(output))
        except OSError as error:
            raise InputError(f"The output folder {output} cannot be made ({error}): name another.") from None
        yield folder


class _NpyWriter:
    """A float32 .npy file that is written a few rows at a time."""

    def __init__(self, path: Path, shape: Sequence[int]) -> None:
        self._path = path
        self._shape = tuple(shape)

    def __enter__(self) -> Self:
        self._stream = self._path.open("wb")
        header = {"descr": "<f4", "fortran_order": False, "shape": self._shape}
        np.lib.format.write_array_header_1_0(self._stream, header)
        return self

    def append(self, rows: np.ndarray) -> None:
        self._stream.write(np.ascontiguousarray(rows, "<f4").data)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stream.close()


def run(inputs: Sequence[str], *, output: str, **options: Any) -> int:
    """The command: extracts, reports, and returns the exit status; ``options`` are those of ``FeatureExtractor``."""
    # Before the network is built and restored, which takes seconds.
    check_output(Path(output))
    with FeatureExtractor(**options, freeze=freeze_for(len(list_images(inputs)))) as extractor:
        _file_names(extractor)  # refuses one end point under two names
        print(extractor.report, file=sys.stderr)
        print(f"{extractor.net}, preprocessing {extractor.preprocessing} at {extractor.image_size}", file=sys.stderr)
        summary = extract(inputs, output, extractor)
    print(f"{summary.done} images done, {summary.failed} failed: {summary.output}")
    return 1 if summary.failed else 0


def _write_index(path: Path, statuses: Sequence[ImageStatus]) -> None:
    with path.open("w", newline="", **_CSV_TEXT) as stream:
        writer = csv.writer(stream)
        writer.writerow(IndexRow._fields)
        for row, (file, width, height, error) in enumerate(statuses):
            writer.writerow((row, file, "failed" if error else "ok", error or "", width, height))


def _run_record(extractor: FeatureExtractor, counts: dict[str, int]) -> dict[str, Any]:
    versions = {name: importlib.metadata.version(name) for name in ("numpy", "pillow", "slimnets", "tf-slim")}
    # Under which of its names TensorFlow was installed, pip knows; the module knows its version.
    versions |= {"python": platform.python_version(), "tensorflow": sys.modules["tensorflow"].__version__}
    return {
        "checkpoint": {
            "path": str(extractor.reader.path.resolve()),
            "format": extractor.reader.format,
            "sha256": extractor.reader.sha256(),
            "scope": extractor.scope,
            "exclude": extractor.exclude,
            "ema": extractor.ema,
        },
        "net": extractor.net,
        "num_classes": extractor.num_classes,
        "end_points": {
            point.alias: {"name": point.name, "shape": extractor.shapes[name]}
            for name, point in extractor.end_points.items()
        },
        "preprocessing": extractor.preprocessing,
        "image_size": extractor.image_size,
        "pool": extractor.pool,
        "precision": extractor.precision,
        "batch_size": extractor.batch_size,
        "warnings": list(extractor.warnings),
        "versions": versions,
        "counts": counts,
    }


def load(folder: str | Path) -> Features:
    """Reads back what ``extract`` wrote.

    Raises:
      InputError: if the folder holds no features.
    """
    folder = Path(folder)
    if not (folder / _RUN).is_file():
        raise InputError(f"{folder} holds no features: it has no {_RUN}.")
    run = json.loads((folder / _RUN).read_text(encoding="utf-8"))
    arrays = {alias: np.load(folder / (alias.replace("/", ".") + ".npy"), mmap_mode="r") for alias in run["end_points"]}
    with (folder / _INDEX).open(newline="", **_CSV_TEXT) as stream:
        index = [
            IndexRow(
                int(row["row"]),
                row["path"],
                row["status"],
                row["error"],
                int(row["width"]) if row["width"] else None,
                int(row["height"]) if row["height"] else None,
            )
            for row in csv.DictReader(stream)
        ]
    return Features(arrays, index, run)
