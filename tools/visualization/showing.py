"""Shows what a network sees in images: its input, its strongest feature maps, class activation, receptive fields."""

import difflib
import re
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from nets import endpoint_info
from tools.errors import InputError
from tools.features import FeatureExtractor
from tools.features.classification import class_names
from tools.images import Inputs
from tools.images.given import arrays_or_inputs
from tools.visualization.class_activation import ClassActivations, is_map
from tools.visualization.inputs import input_batches, shown
from tools.visualization.output import Names, check_output, new_output
from tools.visualization.pages.show_page import (
    FRAMES,
    Activation,
    Channel,
    Field,
    Maps,
    Seen,
    field_box,
    section,
    show_page,
)
from tools.visualization.pictures import blended, coloured, enlarged, sheet

__all__ = ["Shown", "show", "usual_end_points"]

_OURS = Names("index.html", r"\d{4,}-.*\.png")

# End points that are shown if none are named, channels of each, and sides of the pictures in files.
_END_POINTS, _CHANNELS, _TILE, _SIDE = 8, 16, 112, 448


class Shown(NamedTuple):
    """The result of ``show``.

    images: number of images.
    end_points: names of the end points whose maps are shown.
    page: the file of the page.
    classes: for each image the class that the activation is of, its name, and its probability; empty without.
    """

    images: int
    end_points: list[str]
    page: Path
    classes: list[tuple[int, str, float]]


def usual_end_points(extractor: FeatureExtractor) -> list[str]:
    """Returns aliases of the end points to look at: the maps with a short name, such as conv1 and block1 to block4.

    Of more than 8 of them, it returns the last one of each size. Those that need excluded variables are left out.
    """
    points = endpoint_info.describe(extractor.images, extractor.tensors())
    chosen = [
        point
        for point in points
        if "/" not in point.alias and is_map(point.tensor) and not extractor.not_restored(point.tensor)
    ]
    if len(chosen) > _END_POINTS:
        chosen = list({tuple(point.shape[1:3]): point for point in chosen}.values())
    return [point.alias for point in chosen]


def show(
    images: Any,
    extractor: FeatureExtractor,
    output: str | Path,
    *,
    end_points: Sequence[str] | None = None,
    cam: str | int | None = None,
    labels: Sequence[str] | str | Path | None = None,
    place: tuple[float, float] | None = None,
    overwrite: bool = False,
    advance: Callable[[int], None] = lambda count: None,
) -> Shown:
    """Writes PNG files and a page, ``index.html``, of what a network sees in images.

    Args:
      images: as for a call of the extractor.
      extractor: of the network, not frozen, whatever its end points.
      output: folder to write.
      end_points: names or aliases of maps; None for ``usual_end_points``.
      cam: a class, by number or name, or 'top' for the most probable one of each image; None for no class activation.
      labels: names of the classes, or a file with one a line; None for those of the checkpoint, or ImageNet's.
      place: (vertical, horizontal) in [0, 1], the place whose receptive fields are drawn; None for the middle.
      overwrite: whether an earlier result in the folder may be replaced.
      advance: called with the number of images whenever some are done.

    Raises:
      ImageError: if a file cannot be decoded.
      InputError: if there are no images, an end point has no height and width, there is no such class, or the output
        cannot be written.
      RuntimeError: if the extractor is closed.
      UnknownEndPointError: for an unknown end point.
      ValueError: if the network is frozen, or a variable that it needs was excluded.
    """
    check_output(output, _OURS, overwrite=overwrite)
    place = (0.5, 0.5) if place is None else place
    if not _is_place(place):
        raise InputError(f"place must be two numbers from 0 to 1, and is {place!r}.")
    given = arrays_or_inputs(images)
    if not len(given):
        raise InputError("There are no images to show: give at least one.")
    if end_points is None:
        end_points = usual_end_points(extractor)
    points = _maps_of(extractor, [end_points] if isinstance(end_points, str) else list(end_points))
    names = [point.alias for point in points]
    activations = None if cam is None else _Activations(extractor, cam, labels)
    fields = [field for point in points if (field := _field(point, place)) is not None]
    sections: list[str] = []
    classes: list[tuple[int, str, float]] = []
    with new_output(output, _OURS, overwrite=overwrite) as folder:
        for batch in input_batches(extractor, given):
            values = extractor.session.run({point.alias: point.tensor for point in points}, {extractor.images: batch})
            pixels = shown(batch, extractor.preprocessing)
            found = [[]] * len(batch)
            if activations is not None:
                found, chosen = activations.of(batch, pixels)
                classes += chosen
            for row in range(len(batch)):
                one = Seen(
                    _name(given, len(sections)),
                    pixels[row],
                    found[row],
                    fields,
                    [_strongest(point, values[point.alias][row]) for point in points],
                )
                sections.append(section(len(sections) + 1, one, len(given)))
                _write_pictures(folder, len(sections), one)
            advance(len(batch))
        title = f"What {extractor.net} sees in {len(given):,} image{'s' * (len(given) != 1)}"
        notes = [
            f"Checkpoint {extractor.reader.path}; preprocessing {extractor.preprocessing} at {extractor.image_size}.",
            "The strongest maps are those with the largest mean; the colours of an end point's maps share one scale.",
        ]
        images = [_name(given, number) for number in range(len(given))]
        (folder / "index.html").write_text(show_page(title, notes, images, sections), encoding="utf-8")
    return Shown(len(given), names, Path(output) / "index.html", classes)


