"""The preprocessings and augmentations of research/slim in NumPy, in float64, for tests.

The bilinear resize that the published weights saw in training (``align_corners=False``, no half-pixel centres) takes
output row i from the source row i * rows_in / rows_out: its fraction mixes the two neighbours, and the last row is
its own neighbour. Positions are float32, as in TensorFlow's kernel, and all values float64.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

_Array = np.ndarray


def _neighbours(size_in: int, size_out: int) -> tuple[_Array, _Array, _Array]:
    """Returns (lower, upper, fraction) for each output position along one axis."""
    positions = np.arange(size_out, dtype=np.float32) * (np.float32(size_in) / np.float32(size_out))
    lower = np.minimum(np.floor(positions).astype(np.int64), size_in - 1)
    return lower, np.minimum(lower + 1, size_in - 1), positions.astype(np.float64) - lower


def resize(images: _Array, height: int, width: int) -> _Array:
    images = np.asarray(images, np.float64)
    lower, upper, fraction = _neighbours(images.shape[1], height)
    fraction = fraction[:, np.newaxis, np.newaxis]
    images = images[:, lower] * (1 - fraction) + images[:, upper] * fraction
    lower, upper, fraction = _neighbours(images.shape[2], width)
    fraction = fraction[:, np.newaxis]
    return images[:, :, lower] * (1 - fraction) + images[:, :, upper] * fraction


def resize_shorter_side(images: _Array, shorter: int) -> _Array:
    """Resizes and keeps the aspect ratio, up to the rounding of the longer side."""

    def scaled(side: int) -> int:
        return int(np.rint(np.float32(side) * (np.float32(shorter) / np.float32(least))))

    least = min(images.shape[1:3])
    return resize(images, *(shorter if side == least else scaled(side) for side in images.shape[1:3]))


def _fit_vgg(images: _Array, size: int) -> _Array:
    images = resize_shorter_side(images, round(256 * size / 224))
    top, left = ((side - size) // 2 for side in images.shape[1:3])
    return images[:, top : top + size, left : left + size]


def _normalize_vgg(images: _Array) -> _Array:
    return images - np.array([123.68, 116.78, 103.94])


def _fit_inception(images: _Array, size: int) -> _Array:
    def middle(side: int) -> slice:
        start = int((side - side * 0.875) / 2)
        return slice(start, side - start)

    return resize(images[:, middle(images.shape[1]), middle(images.shape[2])] / 255.0, size, size)


def _normalize_inception(images: _Array) -> _Array:
    return (images - 0.5) * 2


def _fit_torchvision(images: _Array, size: int) -> _Array:
    shorter, least = round(256 * size / 224), min(images.shape[1:3])
    height, width = (shorter * side // least for side in images.shape[1:3])
    images = _antialiased(_antialiased(images.swapaxes(1, 2), width).swapaxes(1, 2), height)
    top, left = round((height - size) / 2), round((width - size) / 2)
    return images[:, top : top + size, left : left + size]


def _antialiased(images: _Array, length: int) -> _Array:
    """Resizes the axis 1 with triangles, in whole numbers. Halves between two levels become the upper level."""
    side = images.shape[1]
    distances = np.abs(np.subtract.outer((2 * np.arange(length) + 1) * side, (2 * np.arange(side) + 1) * length))
    weights = np.maximum(2 * max(side, length) - distances, 0).astype(np.float64)
    sums = np.tensordot(images.astype(np.float64), weights, [1, 1]).transpose([0, 3, 1, 2])
    totals = weights.sum(axis=1)[:, np.newaxis, np.newaxis]
    return (2 * sums + totals) // (2 * totals)


def _normalize_torchvision(images: _Array) -> _Array:
    return (images / 255.0 - np.array([0.485, 0.456, 0.406])) / np.array([0.229, 0.224, 0.225])


def _fit_cifar(images: _Array, size: int) -> _Array:
    result = np.zeros([len(images), size, size, 3])
    taken, put = zip(*(_crop_or_pad(side, size) for side in images.shape[1:3]), strict=True)
    result[:, put[0], put[1]] = images[:, taken[0], taken[1]]
    return result


def _crop_or_pad(side: int, size: int) -> tuple[slice, slice]:
    """Returns the source and target slices along one axis, centred; an odd row is removed or added at the end."""
    if side >= size:
        start = (side - size) // 2
        return slice(start, start + size), slice(0, size)
    start = (size - side) // 2
    return slice(0, side), slice(start, start + side)


def _normalize_cifar(images: _Array) -> _Array:
    mean = images.mean(axis=(1, 2, 3), keepdims=True)
    deviation = images.std(axis=(1, 2, 3), keepdims=True)
    return (images - mean) / np.maximum(deviation, 1 / np.sqrt(images[0].size))


def _fit_grayscale(images: _Array, size: int) -> _Array:
    return resize(_normalize_grayscale(images / 255.0), size, size)


def _normalize_grayscale(images: _Array) -> _Array:
    """Computes the luma of ITU-R BT.601."""
    return images if images.shape[-1] == 1 else images @ np.array([0.2989, 0.5870, 0.1140])[..., np.newaxis]


class Reference(NamedTuple):
    """A preprocessing: uint8 images to the size, in [0, white], and from there to the input of a network."""

    fit: Callable[[_Array, int], _Array]
    normalize: Callable[[_Array], _Array]
    white: float


REFERENCES = {
    "cifar": Reference(_fit_cifar, _normalize_cifar, 255.0),
    "grayscale": Reference(_fit_grayscale, _normalize_grayscale, 1.0),
    "inception": Reference(_fit_inception, _normalize_inception, 1.0),
    "torchvision": Reference(_fit_torchvision, _normalize_torchvision, 255.0),
    "vgg": Reference(_fit_vgg, _normalize_vgg, 255.0),
}


def preprocessed(images: _Array, name: str, size: int) -> _Array:
    return REFERENCES[name].normalize(REFERENCES[name].fit(images, size))


def augmented(
    image: _Array,
    draws: Mapping[str, Any],
    preprocessing: str,
    augmentation: str,
    size: int,
    flip: bool = True,
    color: bool = True,
) -> _Array:
    """Augments one image [height, width, 3] by the random values of ``nets.augmentation.Draws``, by name."""
    reference = REFERENCES[preprocessing]
    top, left, height, width = draws["box"]
    images = image[np.newaxis].astype(np.float64)
    if augmentation == "cifar":
        margin = [round(4 * size / 32)] * 2
        images = np.pad(reference.fit(images, size), [[0, 0], margin, margin, [0, 0]])
        images = images[:, top : top + height, left : left + width]
    elif augmentation == "vgg":
        images = resize_shorter_side(images, int(draws["shorter_side"]))[:, top : top + height, left : left + width]
        images *= reference.white / 255
    else:
        images = resize(images[:, top : top + height, left : left + width], size, size) * (reference.white / 255)
    if flip and draws["flip"]:
        images = images[:, :, ::-1]
    if color and augmentation == "cifar":
        images = images + np.float64(draws["brightness"]) * reference.white
        mean = images.mean(axis=(1, 2), keepdims=True)
        images = mean + np.float64(draws["contrast"]) * (images - mean)
    if color and augmentation == "inception":
        brighter = np.float64(draws["brightness"]) * reference.white
        if draws["brightness_first"]:
            images = saturated(images + brighter, draws["saturation"])
        else:
            images = saturated(images, draws["saturation"]) + brighter
        images = np.clip(images, 0, reference.white)
    return reference.normalize(images)[0]


def saturated(images: _Array, factor: float) -> _Array:
    """Multiplies the saturation of RGB by way of hue, saturation and value; the saturation ends at 1."""
    hue, saturation, value = _hsv_of(images)
    return _rgb_of(hue, np.clip(saturation * float(factor), 0, 1), value)


def _hsv_of(images: _Array) -> tuple[_Array, _Array, _Array]:
    """Returns hue in sixths of a turn from red, saturation and value. Brightness may have made values negative."""
    red, green, blue = np.moveaxis(images, -1, 0)
    value = images.max(axis=-1)
    spread = value - images.min(axis=-1)
    safe = np.where(spread > 0, spread, 1)
    hue = np.select(
        [spread == 0, value == red, value == green],
        [0, ((green - blue) / safe) % 6, (blue - red) / safe + 2],
        (red - green) / safe + 4,
    )
    return hue, np.where(value > 0, spread / np.where(value > 0, value, 1), 0), value


def _rgb_of(hue: _Array, saturation: _Array, value: _Array) -> _Array:
    # Each colour falls from the value by the chroma, depending on the distance of the hue from the colour's own.
    channels = []
    for turn in (5, 3, 1):
        distance = (turn + hue) % 6
        channels.append(value - value * saturation * np.clip(np.minimum(distance, 4 - distance), 0, 1))
    return np.stack(channels, axis=-1)


def distorted_boxes(random: np.random.Generator, rows: int, columns: int, count: int) -> _Array:
    """Draws (top, left, height, width) as TensorFlow documents it for slim's arguments; all are whole numbers."""
    boxes = []
    while len(boxes) < count:
        aspect = random.uniform(0.75, 1.33)
        least = round(np.sqrt(0.05 * rows * columns / aspect))
        most = min(round(np.sqrt(rows * columns / aspect)), rows, int(columns / aspect))
        height = int(random.integers(least, most + 1))
        width = round(height * aspect)
        top, left = random.integers(0, rows - height + 1), random.integers(0, columns - width + 1)
        if height * width >= 0.1 * rows * columns:
            boxes.append((top, left, height, width))
    return np.array(boxes)
