"""Projects feature vectors to the plane, groups them, and measures how well they tell labels apart."""

import warnings
from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from tools.errors import InputError
from tools.runtime.machine import available_memory
from tools.visualization.matrix import FeatureMatrix, finite
from tools.visualization.search import exact

__all__ = ["METHODS", "Probe", "Projection", "cluster_centres", "nearest_centres", "probe", "project"]

METHODS = ("pca", "tsne", "umap")

# Principal components that t-SNE and UMAP start from, as L. van der Maaten and G. Hinton do (Visualizing Data using
# t-SNE, JMLR 2008), and the memory that the two take for each row, measured generously.
_COMPONENTS = 50
_BYTES = {"tsne": 12_000, "umap": 16_000}

# Rows of a probe, neighbours that vote, and parts of the cross-validation.
_PROBED, _VOTERS, _FOLDS = 5_000, 5, 5

# Rounds of k-means, and images of a map at least.
_ROUNDS, _LEAST = 50, 3


class Projection(NamedTuple):
    """Vectors in the plane.

    rows: int64 [N], rows of the features. Rows of NaN are left out.
    points: float64 [N, 2].
    explained: shares of the variance along both axes, for PCA; None for the other methods.
    """

    rows: np.ndarray
    points: np.ndarray
    explained: tuple[float, float] | None


class Probe(NamedTuple):
    """Measures of how well vectors tell labels apart, in [0, 1] but for the silhouette, which is in [-1, 1].

    images: number of vectors that they were measured on.
    k_nearest: share of the vectors whose 5 nearest others (Euclidean) have the same label by majority.
    linear: accuracy of logistic regression on standardized vectors, by 5-fold cross-validation.
    silhouette: of the labels on the map.
    """

    images: int
    k_nearest: float
    linear: float
    silhouette: float


def project(matrix: FeatureMatrix, method: str = "pca", *, sample: int | None = None, seed: int = 0) -> Projection:
    """Projects the rows of a matrix to the plane.

    Args:
      matrix: the rows. Those that are not finite are left out.
      method: 'pca', which reads the rows in blocks; 'tsne' (scikit-learn) or 'umap' (umap-learn), which start from 50
        principal components in memory.
      sample: number of rows to choose at random; None for all.
      seed: of the sample, t-SNE and UMAP.

    Raises:
      InputError: for an unknown method, one that is not installed, fewer than 3 rows, or more rows than the method has
        memory for.
    """
    if method not in METHODS:
        raise InputError(f"method must be one of {', '.join(METHODS)}, and is {method!r}.")
    count = len(matrix.rows)
    if sample is not None and sample < _LEAST:
        raise InputError(f"sample must be at least {_LEAST}, and is {sample}.")
    if not 0 <= seed < 2**32:
        raise InputError(f"seed must be a number from 0 to {2**32 - 1}, and is {seed}.")
    chosen = np.arange(count)
    if sample is not None and sample < count:
        chosen = np.sort(np.random.default_rng(seed).choice(count, sample, replace=False))
    _check_memory(method, len(chosen))
    _reducer(method, len(chosen), seed)  # raises what can be known before the rows are read
    kept = np.zeros(count, bool)
    kept[chosen] = True
    rows, points, explained = _principal(matrix, kept, 2 if method == "pca" else _COMPONENTS)
    if method == "pca":
        return Projection(rows, points, (float(explained[0]), float(explained[1])))
    # Both methods compare distances with each other, and compute in float32.
    size = points[:, 0].std()
    if size == 0:  # all rows are equal, which makes scikit-learn crash
        return Projection(rows, np.zeros([len(rows), 2]), None)
    points, reducer = points / size, _reducer(method, len(rows), seed)
    with warnings.catch_warnings():
        # umap-learn says that with a seed it uses one thread, and scikit-learn that it has other defaults than others.
        warnings.simplefilter("ignore")
        points = reducer.fit_transform(points.astype(np.float32))
    return Projection(rows, np.asarray(points, np.float64), None)


