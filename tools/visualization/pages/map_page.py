"""The page of a map: a point for each image, with its thumbnail on hover, a legend, and a table of all images."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from tools.visualization.pages import page, text
from tools.visualization.pictures import as_text

__all__ = ["COLOURS", "DARK", "MapPoint", "colour_of", "map_page"]

# Colours of groups after P. Tol's and M. Okabe and K. Ito's, which people with any colour vision tell apart. On light
# paper they are darker, and on dark paper lighter, for a contrast of at least 3 to 1.
COLOURS = (
    *("#0072b2", "#b37700", "#008a63", "#c55a93", "#d55e00", "#2a8fcb", "#857a00", "#8659b5", "#84503f"),
    *("#6f6f6f", "#332288", "#117733", "#882255", "#2b8577", "#aa4499", "#4c78b8"),
)
DARK = (
    *("#3f9fdc", "#e69f00", "#1fb98c", "#dd8fb9", "#f0803c", "#8fd0f5", "#d3c53a", "#b79be0", "#c08a7c"),
    *("#a8a8a8", "#8f85e8", "#4fb56e", "#d46b9c", "#74d4c4", "#d285ca", "#9fc3f0"),
)

_WIDTH, _HEIGHT, _MARGIN = 1000.0, 680.0, 24.0


class MapPoint(NamedTuple):
    """One image on a map.

    name: of the image.
    row: its row among the features.
    group: number of its label or cluster; None for none.
    picture: address of its thumbnail; None if it is not found.
    """

    name: str
    row: int
    group: int | None
    picture: str | None


def colour_of(group: int | None) -> str:
    """Returns the colour of a group on light paper; groups beyond the number of colours share them."""
    return COLOURS[(group or 0) % len(COLOURS)]


def _class_of(group: int | None) -> str:
    return f"group-{(group or 0) % len(COLOURS)}"


def _style() -> str:
    light, dark = (
        "".join(f".group-{number}{{fill:{colour}}}" for number, colour in enumerate(colours))
        for colours in (COLOURS, DARK)
    )
    return f"{light}\n@media (prefers-color-scheme: dark) {{{dark}}}\n"


def map_page(
    title: str, notes: Sequence[str], points: Sequence[MapPoint], places: np.ndarray, groups: Sequence[str]
) -> str:
    """Returns the page.

    Args:
      title: of the page.
      notes: sentences above the map.
      points: the images.
      places: their points in the plane, [N, 2].
      groups: names of the labels or clusters.
    """
    x, y = _on_paper(places)
    radius = 5 if len(points) <= 500 else 3.5
    circles = "\n".join(
        f'<circle cx="{across:.1f}" cy="{down:.1f}" r="{radius}" class="{_class_of(point.group)}"/>'
        for across, down, point in zip(x, y, points, strict=True)
    )
    body = [
        *(f'<p class="soft">{text(note)}</p>' for note in notes),
        _legend(points, groups),
        '<div class="plot" id="frame">',
        f'<svg id="plot" viewBox="0 0 {_WIDTH:.0f} {_HEIGHT:.0f}" tabindex="0" role="application" '
        f'aria-label="Map of {len(points):,} images. Arrow keys move from image to image, Escape leaves. '
        f'A table of all images follows.">',
        circles,
        '</svg>\n<div class="card" id="card" hidden></div>\n</div>',
        '<p class="soft">Point at an image, or use the arrow keys on the map.</p>',
        '<p id="said" aria-live="polite"></p>',
        _table(points, places, groups),
    ]
    data = {
        "groups": [as_text(group) for group in groups],
        "points": [[as_text(point.name), point.group] for point in points],
        "pictures": [point.picture for point in points],
    }
    return page(title, "\n".join(body), script="map.js", data=data, style=_style())


def _on_paper(places: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns x and y of points on the drawing, with the same scale for both."""
    low, high = places.min(axis=0), places.max(axis=0)
    sizes = np.where(high > low, high - low, 1.0)
    room = np.array([_WIDTH, _HEIGHT]) - 2 * _MARGIN
    centred = (places - (low + high) / 2) * min(room / sizes)
    return _WIDTH / 2 + centred[:, 0], _HEIGHT / 2 - centred[:, 1]


def _legend(points: Sequence[MapPoint], groups: Sequence[str]) -> str:
    if not groups:
        return ""
    numbers = [sum(point.group == group for point in points) for group in range(len(groups))]
    boxes = "\n".join(
        f'<label><input type="checkbox" checked value="{group}">'
        f'<svg viewBox="0 0 14 14" aria-hidden="true"><circle cx="7" cy="7" r="6" class="{_class_of(group)}"/></svg>'
        f"<span><bdi>{text(name)}</bdi> ({numbers[group]:,})</span></label>"
        for group, name in enumerate(groups)
    )
    return f'<fieldset class="legend" aria-label="What the map shows">\n{boxes}\n</fieldset>'


def _table(points: Sequence[MapPoint], places: np.ndarray, groups: Sequence[str]) -> str:
    rows = "\n".join(
        f'<tr><td class="number">{point.row}</td><td>{text(point.name)}</td>'
        f"<td>{text(groups[point.group]) if point.group is not None else ''}</td>"
        f'<td class="number">{place[0]:.3f}</td><td class="number">{place[1]:.3f}</td></tr>'
        for point, place in zip(points, places, strict=True)
    )
    return (
        "<details>\n<summary>All images as a table</summary>\n<table>\n<tr><th>row</th><th>image</th><th>group</th>"
        f"<th>x</th><th>y</th></tr>\n{rows}\n</table>\n</details>"
    )