def _name(given: Inputs | Sequence[np.ndarray], number: int) -> str:
    return given.name(number) if isinstance(given, Inputs) else f"image {number + 1}"


def _is_place(place: Any) -> bool:
    try:
        vertical, horizontal = place
        return 0 <= vertical <= 1 and 0 <= horizontal <= 1
    except (TypeError, ValueError):
        return False


def _maps_of(extractor: FeatureExtractor, names: Sequence[str]) -> list[endpoint_info.EndPoint]:
    if not names:
        raise InputError(
            f"{extractor.net} has no end point with height and width at {extractor.image_size}: take larger images, "
            "by image_size=N."
        )
    points = endpoint_info.describe(extractor.images, extractor.tensors(), names)
    if repeated := [alias for alias, count in Counter(point.alias for point in points).items() if count > 1]:
        raise InputError(f"end_points names {repeated[0]} more than once: name it once.")
    for name, point in zip(names, points, strict=True):
        if not is_map(point.tensor):
            size = "x".join(map(str, point.shape[1:]))
            raise InputError(
                f"The end point {name} is {size} an image and has no height and width to show: name others, such as "
                f"{', '.join(usual_end_points(extractor)[-3:]) or 'none at this image size'}."
            )
    extractor.check_restored(*(point.tensor for point in points))
    return points


