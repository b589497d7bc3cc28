"""Finds the images that are most like others, by their features in a folder."""

import csv
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from checkpoints import CheckpointError
from nets import nets_factory
from tools.errors import InputError
from tools.features import FeatureExtractor
from tools.features.folder import read_record
from tools.features.formats import utf8
from tools.features.record import engine_of
from tools.images import Inputs, open_inputs
from tools.visualization.matrix import FeatureMatrix, finite, open_matrix
from tools.visualization.output import Names, check_output, new_output
from tools.visualization.pictures import Thumbnails, sheet
from tools.visualization.search import MANY_ROWS, METRICS, exact, open_index, with_index

__all__ = ["Neighbour", "Neighbours", "neighbours"]

_CSV, _SHEET = "neighbours.csv", "neighbours.png"
_OURS = Names(_CSV, re.escape(_SHEET))

# Numbers of queries and of their neighbours on the sheet.
_SHOWN, _ACROSS = 24, 20


class Neighbour(NamedTuple):
    """One neighbour of a query.

    row: its row among the features.
    path: name of its image.
    label: of its image; '' if it has none.
    value: its similarity to the query, the cosine, or its Euclidean distance.
    """

    row: int
    path: str
    label: str
    value: float


class Neighbours(NamedTuple):
    """The neighbours of queries.

    queries: name of each query's image.
    found: the neighbours of each query, the nearest first.
    metric: 'cosine' or 'euclidean'.
    end_point: alias of the end point.
    index: file of the index of faiss that proposed them; None if all rows were compared.
    """

    queries: list[str]
    found: list[list[Neighbour]]
    metric: str
    end_point: str
    index: Path | None


class _Queries(NamedTuple):
    """Queries: their names, vectors [N, channels], and the row of each among the features, if it is one of them."""

    names: list[str]
    vectors: np.ndarray
    rows: list[int | None]


def neighbours(
    features: str | Path,
    query: str | Path | int | Sequence[str | Path],
    *,
    top: int = 10,
    metric: str = "cosine",
    end_point: str | None = None,
    method: str | None = None,
    checkpoint: str | Path | None = None,
    images: Inputs | None = None,
    output: str | Path | None = None,
    overwrite: bool = False,
    advance: Callable[[int], None] = lambda count: None,
) -> Neighbours:
    """Finds the most similar images of a folder of features.

    Args:
      features: complete folder of features, in any format.
      query: a row of them; an image or several, whose features are computed by the checkpoint and with the
        preprocessing of ``run.json``; or another folder of features, each row of which is a query.
      top: number of neighbours.
      metric: 'cosine' or 'euclidean'.
      end_point: name or alias; None for the only one with a vector an image, or 'global_pool'.
      method: 'exact' compares all rows; 'faiss' asks an index that is saved beside the features. None: faiss from a
        million rows on, if it is installed.
      checkpoint: where the checkpoint is now; None for the path in ``run.json``.
      images: the images of the features, for the sheet; None if their names are paths of files.
      output: folder for ``neighbours.csv`` and ``neighbours.png``; None for none.
      overwrite: whether earlier results in it may be replaced.
      advance: called with the number of rows whenever some have been compared.

    Raises:
      CheckpointError: if the checkpoint cannot be read.
      ImageError: if an image of the query cannot be decoded.
      InputError: if the features are not complete, not vectors, or not of the query's checkpoint; for a row that does
        not exist or failed; or if the output cannot be written.
    """
    if output is not None:
        check_output(output, _OURS, overwrite=overwrite)
    if metric not in METRICS:
        raise InputError(f"metric must be one of {', '.join(METRICS)}, and is {metric!r}.")
    if method not in (None, "exact", "faiss"):
        raise InputError(f"method must be 'exact' or 'faiss', and is {method!r}.")
    if top < 1:
        raise InputError(f"top must be at least 1, and is {top}.")
    matrix = open_matrix(features, end_point)
    queries = _queries(matrix, query, checkpoint)
    index_file = None
    if method == "faiss" or (method is None and len(matrix.rows) >= MANY_ROWS and _has_faiss()):
        index = open_index(matrix, metric, advance)
        index_file = index.path
        rows, distances = with_index(index, matrix, queries.vectors, top, metric, leave_out=queries.rows)
    else:
        rows, distances = exact(matrix, queries.vectors, top, metric, leave_out=queries.rows, advance=advance)
    values = distances if metric == "euclidean" else 1 - distances
    entries = {row: matrix.index[row] for row in np.unique(rows[rows >= 0]).tolist()}
    found = [
        [
            Neighbour(row, entries[row].path, entries[row].label, float(value))
            for row, value in zip(of.tolist(), near, strict=True)
            if row >= 0
        ]
        for of, near in zip(rows, values, strict=True)
    ]
    result = Neighbours(queries.names, found, metric, matrix.end_point, index_file)
    if output is not None:
        with new_output(output, _OURS, overwrite=overwrite) as folder:
            _write_csv(folder / _CSV, result)
            _sheet(result, images).save(folder / _SHEET)
    return result


def _has_faiss() -> bool:
    import importlib.util

    return importlib.util.find_spec("faiss") is not None


def _queries(matrix: FeatureMatrix, query: Any, checkpoint: str | Path | None) -> _Queries:
    if isinstance(query, int | np.integer) and not isinstance(query, bool):
        return _row(matrix, int(query))
    paths = [query] if isinstance(query, str | Path) else query
    if not isinstance(paths, list | tuple) or not all(isinstance(path, str | Path) for path in paths):
        raise InputError(
            f"query must be an image, a list of images, the number of a row, or a folder of features, and is {query!r}."
        )
    if isinstance(query, str | Path):
        if read_record(Path(query)) is not None:
            return _other_features(matrix, Path(query))
        if re.fullmatch(r"-?\d+", str(query)) and not Path(query).exists():
            return _row(matrix, int(query))
    return _images(matrix, open_inputs(paths), checkpoint)