def _check_memory(method: str, count: int) -> None:
    free = available_memory()
    needed = _BYTES.get(method, 0) * count
    if free is not None and needed > free:
        fitting = max(_LEAST, int(free // _BYTES[method] // 2))
        raise InputError(
            f"{method} of {count:,} rows takes some {needed / 1e9:.1f} GB, and {free / 1e9:.1f} GB are free: take a "
            f"sample, such as sample={fitting}, or method='pca', which reads the rows in blocks."
        )


def _reducer(method: str, count: int, seed: int) -> Any:
    """Returns an object that reduces components to two; None for PCA."""
    try:
        if method == "tsne":
            from sklearn.manifold import TSNE

            return TSNE(perplexity=min(30.0, (count - 1) / 3), init="pca", random_state=seed)
        if method == "umap":
            from umap import UMAP

            # Its usual start requires more rows than axes.
            init = "spectral" if count > _LEAST else "random"
            return UMAP(n_neighbors=min(15, count - 1), init=init, random_state=seed, n_jobs=1)
    except ModuleNotFoundError:
        package = {"tsne": "scikit-learn", "umap": "umap-learn"}[method]
        raise InputError(f"{method} requires {package}: pip install 'slimnets[map]', or use method='pca'.") from None
    return None


def _principal(matrix: FeatureMatrix, kept: np.ndarray, components: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns the finite rows that are kept, their principal components [N, components], and the variances' shares."""
    channels = matrix.rows.shape[1]
    rows, total, squares = [], np.zeros(channels), np.zeros([channels, channels])
    origin = None
    for start, block in matrix.blocks():
        valid = np.flatnonzero(kept[start : start + len(block)] & finite(block))
        rows.append(start + valid)
        if not len(valid):
            continue
        # Sums of squares far from 0 would lose digits.
        origin = block[valid].mean(axis=0) if origin is None else origin
        values = block[valid] - origin
        total += values.sum(axis=0)
        squares += values.T @ values
    rows = np.concatenate(rows)
    if len(rows) < _LEAST:
        whose, more = f"{matrix.folder} has", "make features of more images"
        if not kept.all():
            whose, more = f"the sample of {matrix.folder} has", "take a larger sample"
        raise InputError(f"A map needs at least {_LEAST} images with finite features, and {whose} {len(rows)}: {more}.")
    mean = total / len(rows)
    variances, axes = np.linalg.eigh(squares / len(rows) - np.outer(mean, mean))
    components = min(components, channels)
    axes, variances = axes[:, ::-1][:, :components], np.maximum(variances[::-1], 0)
    # An axis and its opposite are as good: the largest entry is positive.
    axes = axes * np.sign(axes[np.abs(axes).argmax(axis=0), np.arange(components)])
    points = [
        (block[np.flatnonzero(kept[start : start + len(block)] & finite(block))] - origin - mean) @ axes
        for start, block in matrix.blocks()
    ]
    points = np.concatenate(points)
    if components < 2:
        points = np.pad(points, [(0, 0), (0, 2 - components)])
    shares = np.pad(variances, (0, 2)) / (variances.sum() or 1)
    return rows, points, shares


def cluster_centres(vectors: np.ndarray, count: int, *, seed: int = 0) -> np.ndarray:
    """Returns the centres of clusters by k-means, [count, channels]; fewer if there are not so many vectors.

    The first centres are drawn as in k-means++ (D. Arthur and S. Vassilvitskii, SODA 2007).
    """
    rng = np.random.default_rng(seed)
    centres = vectors[[rng.integers(len(vectors))]]
    while len(centres) < min(count, len(vectors)):
        near = _squares(vectors, centres).min(axis=1)
        total = near.sum()
        if total <= 0:  # fewer different vectors than clusters
            break
        centres = np.concatenate([centres, vectors[[rng.choice(len(vectors), p=near / total)]]])
    found = np.full(len(vectors), -1)
    for _ in range(_ROUNDS):
        before, found = found, nearest_centres(vectors, centres)
        if np.array_equal(before, found):
            break
        for cluster in np.unique(found):
            centres[cluster] = vectors[found == cluster].mean(axis=0)
    return centres


def nearest_centres(vectors: np.ndarray, centres: np.ndarray) -> np.ndarray:
    """Returns the number of the nearest centre of each vector, [N]."""
    return _squares(vectors, centres).argmin(axis=1)


def _squares(vectors: np.ndarray, centres: np.ndarray) -> np.ndarray:
    """Returns the squared distances [N, centres]."""
    squares = np.sum(vectors**2, axis=1)[:, np.newaxis] - 2 * vectors @ centres.T + np.sum(centres**2, axis=1)
    return np.maximum(squares, 0)


def probe(matrix: FeatureMatrix, labels: Sequence[str], projection: Projection) -> Probe:
    """Measures how well the vectors of a projection tell their labels apart, on at most 5,000 that are spread evenly.

    Args:
      matrix: the features.
      labels: the label of each row of the projection; '' for none, which are left out.
      projection: of the features.

    Raises:
      InputError: if scikit-learn is not installed, or there are not two labels with 5 images each.
    """
    try:
        from sklearn.linear_model import LogisticRegression
        from sklearn.metrics import silhouette_score
        from sklearn.model_selection import StratifiedKFold, cross_val_score
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler
    except ModuleNotFoundError:
        raise InputError("A probe requires scikit-learn: pip install 'slimnets[map]'.") from None
    names = np.array(labels, object)
    counts = Counter(name for name in names if name)
    usable = np.flatnonzero([counts[name] >= _FOLDS for name in names])
    if len({*names[usable]}) < 2:
        raise InputError(f"A probe requires at least 2 labels with {_FOLDS} images each: {_listed(counts)}.")
    usable = usable[np.unique(np.linspace(0, len(usable) - 1, min(len(usable), _PROBED)).astype(int))]
    vectors, known = matrix.take(projection.rows[usable]), names[usable].astype(str)
    among = matrix._replace(rows=vectors)
    found = exact(among, vectors, _VOTERS, "euclidean", leave_out=range(len(vectors))).rows
    voted = [_majority(known[rows[rows >= 0]]) for rows in found]
    linear = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000))
    parts = StratifiedKFold(_FOLDS, shuffle=True, random_state=0)
    return Probe(
        images=len(usable),
        k_nearest=float(np.mean(known == np.array(voted))),
        linear=float(cross_val_score(linear, vectors, known, cv=parts).mean()),
        silhouette=float(silhouette_score(projection.points[usable], known)),
    )


def _majority(votes: np.ndarray) -> str:
    """Returns the most frequent label; of several, the first in order."""
    names, numbers = np.unique(votes, return_counts=True)
    return str(names[numbers.argmax()])


def _listed(counts: Counter[str]) -> str:
    return ", ".join(f"{name} has {count}" for name, count in counts.most_common(5)) or "no image has a label"