class _Activations:
    """Grad-CAM of a class, and CAM where the network allows it."""

    def __init__(
        self, extractor: FeatureExtractor, wanted: str | int, labels: Sequence[str] | str | Path | None
    ) -> None:
        self._grad_cam = ClassActivations(extractor)
        try:
            self._cam: ClassActivations | None = ClassActivations(extractor, weighted=True)
        except InputError:
            self._cam = None
        count = self._grad_cam.num_classes
        if labels is None or isinstance(labels, str | Path):
            labels = class_names(labels, extractor, count)
        if len(labels) != count:
            raise InputError(f"There are {len(labels)} labels for {count} classes: give one for each.")
        self._labels = list(labels)
        self._number = None if wanted == "top" else _class_of(wanted, self._labels, extractor.net)

    def of(self, batch: np.ndarray, pixels: np.ndarray) -> tuple[list[list[Activation]], list[tuple[int, str, float]]]:
        """Returns the activations of each image, and its class with its name and probability."""
        logits = self._grad_cam.logits(batch).astype(np.float64)
        numbers = logits.argmax(axis=1) if self._number is None else np.full(len(batch), self._number)
        if logits.shape[1] == 1:
            shares = 1 / (1 + np.exp(-logits))
        else:
            shares = np.exp(logits - logits.max(axis=1, keepdims=True))
            shares /= shares.sum(axis=1, keepdims=True)
        chosen = [
            (int(number), self._labels[number], float(row[number])) for number, row in zip(numbers, shares, strict=True)
        ]
        found: list[list[Activation]] = [[] for _ in batch]
        for name, activations in {"Grad-CAM": self._grad_cam, "CAM": self._cam}.items():
            if activations is None:
                continue
            for row, heatmap in enumerate(activations.of_inputs(batch, numbers)):
                number, label, share = chosen[row]
                caption = f"class {number}, {label}" if label != str(number) else f"class {number}"
                picture = blended(enlarged(pixels[row], max(_SIDE // 2, *pixels.shape[1:3]), smooth=True), heatmap)
                activation = Activation(name, f"{caption}, probability {share:.3f}", picture, max(0.0, heatmap.max()))
                found[row].append(activation)
        return found, chosen


def _class_of(wanted: str | int, labels: Sequence[str], net: str) -> int:
    """Returns the number of a class by its number or its name, or by one of several names between commas."""
    if isinstance(wanted, str) and re.fullmatch(r"-?\d+", wanted):
        wanted = int(wanted)
    if isinstance(wanted, int | np.integer) and not isinstance(wanted, bool):
        if not 0 <= wanted < len(labels):
            raise InputError(f"There is no class {wanted}: {net} has {len(labels)}, numbered from 0.")
        return int(wanted)
    if not isinstance(wanted, str):
        raise InputError(f"cam must be the number or the name of a class, or 'top', and is {wanted!r}.")
    name = wanted.casefold()
    parts: dict[str, list[int]] = {}
    for number, label in enumerate(labels):
        for part in dict.fromkeys(str(label).casefold().split(",")):
            parts.setdefault(part.strip(), []).append(number)
    whole = [number for number, label in enumerate(labels) if str(label).casefold() == name]
    found = whole or parts.get(name, [])
    if len(found) == 1:
        return found[0]
    what, near = "several classes", [(wanted, number) for number in found]
    if not found:
        names = [part for part in parts if name in part.split()] or difflib.get_close_matches(name, parts)
        what, near = "no class", [(part, number) for part in names for number in parts[part]]
    hint = f"give a number from 0 to {len(labels) - 1}, or a name, such as {labels[0]}."
    if near:
        hint = f"did you mean {' or '.join(f'{part} ({number})' for part, number in near[:4])}?"
    raise InputError(f"{net} has {what} {wanted!r}: {hint}")


def _field(point: endpoint_info.EndPoint, place: tuple[float, float]) -> Field | None:
    if point.receptive_field is None:
        return None
    position = tuple(min(int(share * size), size - 1) for share, size in zip(place, point.shape[1:3], strict=True))
    return Field(point.alias, position, field_box(point.receptive_field, position))


def _strongest(point: endpoint_info.EndPoint, values: np.ndarray) -> Maps:
    """Returns the maps with the largest means of one image, from [height, width, channels]."""
    means = values.mean(axis=(0, 1), dtype=np.float64)
    order = np.argsort(-means, kind="stable")[:_CHANNELS]
    chosen = values[..., order]
    channels = [Channel(int(number), float(means[number]), values[..., number].copy()) for number in order]
    return Maps(point.alias, values.shape, float(chosen.min()), float(chosen.max()), channels)


# Files.


def _write_pictures(folder: Path, number: int, seen: Seen) -> None:
    """Writes the pictures of one image in full, as NUMBER-NAME.png."""

    def path(name: str) -> Path:
        return folder / f"{number:04d}-{name.replace('/', '.')}.png"

    _save(Image.fromarray(seen.pixels), path("input"))
    for activation in seen.activations:
        _save(_with_bar(activation.pixels, 0.0, activation.high), path(activation.name.lower()))
    if seen.fields:
        _save(_drawn_fields(seen), path("fields"))
    for maps in seen.maps:
        tiles = [
            (
                enlarged(coloured(channel.values, maps.high, maps.low), _TILE),
                f"{channel.number}: {channel.mean:.3g}",
                False,
            )
            for channel in maps.channels
        ]
        rows = [tiles[start : start + 8] for start in range(0, len(tiles), 8)]
        _save(_with_bar(np.asarray(sheet(rows, _TILE)), maps.low, maps.high), path(maps.end_point))


def _save(picture: Image.Image, path: Path) -> None:
    picture.save(path, compress_level=2)  # which takes a third of the time, and little more room


def _with_bar(pixels: np.ndarray, low: float, high: float) -> Image.Image:
    """Returns a picture with a colour bar below it, and the values at the ends of the bar."""
    height, width = pixels.shape[:2]
    length = min(width, 240)
    picture = Image.new("RGB", (width, height + 40), (255, 255, 255))
    picture.paste(Image.fromarray(pixels))
    gradient = coloured(np.linspace(0, 1, length)[np.newaxis], 1.0).repeat(12, axis=0)
    picture.paste(Image.fromarray(gradient), (0, height + 6))
    draw, font = ImageDraw.Draw(picture), ImageFont.load_default(12)
    draw.text((0, height + 22), f"{low:.3g}", (24, 24, 24), font)
    draw.text((length, height + 22), f"{high:.3g}", (24, 24, 24), font, anchor="ra")
    return picture


def _drawn_fields(seen: Seen) -> Image.Image:
    """Returns the input with the frames of the receptive fields, to scale, on grey where they reach beyond it."""
    height, width = seen.pixels.shape[:2]
    boxes = np.array([field.box for field in seen.fields])
    top, left = np.minimum(boxes[:, :2].min(axis=0), 0)
    bottom, right = np.maximum((boxes[:, :2] + boxes[:, 2:]).max(axis=0), (height, width))
    scale = _SIDE / max(bottom - top, right - left)
    lines = 18 * len(boxes)
    picture = Image.new("RGB", (_SIDE, round((bottom - top) * scale) + lines + 8), (235, 235, 235))
    size = max(1, round(width * scale)), max(1, round(height * scale))
    picture.paste(Image.fromarray(seen.pixels).resize(size), (round(-left * scale), round(-top * scale)))
    draw, font = ImageDraw.Draw(picture), ImageFont.load_default(12)
    for number, (field, (y, x, rows, columns)) in enumerate(zip(seen.fields, boxes, strict=True)):
        corners = [
            (x - left) * scale,
            (y - top) * scale,
            (x + columns - left) * scale - 1,
            (y + rows - top) * scale - 1,
        ]
        draw.rectangle(corners, outline=(0, 0, 0), width=4)
        draw.rectangle(corners, outline=FRAMES[number % len(FRAMES)], width=2)
        line = picture.height - lines + 18 * number
        draw.rectangle((4, line, 14, line + 10), FRAMES[number % len(FRAMES)], (0, 0, 0))
        said = f"{field.end_point}: {rows}x{columns} pixels at {field.position[0]}, {field.position[1]}"
        draw.text((20, line - 2), said, (24, 24, 24), font)
    return picture
