"""Maps of many images by their features: a picture, a page, and files for TensorBoard's projector."""

import csv
import warnings
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from tools.errors import InputError
from tools.features.formats import utf8
from tools.images import Inputs
from tools.visualization.matrix import FeatureMatrix, open_matrix
from tools.visualization.output import Names, check_output, new_output
from tools.visualization.pages.map_page import MapPoint, colour_of, map_page
from tools.visualization.pictures import Thumbnails, data_uri, enlarged, one_line
from tools.visualization.projection import Probe, Projection, cluster_centres, nearest_centres, probe, project

__all__ = ["FeatureMap", "feature_map"]

_OURS = Names("index.html", r"map\.png|points\.csv|projector")

# Images on the page and in the projector, and the sides of their thumbnails and of those without loss: smaller ones for
# many images.
_SHOWN, _FEW, _SIDES, _LOSSLESS = 2000, 300, (96, 40), (48, 16)

# Side of an image on TensorBoard's sprite.
_SPRITE = 48

# Labels with a name of their own in the legend. The others are one group.
_GROUPS = 40

# Images that the centres of clusters are computed from.
_CLUSTERED = 20_000


class FeatureMap(NamedTuple):
    """A map of images.

    end_point: alias of the end point.
    projection: the rows and their points.
    names: name of the image of each point.
    groups: label or cluster of each point; '' for none.
    probe: how well the features tell the labels apart; None if it was not asked for.
    """

    end_point: str
    projection: Projection
    names: list[str]
    groups: list[str]
    probe: Probe | None


def feature_map(
    features: str | Path,
    output: str | Path | None = None,
    *,
    method: str = "pca",
    color: str | None = None,
    num_clusters: int = 10,
    end_point: str | None = None,
    sample: int | None = None,
    probe_labels: bool = False,
    seed: int = 0,
    images: Inputs | None = None,
    overwrite: bool = False,
) -> FeatureMap:
    """Draws a map on which images with similar features are close.

    Args:
      features: complete folder of features, in any format.
      output: folder for ``map.png`` (if matplotlib is installed), the page ``index.html``, ``points.csv`` and
        ``projector``, a folder for TensorBoard; None for none.
      method: 'pca', 'tsne' or 'umap', as for ``project``.
      color: 'label', 'cluster' (k-means of the features) or 'none'; None for labels, if the images have some.
      num_clusters: number of clusters.
      end_point: name or alias; None for the only one with a vector an image, or 'global_pool'.
      sample: number of images to choose at random; None for all. The page shows at most 2,000 of them, spread evenly.
      probe_labels: whether to measure how well the features tell the labels apart.
      seed: of all that is random.
      images: the images of the features, for the thumbnails; None if their names are paths of files.
      overwrite: whether an earlier map in the folder may be replaced.

    Raises:
      InputError: if the features are not complete or not vectors, there are no labels where they are required, the
        method is unknown, not installed or lacks memory, or the output cannot be written.
    """
    if output is not None:
        check_output(output, _OURS, overwrite=overwrite)
    if color not in (None, "label", "cluster", "none"):
        raise InputError(f"color must be label, cluster or none, and is {color!r}.")
    if num_clusters < 1:
        raise InputError(f"num_clusters must be at least 1, and is {num_clusters}.")
    matrix = open_matrix(features, end_point)
    projection = project(matrix, method, sample=sample, seed=seed)
    chosen = {*projection.rows.tolist()}
    entries = [entry for entry in matrix.index if entry.row in chosen]
    labels = [entry.label for entry in entries]
    if not any(labels) and (color == "label" or probe_labels):
        raise InputError(
            f"The images of {matrix.folder} have no labels: make features of a folder with a folder for each class, or "
            "colour by cluster."
        )
    measured = probe(matrix, labels, projection) if probe_labels else None
    if color == "cluster":
        groups = _clustered(matrix, projection, num_clusters, seed)
    else:
        groups = [""] * len(entries) if color == "none" else labels
    result = FeatureMap(matrix.end_point, projection, [entry.path for entry in entries], groups, measured)
    if output is not None:
        with new_output(output, _OURS, overwrite=overwrite) as folder:
            _write(folder, matrix, result, method, images)
    return result


def _clustered(matrix: FeatureMatrix, projection: Projection, count: int, seed: int) -> list[str]:
    """Returns the name of each row's cluster, "cluster 1" for the largest. Many rows share the centres of some."""
    rows = projection.rows
    some = rows[_evenly(len(rows), _CLUSTERED)]
    centres = cluster_centres(matrix.take(some), count, seed=seed)
    found = np.concatenate(
        [nearest_centres(matrix.take(rows[i : i + _CLUSTERED]), centres) for i in range(0, len(rows), _CLUSTERED)]
    )
    names = {number: f"cluster {rank}" for rank, (number, _) in enumerate(Counter(found.tolist()).most_common(), 1)}
    return [names[number] for number in found.tolist()]


def _evenly(count: int, most: int) -> np.ndarray:
    """Returns at most ``most`` places of ``count``, spread evenly from the first to the last."""
    return np.unique(np.linspace(0, count - 1, min(count, most)).astype(int))


