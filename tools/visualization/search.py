"""Finds the nearest rows of a feature matrix: exactly, block by block, or by an index of faiss."""

import contextlib
import json
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from checkpoints.files.atomic import write_whole
from tools.errors import InputError
from tools.visualization.matrix import FeatureMatrix, finite

__all__ = ["MANY_ROWS", "METRICS", "Found", "exact", "open_index", "with_index"]

METRICS = ("cosine", "euclidean")

# Number of rows from which an index is made, if faiss is installed.
MANY_ROWS = 1_000_000

# Queries that are compared with a block at a time, and candidates whose distances are computed once more.
_QUERIES, _MORE = 1024, 8

# Rows that an index computes its clusters from, for each cluster; the share of the clusters that is searched, and their
# least number. Clusters grow with the square root of the rows, as faiss' guidelines advise.
_TRAINING, _SEARCHED, _LEAST_SEARCHED = 64, 1 / 12, 32

# Candidates of an index, as a multiple of the neighbours: their distances are computed exactly.
_CANDIDATES = 8


class Found(NamedTuple):
    """The nearest rows of queries, the nearest first.

    rows: int64 [queries, top]; -1 where there are not so many.
    distances: float64 [queries, top]: Euclidean distances, or 1 - cosine; infinite where there is no row.
    """

    rows: np.ndarray
    distances: np.ndarray


def exact(
    matrix: FeatureMatrix,
    queries: np.ndarray,
    top: int,
    metric: str = "cosine",
    *,
    leave_out: Sequence[int | None] | None = None,
    advance: Callable[[int], None] = lambda count: None,
) -> Found:
    """Returns the nearest rows, found by comparing each query with every row in float64. Rows of NaN are left out.

    Args:
      matrix: the rows.
      queries: [queries, channels].
      top: number of neighbours.
      metric: 'cosine' or 'euclidean'.
      leave_out: for each query a row that is not a neighbour, because it is the query; None for none.
      advance: called with the number of rows whenever some have been compared.
    """
    queries = _prepared(np.asarray(queries, np.float64), metric)
    kept = top + _MORE
    left_out = _left_out(leave_out, len(queries))
    best = Found(np.full([len(queries), kept], -1), np.full([len(queries), kept], np.inf))
    for start, block in matrix.blocks():
        valid = np.flatnonzero(finite(block))
        if not len(valid):
            continue
        rows = _prepared(block[valid], metric)
        squares = np.sum(rows**2, axis=1)
        for first in range(0, len(queries), _QUERIES):
            part = slice(first, first + _QUERIES)
            # The square of the distance but for that of the query, which changes no order.
            near = squares - 2 * queries[part] @ rows.T
            _mask(near, start + valid, left_out[part])
            _merge(best, part, start + valid, near)
        advance(len(block))
    return _by_distance(matrix, queries, best.rows, top, metric)


def _left_out(leave_out: Sequence[int | None] | None, count: int) -> np.ndarray:
    """Returns the row that is left out for each query, [queries]; -1 for none."""
    return np.array([-1 if row is None else row for row in leave_out or [None] * count], np.int64)


def _prepared(rows: np.ndarray, metric: str) -> np.ndarray:
    """Returns rows whose Euclidean distances have the order of the metric."""
    if metric not in METRICS:
        raise InputError(f"metric must be one of {', '.join(METRICS)}, and is {metric!r}.")
    if metric == "euclidean":
        return rows
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    return rows / np.where(lengths > 0, lengths, 1)


def _mask(near: np.ndarray, rows: np.ndarray, left_out: np.ndarray) -> None:
    """Removes from the distances of each query those of the row that is left out; the rows are sorted."""
    places = np.searchsorted(rows, left_out)
    there = np.flatnonzero((places < len(rows)) & (rows[np.minimum(places, len(rows) - 1)] == left_out))
    near[there, places[there]] = np.inf


def _merge(best: Found, part: slice, rows: np.ndarray, near: np.ndarray) -> None:
    """Puts the nearest rows of a block among the best ones so far, in place."""
    kept = best.rows.shape[1]
    if len(rows) > kept:
        chosen = np.argpartition(near, kept - 1, axis=1)[:, :kept]
        near, rows = np.take_along_axis(near, chosen, axis=1), rows[chosen]
    else:
        rows = np.broadcast_to(rows, near.shape)
    all_rows = np.concatenate([best.rows[part], rows], axis=1)
    all_near = np.concatenate([best.distances[part], near], axis=1)
    order = np.lexsort((all_rows, all_near), axis=1)[:, :kept]
    best.rows[part] = np.take_along_axis(all_rows, order, axis=1)
    best.distances[part] = np.take_along_axis(all_near, order, axis=1)
    best.rows[part][~np.isfinite(best.distances[part])] = -1


