"""The page of what a network sees in images: its input, class activation, receptive fields, and feature maps."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from nets.endpoint_info import ReceptiveField
from tools.visualization.pages import page, text
from tools.visualization.pictures import coloured, data_uri, enlarged

__all__ = ["Activation", "Channel", "Field", "Maps", "Seen", "field_box", "section", "show_page"]

# Colours of the frames of receptive fields, on pictures of any brightness.
FRAMES = ("#e69f00", "#56b4e9", "#009e73", "#f0e442", "#d55e00", "#cc79a7", "#9467bd", "#ffffff")


class Channel(NamedTuple):
    """One feature map: the number of its channel, its mean, and its values [rows, columns]."""

    number: int
    mean: float
    values: np.ndarray


class Maps(NamedTuple):
    """The strongest feature maps of an end point.

    end_point: its alias.
    shape: (height, width, channels).
    low, high: the smallest and largest value of the maps, which have the first and the last colour.
    channels: the strongest first.
    """

    end_point: str
    shape: tuple[int, int, int]
    low: float
    high: float
    channels: list[Channel]


class Activation(NamedTuple):
    """A class activation: its name, such as 'Grad-CAM', its caption, pixels with its colours, and its largest value."""

    name: str
    caption: str
    pixels: np.ndarray
    high: float


class Field(NamedTuple):
    """The receptive field of one position of an end point.

    end_point: alias.
    position: (row, column) on the end point.
    box: (top, left, height, width) on the input, in pixels; it may reach beyond.
    """

    end_point: str
    position: tuple[int, int]
    box: tuple[int, int, int, int]


class Seen(NamedTuple):
    """One image as the network sees it.

    name: of the image.
    pixels: uint8 [height, width, 3], its input.
    activations, fields, maps: see these.
    """

    name: str
    pixels: np.ndarray
    activations: list[Activation]
    fields: list[Field]
    maps: list[Maps]


class _Room(NamedTuple):
    """The sizes of pictures on the page, so that many images still fit."""

    images: int
    side: int
    channels: int
    map_side: int


_ROOMS = (_Room(4, 248, 16, 64), _Room(15, 224, 12, 40), _Room(40, 160, 8, 28), _Room(100, 112, 5, 16))
_LEAST = _Room(0, 96, 4, 14)

# Side of the small picture behind the frames of fields.
_BEHIND = 96


def field_box(field: ReceptiveField, position: tuple[int, int]) -> tuple[int, int, int, int]:
    """Returns (top, left, height, width), in pixels of the input, of what a position of an end point sees."""
    stride = field.stride or (0, 0)
    top, left = (place * step - pad for place, step, pad in zip(position, stride, field.padding, strict=True))
    return top, left, *field.size


def show_page(title: str, notes: Sequence[str], names: Sequence[str], sections: Sequence[str]) -> str:
    """Returns the page.

    Args:
      title: of the page.
      notes: sentences below it.
      names: of the images.
      sections: what ``section`` returned for each image.
    """
    body = [f'<p class="soft">{text(note)}</p>' for note in notes]
    if len(names) > 1:
        links = "\n".join(
            f'<li><a href="#image-{number}">{text(name)}</a></li>' for number, name in enumerate(names, 1)
        )
        body.append(f'<nav aria-label="Images">\n<ul>\n{links}\n</ul>\n</nav>')
    return page(title, "\n".join([*body, *sections]))


def section(number: int, seen: Seen, count: int) -> str:
    """Returns the part of the page that shows one image.

    Args:
      number: of the image, from 1.
      seen: what the network sees in it.
      count: number of images on the page. Of many images, the pictures are smaller and fewer.
    """
    room = next((room for room in _ROOMS if count <= room.images), _LEAST)
    figures = [
        _figure(
            _image(seen.pixels, room.side, f"The network's input for {seen.name}"),
            f"input, {seen.pixels.shape[1]}x{seen.pixels.shape[0]}",
        )
    ]
    figures += [
        _figure(
            _image(activation.pixels, room.side, f"{activation.name} of {seen.name}: {activation.caption}")
            + _bar(0.0, activation.high),
            f"{activation.name}, {activation.caption}",
        )
        for activation in seen.activations
    ]
    if seen.fields:
        figures.append(
            _figure(
                _fields(seen, room.side),
                "receptive fields to scale: their size in pixels, at a row and column of the end point",
            )
        )
    parts = [f'<section>\n<h2 id="image-{number}">{text(seen.name)}</h2>', '<div class="row">', *figures, "</div>"]
    return "\n".join([*parts, *(_maps(maps, room) for maps in seen.maps), "</section>"])


def _figure(content: str, caption: str) -> str:
    return f"<figure>\n{content}\n<figcaption>{text(caption)}</figcaption>\n</figure>"


def _image(pixels: np.ndarray, side: int, alt: str) -> str:
    """Returns the element of a picture. Small ones are enlarged by the browser."""
    height, width = pixels.shape[:2]
    scale = side / max(height, width)
    shrunk = enlarged(pixels, side) if scale < 1 else pixels
    size = f'width="{max(1, round(width * scale))}" height="{max(1, round(height * scale))}"'
    sharp = ' class="pixels"' if scale > 2 else ""
    return f'<img src="{data_uri(shrunk, photograph=True)}" alt="{text(alt)}" {size}{sharp}>'


def _bar(low: float, high: float) -> str:
    return (
        f'\n<div class="bar" role="img" aria-label="Colour bar from {low:.3g} to {high:.3g}"></div>'
        f'<div class="ends"><span>{low:.3g}</span><span>{high:.3g}</span></div>'
    )


def _fields(seen: Seen, side: int) -> str:
    """Returns a drawing of the input with a frame for each receptive field, which may be larger than the input."""
    height, width = seen.pixels.shape[:2]
    boxes = [field.box for field in seen.fields]
    top, left = (min(0, *(box[axis] for box in boxes)) if boxes else 0 for axis in (0, 1))
    bottom = max(height, *(box[0] + box[2] for box in boxes))
    right = max(width, *(box[1] + box[3] for box in boxes))
    line = max(bottom - top, right - left) / 160
    view = f"{left - line:.1f} {top - line:.1f} {right - left + 2 * line:.1f} {bottom - top + 2 * line:.1f}"
    scale = side / max(bottom - top, right - left)
    listed = ", ".join(f"{field.end_point} {field.box[2]}x{field.box[3]} pixels" for field in seen.fields)
    parts = [
        f'<svg viewBox="{view}" width="{(right - left) * scale:.0f}" height="{(bottom - top) * scale:.0f}" role="img" '
        f'aria-label="Receptive fields on the input of {text(seen.name)}: {text(listed)}">',
        f'<image href="{data_uri(enlarged(seen.pixels, _BEHIND), photograph=True)}" width="{width}" height="{height}" '
        'preserveAspectRatio="none"/>',
    ]
    # A dark line below each coloured one is seen on any picture.
    for number, (top, left, rows, columns) in enumerate(boxes):
        frame = f'x="{left}" y="{top}" width="{columns}" height="{rows}" fill="none"'
        parts.append(f'<rect {frame} stroke="#000" stroke-width="{2 * line:.2f}"/>')
        colour = FRAMES[number % len(FRAMES)]
        parts.append(f'<rect {frame} stroke="{colour}" stroke-width="{line:.2f}"/>')
    legend = "".join(
        f'<li><svg width="12" height="12" aria-hidden="true"><rect width="12" height="12" stroke="#000" '
        f'fill="{FRAMES[number % len(FRAMES)]}"/></svg> {text(field.end_point)}: {field.box[2]}x{field.box[3]} at '
        f"{field.position[0]}, {field.position[1]}</li>"
        for number, field in enumerate(seen.fields)
    )
    return "\n".join([*parts, f'</svg>\n<ul class="plain">{legend}</ul>'])


def _maps(maps: Maps, room: _Room) -> str:
    height, width, channels = maps.shape
    tiles = []
    for channel in maps.channels[: room.channels]:
        pixels = coloured(channel.values, maps.high, maps.low)
        if max(pixels.shape[:2]) > room.map_side:
            pixels = enlarged(pixels, room.map_side)
        alt = f"{maps.end_point}, channel {channel.number}, mean {channel.mean:.3g}"
        tiles.append(
            f'<figure>\n<img class="pixels" src="{data_uri(pixels)}" alt="{text(alt)}" width="96" height="96">\n'
            f"<figcaption>{channel.number}: {channel.mean:.3g}</figcaption>\n</figure>"
        )
    return "\n".join(
        [
            f"<h3>{text(maps.end_point)}, {height}x{width}: {len(tiles)} of {channels:,} channels, by their mean</h3>",
            f'<div class="maps">\n{"".join(tiles)}\n</div>',
            f'<div class="scale">{_bar(maps.low, maps.high)}</div>',
        ]
    )