def _row(matrix: FeatureMatrix, row: int) -> _Queries:
    count = len(matrix.rows)
    if not 0 <= row < count:
        raise InputError(f"{matrix.folder} has no row {row}: it has {count:,}, numbered from 0.")
    entry = matrix.index[row]
    vector = matrix.take([row])
    if not finite(vector)[0]:
        reason = entry.error or "its features are not finite"
        raise InputError(f"Row {row} of {matrix.folder}, {entry.path}, has no features ({reason}): name another.")
    return _Queries([entry.path], vector, [row])


def _other_features(matrix: FeatureMatrix, folder: Path) -> _Queries:
    other = open_matrix(folder, matrix.end_point)
    for name, was, is_now in _differences(matrix.run, other.run):
        raise InputError(
            f"{folder} and {matrix.folder} cannot be compared: {name} is {is_now} and {was}. Make both with the same "
            "checkpoint and settings."
        )
    vectors = other.take(range(len(other.rows)))
    rows = np.flatnonzero(finite(vectors)).tolist()
    if not rows:
        raise InputError(f"{folder} has no image whose features are finite: nothing can be compared.")
    same = folder.resolve() == matrix.folder.resolve()
    names = [entry.path for entry in other.index]
    return _Queries([names[row] for row in rows], vectors[rows], rows if same else [None] * len(rows))


def _differences(one: dict[str, Any], other: dict[str, Any]) -> Iterator[tuple[str, Any, Any]]:
    """Yields what makes the features of two runs another function of the image: its name and both values."""
    for record in (one, other):
        record["checkpoint"].setdefault("scope", None)
    pairs = {"the checkpoint": [_fingerprint(run["checkpoint"]["sha256"]) for run in (one, other)]}
    for name in ("scope", "ema"):
        pairs[f"the checkpoint's {name}"] = [run["checkpoint"][name] for run in (one, other)]
    for name in ("net", "preprocessing", "image_size", "pool"):
        pairs[name] = [run.get(name) for run in (one, other)]
    for name, (was, is_now) in pairs.items():
        if was != is_now:
            yield name, was, is_now


def _fingerprint(sha256: dict[str, str]) -> str:
    return f"SHA-256 {' '.join(value[:12] for value in sorted(sha256.values()))}"


def _images(matrix: FeatureMatrix, inputs: Inputs, checkpoint: str | Path | None) -> _Queries:
    run = matrix.run
    stored = run["checkpoint"]
    if ":" not in run["net"] and run["net"] not in nets_factory.networks_map:
        raise InputError(
            f"The network of {matrix.folder} was built by a function, {run['net']}, which run.json cannot bring back: "
            "query by a row or by other features, or make the features with net='module:function'."
        )
    engine, model = engine_of(run)
    try:
        extractor = FeatureExtractor(
            checkpoint or stored["path"],
            [matrix.end_point],
            net=run["net"],
            num_classes=run["num_classes"],
            image_size=run["image_size"],
            preprocessing=run["preprocessing"],
            precision=run["precision"],
            scope=stored["scope"],
            exclude=stored["exclude"],
            ema=stored["ema"],
            pool=run["pool"],
            freeze=False if run["precision"] == "float32" else None,
            engine=engine,
        )
    except CheckpointError as error:
        if checkpoint is None and error.kind == "missing":
            raise InputError(
                f"The checkpoint of {matrix.folder} is not at {stored['path']} any more: say where it is by "
                "checkpoint='PATH'."
            ) from None
        raise
    with extractor:
        sha256 = extractor.reader.sha256()
        if sorted(sha256.values()) != sorted(stored["sha256"].values()):
            raise InputError(
                f"{matrix.folder} holds features of another checkpoint ({_fingerprint(stored['sha256'])}) than "
                f"{extractor.reader.path} ({_fingerprint(sha256)}): give that one, or make the features again."
            )
        extractor.prepare(inputs, before=(engine, model))
        vectors = extractor(inputs)[matrix.end_point].astype(np.float64)
    names = [inputs.name(number) for number in range(len(inputs))]
    if not finite(vectors).all():
        name = names[int(np.flatnonzero(~finite(vectors))[0])]
        raise InputError(
            f"The features of {name} are not finite: check the checkpoint with `slimnets inspect --check`."
        )
    return _Queries(names, vectors, [None] * len(names))


def _write_csv(path: Path, result: Neighbours) -> None:
    value = "similarity" if result.metric == "cosine" else "distance"
    with path.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["query", "rank", "row", "path", "label", value])
        for query, found in zip(result.queries, result.found, strict=True):
            for rank, one in enumerate(found, start=1):
                writer.writerow([utf8(query), rank, one.row, utf8(one.path), utf8(one.label), f"{one.value:.9g}"])


def _sheet(result: Neighbours, images: Inputs | None) -> Any:
    thumbnails = Thumbnails(112, images)
    rows = []
    for query, found in list(zip(result.queries, result.found, strict=True))[:_SHOWN]:
        tiles = [(thumbnails[query], query, True)]
        tiles += [(thumbnails[one.path], f"{one.value:.3f} {one.label}", False) for one in found[:_ACROSS]]
        rows.append(tiles)
    return sheet(rows)