def _by_distance(matrix: FeatureMatrix, queries: np.ndarray, candidates: np.ndarray, top: int, metric: str) -> Found:
    """Returns the nearest candidates by distances that do not suffer from cancellation. Equal ones stay in order."""
    found = Found(np.full([len(queries), top], -1), np.full([len(queries), top], np.inf))
    for query, rows in enumerate(candidates):
        rows = np.sort(rows[rows >= 0])
        distances = np.linalg.norm(_prepared(matrix.take(rows), metric) - queries[query], axis=1)
        if metric == "cosine":
            distances = distances**2 / 2  # of vectors of length 1, that is 1 - cosine
        order = np.argsort(distances, kind="stable")[:top]
        found.rows[query, : len(order)], found.distances[query, : len(order)] = rows[order], distances[order]
    return found


# An index of faiss.


def open_index(
    matrix: FeatureMatrix, metric: str, advance: Callable[[int], None] = lambda count: None
) -> tuple[Any, Path]:
    """Returns an index of the rows, and its file beside the features. A file made of the same features is read.

    The index keeps a byte for each number (``IVF, SQ8``). Its rows are added block by block.

    Raises:
      InputError: if faiss is not installed, or the file cannot be written.
    """
    faiss = _faiss()
    _prepared(np.empty([0, 1]), metric)
    path = matrix.folder / f"search-{matrix.end_point.replace('/', '.')}-{metric}.faiss"
    note = path.with_suffix(".faiss.json")
    state = {"features": matrix.fingerprint, "shape": list(matrix.rows.shape), "faiss": faiss.__version__}
    with contextlib.suppress(OSError, ValueError, RuntimeError):
        if json.loads(note.read_text(encoding="utf-8")) == state:
            return faiss.read_index(str(path)), path
    index = _new_index(faiss, matrix, metric)
    for start, block in matrix.blocks():
        valid = np.flatnonzero(finite(block))
        index.add_with_ids(_prepared(block[valid], metric).astype(np.float32), start + valid)
        advance(len(block))
    try:
        with tempfile.TemporaryDirectory(prefix=".search-", suffix=".incomplete", dir=matrix.folder) as folder:
            faiss.write_index(index, str(Path(folder, path.name)))
            note.unlink(missing_ok=True)
            Path(folder, path.name).replace(path)
        write_whole(note, json.dumps(state))
    except (OSError, RuntimeError) as error:
        said = " ".join(str(error).split())
        raise InputError(f"The index {path} cannot be written ({said}): make room, or search exactly.") from None
    return index, path


def _faiss() -> Any:
    try:
        import faiss
    except ModuleNotFoundError:
        raise InputError("An index requires faiss: pip install 'slimnets[search]', or search exactly.") from None
    return faiss


def _new_index(faiss: Any, matrix: FeatureMatrix, metric: str) -> Any:
    """Returns an index without rows, whose clusters are computed from rows that are spread evenly."""
    count, channels = matrix.rows.shape
    clusters = max(1, min(round(2 * count**0.5), count // _TRAINING))
    sample = matrix.take(np.unique(np.linspace(0, count - 1, min(count, _TRAINING * clusters)).astype(np.int64)))
    sample = _prepared(sample[finite(sample)], metric).astype(np.float32)
    index = faiss.index_factory(channels, f"IVF{min(clusters, max(1, len(sample)))},SQ8")
    index.cp.min_points_per_centroid = 1  # does not warn that the sample is small
    index.train(sample)
    index.nprobe = min(index.nlist, max(_LEAST_SEARCHED, round(index.nlist * _SEARCHED)))
    return index


def with_index(
    index: Any,
    matrix: FeatureMatrix,
    queries: np.ndarray,
    top: int,
    metric: str = "cosine",
    *,
    leave_out: Sequence[int | None] | None = None,
) -> Found:
    """Returns the nearest rows among those that an index proposes, with their exact distances; see ``exact``."""
    queries = _prepared(np.asarray(queries, np.float64), metric)
    _, candidates = index.search(queries.astype(np.float32), _CANDIDATES * top + 1)
    candidates[candidates == _left_out(leave_out, len(queries))[:, np.newaxis]] = -1
    return _by_distance(matrix, queries, candidates, top, metric)
