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

# Queries that are compared with a block at a time, at most, and bytes of their distances; candidates whose distances
# are computed once more.
_QUERIES, _DISTANCES, _MORE = 1024, 2**28, 8

# Rows that an index computes its clusters from, for each cluster; the share of the clusters that is searched, and their
# least number. Clusters grow with the square root of the rows, as faiss' guidelines advise.
_TRAINING, _SEARCHED, _LEAST_SEARCHED = 64, 1 / 12, 32

# Rows that tell where the rows of an index are and how far apart, and the largest number in it.
_SCALING, _FAR = 1000, 1e9

# Candidates of an index, as a multiple of the neighbours: their distances are computed exactly.
_CANDIDATES = 8


class Found(NamedTuple):
    """The nearest rows of queries, the nearest first.

    rows: int64 [queries, top], or as many as there are; -1 where there are fewer.
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
    kept = min(top, len(matrix.rows)) + _MORE
    left_out = _left_out(leave_out, len(queries))
    best = Found(np.full([len(queries), kept], -1), np.full([len(queries), kept], np.inf))
    origin = None
    for start, block in matrix.blocks():
        valid = np.flatnonzero(finite(block))
        if len(valid):
            rows = _prepared(block[valid], metric)
            # Squares of rows far from 0 would lose the digits that tell close ones apart.
            origin = rows.mean(axis=0) if origin is None else origin
            rows = rows - origin
            squares = np.sum(rows**2, axis=1)
            step = max(1, min(_QUERIES, _DISTANCES // (8 * len(rows))))
            for first in range(0, len(queries), step):
                part = slice(first, first + step)
                # The square of the distance but for that of the query, which changes no order.
                near = squares - 2 * (queries[part] - origin) @ rows.T
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
    top = min(top, len(matrix.rows))
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


class Index(NamedTuple):
    """An index of faiss of rows of a matrix, as ``scaled`` returns them.

    faiss: the index.
    origin, scale: of ``scaled``.
    path: its file beside the features.
    """

    faiss: Any
    origin: np.ndarray
    scale: float
    path: Path

    def scaled(self, rows: np.ndarray) -> np.ndarray:
        """Returns prepared rows as the index has them: near 0 and of about length 1, as float32 has most digits there.

        The order of distances stays. Larger values would overflow in the squares of float32, and smaller ones vanish.
        """
        return np.clip((rows - self.origin) / self.scale, -_FAR, _FAR).astype(np.float32)


def open_index(matrix: FeatureMatrix, metric: str, advance: Callable[[int], None] = lambda count: None) -> Index:
    """Returns an index of the rows, and its file beside the features. A file made of the same features is read.

    The index keeps a byte for each number (``IVF, SQ8``). Its rows are added block by block.

    Raises:
      InputError: if faiss is not installed, or the file cannot be written.
    """
    faiss = _faiss()
    path = matrix.folder / f"search-{matrix.end_point.replace('/', '.')}-{metric}.faiss"
    note = path.with_suffix(".faiss.json")
    count, channels = matrix.rows.shape
    some = _spread(matrix, metric, _SCALING)
    origin = some.mean(axis=0) if len(some) else np.zeros(channels)
    scale = np.linalg.norm(some - origin, axis=1).max(initial=0.0) or 1.0
    index = Index(None, origin, scale, path)
    state = {"features": matrix.fingerprint, "shape": [count, channels], "faiss": faiss.__version__}
    state["scale"] = f"{scale:.6g}"
    with contextlib.suppress(OSError, ValueError, RuntimeError):
        if json.loads(note.read_text(encoding="utf-8")) == state:
            read = faiss.read_index(str(path))
            if read.d == channels and read.ntotal <= count:  # else it is another's
                return index._replace(faiss=read)
    sample = index.scaled(_spread(matrix, metric, _TRAINING * _clusters(count)))
    index = index._replace(faiss=_new_index(faiss, count, channels, sample))
    for start, block in matrix.blocks():
        valid = np.flatnonzero(finite(block))
        if len(valid):
            index.faiss.add_with_ids(index.scaled(_prepared(block[valid], metric)), start + valid)
        advance(len(block))
    try:
        with tempfile.TemporaryDirectory(prefix=".search-", suffix=".incomplete", dir=matrix.folder) as folder:
            faiss.write_index(index.faiss, str(Path(folder, path.name)))
            note.unlink(missing_ok=True)
            Path(folder, path.name).replace(path)
        write_whole(note, json.dumps(state))
    except (OSError, RuntimeError) as error:
        # faiss tells the cause in brackets at the end, after names of its own functions and files.
        said = getattr(error, "strerror", None) or " ".join(str(error).split()).rpartition("(")[2].rstrip(").")
        raise InputError(f"The index {path} cannot be written ({said}): make room, or search exactly.") from None
    return index


def _faiss() -> Any:
    try:
        import faiss
    except ModuleNotFoundError:
        raise InputError("An index requires faiss: pip install 'slimnets[search]', or search exactly.") from None
    return faiss


def _new_index(faiss: Any, count: int, channels: int, sample: np.ndarray) -> Any:
    """Returns an index without rows, whose clusters are those of a sample of the ``count`` rows."""
    index = faiss.index_factory(channels, f"IVF{max(1, min(_clusters(count), len(sample)))},SQ8")
    index.cp.min_points_per_centroid = 1  # does not warn that the sample is small
    index.train(sample)
    index.nprobe = min(index.nlist, max(_LEAST_SEARCHED, round(index.nlist * _SEARCHED)))
    return index


def _clusters(count: int) -> int:
    return max(1, min(round(2 * count**0.5), count // _TRAINING))


def _spread(matrix: FeatureMatrix, metric: str, most: int) -> np.ndarray:
    """Returns the finite ones of at most ``most`` rows that are spread evenly, prepared."""
    count = len(matrix.rows)
    some = matrix.take(np.unique(np.linspace(0, count - 1, min(count, most)).astype(np.int64)))
    return _prepared(some[finite(some)], metric)


def with_index(
    index: Index,
    matrix: FeatureMatrix,
    queries: np.ndarray,
    top: int,
    metric: str = "cosine",
    *,
    leave_out: Sequence[int | None] | None = None,
) -> Found:
    """Returns the nearest rows among those that an index proposes, with their exact distances; see ``exact``."""
    queries = _prepared(np.asarray(queries, np.float64), metric)
    _, candidates = index.faiss.search(index.scaled(queries), _CANDIDATES * min(top, len(matrix.rows)) + 1)
    candidates[candidates == _left_out(leave_out, len(queries))[:, np.newaxis]] = -1
    return _by_distance(matrix, queries, candidates, top, metric)