def _write(folder: Path, matrix: FeatureMatrix, result: FeatureMap, method: str, images: Inputs | None) -> None:
    rows, points, explained = result.projection
    named = sorted({*result.groups} - {""}, key=_natural)
    most = [name for name, _ in Counter(name for name in result.groups if name).most_common(_GROUPS)]
    kept = [name for name in named if name in most]
    legend = [*kept, *(["others"] if len(named) > len(kept) else [])]
    numbers = {name: kept.index(name) if name in most else len(kept) for name in named}
    if named and "" in result.groups:
        numbers[""] = len(legend)
        legend.append("no label")
    with (folder / "points.csv").open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["row", "path", "group", "x", "y"])
        for row, name, group, (x, y) in zip(rows, result.names, result.groups, points, strict=True):
            writer.writerow([row, utf8(name), utf8(group), f"{x:.6g}", f"{y:.6g}"])
    title = f"{len(rows):,} images by {result.end_point}"
    notes = [_described(method, explained, result)]
    shown = _evenly(len(rows), _SHOWN)
    if len(shown) < len(rows):
        notes.append(f"The page shows {len(shown):,} of the {len(rows):,} images; map.png and points.csv have all.")
    many = len(shown) > _FEW
    thumbnails = Thumbnails(_SIDES[many], images, enlarge=False)
    pictures = [thumbnails[result.names[number]] for number in shown]
    if missing := sum(picture is None for picture in pictures):
        notes.append(f"{missing:,} of them have no thumbnail: the images were not found at their names.")
    drawn = [
        MapPoint(
            result.names[number],
            int(rows[number]),
            numbers.get(result.groups[number]),
            None if picture is None else data_uri(picture, photograph=True, lossless=_LOSSLESS[many]),
        )
        for number, picture in zip(shown, pictures, strict=True)
    ]
    (folder / "index.html").write_text(map_page(title, notes, drawn, points[shown], legend), encoding="utf-8")
    _write_projector(folder / "projector", matrix, result, shown, pictures)
    _draw(folder / "map.png", title, notes[0], points, [numbers.get(group) for group in result.groups], legend)


def _natural(name: str) -> tuple[str, int, str]:
    """Sorts numbers at the end of names by value: cluster 2 before cluster 10."""
    start = name.rstrip("0123456789")
    digits = name[len(start) :].lstrip("0")
    return start, len(digits), digits


def _described(method: str, explained: tuple[float, float] | None, result: FeatureMap) -> str:
    names = {"pca": "Principal components", "tsne": "t-SNE", "umap": "UMAP"}
    sentence = f"{names[method]} of the features."
    if explained is not None:
        sentence = f"The first two principal components, {100 * sum(explained):.0f} % of the features' variance."
    if result.probe is not None:
        found = result.probe
        sentence += (
            f" On {found.images:,} images, the nearest 5 others have the right label for {100 * found.k_nearest:.1f} "
            f"%, and a linear classifier is right for {100 * found.linear:.1f} %. The map's silhouette is "
            f"{found.silhouette:.3f}."
        )
    return sentence


def _write_projector(
    folder: Path,
    matrix: FeatureMatrix,
    result: FeatureMap,
    shown: np.ndarray,
    pictures: list[np.ndarray | None],
) -> None:
    """Writes the features themselves with names and thumbnails, for ``tensorboard --logdir``."""
    folder.mkdir()
    np.savetxt(folder / "vectors.tsv", matrix.take(result.projection.rows[shown]), fmt="%.6g", delimiter="\t")
    lines = ["image\tgroup"]
    lines += ["\t".join(one_line(text[number]) or "-" for text in (result.names, result.groups)) for number in shown]
    (folder / "metadata.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    columns = int(np.ceil(np.sqrt(len(shown))))
    sprite = Image.new("RGB", (columns * _SPRITE, columns * _SPRITE), (128, 128, 128))
    for number, picture in enumerate(pictures):
        if picture is not None:
            place = number % columns * _SPRITE, number // columns * _SPRITE
            sprite.paste(Image.fromarray(enlarged(picture, _SPRITE)), place)
    sprite.save(folder / "sprite.png")
    (folder / "projector_config.pbtxt").write_text(
        'embeddings {\n  tensor_name: "features"\n  tensor_path: "vectors.tsv"\n  metadata_path: "metadata.tsv"\n'
        f'  sprite {{\n    image_path: "sprite.png"\n    single_image_dim: {_SPRITE}\n    single_image_dim: {_SPRITE}\n'
        "  }\n}\n",
        encoding="utf-8",
    )


def _draw(path: Path, title: str, note: str, points: np.ndarray, groups: list[int | None], names: list[str]) -> None:
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ModuleNotFoundError:
        warnings.warn(f"{path.name} requires matplotlib: pip install 'slimnets[plot]'.", stacklevel=2)
        return
    figure = Figure(figsize=(10, 7), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    size = 30 if len(points) <= 500 else 8 if len(points) <= 5000 else 2
    of = np.array([-1 if group is None else group for group in groups])
    for group in sorted({*of.tolist()}):
        colour = colour_of(None if group < 0 else group)
        axes.scatter(*points[of == group].T, s=size, color=colour, label=str(group), linewidths=0, alpha=0.8)
    axes.set_aspect("equal", "datalim")
    axes.set(xticks=[], yticks=[])
    axes.set_title(title, loc="left", fontweight="bold")
    axes.set_xlabel(note, loc="left", fontsize=9, wrap=True)
    if names:
        legend = axes.legend(loc="center left", bbox_to_anchor=(1, 0.5), frameon=False, ncols=1 + len(names) // 25)
        # Names are set here, since matplotlib leaves out those that begin with "_", and may read them as formulas.
        for text in legend.get_texts():
            text.set(text=_short(names[int(text.get_text())]), parse_math=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of characters that its font lacks
        figure.savefig(path, dpi=120)


def _short(name: str, most: int = 30) -> str:
    """Returns a name with an ellipsis in its middle, if it is long."""
    name = one_line(name)
    return name if len(name) <= most else f"{name[: most // 2]}…{name[-(most // 2) + 1 :]}"
