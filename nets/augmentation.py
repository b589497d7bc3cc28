"""The augmentation of images in training, in the graph, as in the training of research/slim.

An augmentation puts a random part of an image in place of the part that evaluation takes, mirrors it in half of the
cases, and may change its colours:

vgg        shorter side to a random length between round(256 * size / 224) and round(512 * size / 224), random crop of
           size x size, flip.
inception  random crop of 10 % to 100 % of the area and an aspect ratio of 0.75 to 1.33, resized to size x size, flip,
           brightness and saturation in one of two orders, clipped to the range of the pixels.
cifar      the part that evaluation takes, padded with round(4 * size / 32) rows and columns of black on each side,
           random crop of size x size, flip, brightness, contrast.
none       the preprocessing of evaluation, to the bit.

Values are normalized as the preprocessing of evaluation does, whatever the augmentation: a network that was trained on
other values than it is evaluated on computes badly.

All random numbers are functions of a seed, and neither of a state nor of the order of the images. So training that is
stopped and started again sees the same images.
"""

from collections.abc import Sequence
from typing import NamedTuple

import tensorflow as tf

from nets.arguments import check_seed, shown
from nets.arguments import flag as checked_flag
from nets.preprocessing import (
    PREPROCESSINGS,
    Preprocessing,
    aspect_preserving_size,
    check_images,
    check_preprocessing,
    preprocess,
    resize_bilinear,
    scaled_size,
)

__all__ = ["AUGMENTATIONS", "Draws", "augment", "check_augmentation", "default_augmentation", "draw", "largest_size"]

v1 = tf.compat.v1

AUGMENTATIONS = ("cifar", "inception", "none", "vgg")

_VGG_SHORTEST_SIDE, _VGG_LONGEST_SIDE, _VGG_SIZE = 256, 512, 224
_CIFAR_PADDING, _CIFAR_SIZE = 4, 32
# Largest size that 'vgg' and 'inception' are too strong for.
_SMALL = 64
_ASPECT_RATIOS, _AREAS, _LEAST_COVERED, _ATTEMPTS = (0.75, 1.33), (0.05, 1.0), 0.1, 100
_WHOLE_IMAGE = [[[0.0, 0.0, 1.0, 1.0]]]
# Largest change of brightness, as a share of the range from black to white.
_BRIGHTNESS = {"inception": 32 / 255, "cifar": 63 / 255}
_SATURATIONS, _CONTRASTS = (0.5, 1.5), (0.2, 1.8)
# slim's first version draws one of four orders of its colour operations, three of which begin with the saturation.
_BRIGHTNESS_FIRST = 1 / 4


class Draws(NamedTuple):
    """The random values for one image. None stands for a value that the augmentation does not have.

    shorter_side: vgg: int32, uniform over the whole numbers from round(256 * size / 224) to round(512 * size / 224).
    box: int32 [4]: top, left, height, width of the part that is taken.
      vgg: of the scaled image; size x size; top and left uniform over all places.
      cifar: of the padded image; size x size; top and left uniform over all places.
      inception: of the image itself. Its aspect ratio is uniform between 0.75 and 1.33; then its height is uniform over
        those that fit into the image and give at least 0.05 of its area; then its place is uniform. Boxes with less
        than 0.1 of the area are drawn again. After 100 attempts it is the whole image.
    flip: bool, True in half of the cases.
    brightness: float32, added, as a share of the range from black to white: inception: uniform from -32/255 to 32/255;
      cifar: uniform from -63/255 to 63/255.
    brightness_first: inception: bool, whether the brightness changes before the saturation; True in a quarter of the
      cases.
    saturation: inception: float32, uniform from 0.5 to 1.5.
    contrast: cifar: float32, uniform from 0.2 to 1.8.
    """

    shorter_side: tf.Tensor | None = None
    box: tf.Tensor | None = None
    flip: tf.Tensor | None = None
    brightness: tf.Tensor | None = None
    brightness_first: tf.Tensor | None = None
    saturation: tf.Tensor | None = None
    contrast: tf.Tensor | None = None


_FIELDS = {
    "cifar": {"box", "flip", "brightness", "contrast"},
    "inception": {"box", "flip", "brightness", "brightness_first", "saturation"},
    "none": set(),
    "vgg": {"shorter_side", "box", "flip"},
}


def default_augmentation(preprocessing: str, size: int) -> str:
    """Returns the augmentation that suits a preprocessing: the one of the same name, or else 'none'.

    For images of at most 64 pixels on each side it is 'cifar' in place of 'vgg' and 'inception', whose crops are meant
    for photographs: of 32x32 pixels, a twentieth of the area is 7x7, in which nothing can be recognized.
    """
    check_preprocessing(preprocessing, size)
    if preprocessing not in AUGMENTATIONS or preprocessing == "none":
        return "none"
    return "cifar" if size <= _SMALL else preprocessing


def check_augmentation(preprocessing: str, augmentation: str, size: int) -> None:
    """Raises ValueError for an unknown name, or for a preprocessing that does not go with the augmentation."""
    check_preprocessing(preprocessing, size)
    _check_name(augmentation)
    if preprocessing == "none" and augmentation != "none":
        raise ValueError(
            f"Augmentation {augmentation!r} needs images, and preprocessing 'none' takes any numbers: use augmentation "
            "'none', or another preprocessing."
        )


def _check_name(augmentation: str) -> None:
    if not isinstance(augmentation, str) or augmentation not in AUGMENTATIONS:
        raise ValueError(f"Unknown augmentation {shown(augmentation)}: there is {', '.join(AUGMENTATIONS)}.")


def largest_size(preprocessing: str, augmentation: str, size: int, height: int, width: int) -> tuple[int, int]:
    """Returns (height, width) of the largest image that ``augment`` makes of an image of ``height`` x ``width``.

    It determines the memory that is needed; see ``preprocessing.scaled_size``.
    """
    check_augmentation(preprocessing, augmentation, size)
    if augmentation == "inception":
        return max(height, size), max(width, size)
    if augmentation == "vgg":
        scale = round(_VGG_LONGEST_SIDE * size / _VGG_SIZE) / min(height, width)
        return round(height * scale), round(width * scale)
    height, width = scaled_size(preprocessing, size, height, width)
    margin = 2 * _padding(size) if augmentation == "cifar" else 0
    return max(height, size + margin), max(width, size + margin)


def _padding(size: int) -> int:
    return round(_CIFAR_PADDING * size / _CIFAR_SIZE)


def draw(shape: tf.Tensor | Sequence[int], augmentation: str, size: int, seed: tf.Tensor | Sequence[int]) -> Draws:
    """Draws the random values for one image.

    Args:
      shape: (height, width) of the image, or its whole shape.
      augmentation: 'vgg', 'inception', 'cifar' or 'none'.
      size: height and width of the network's input.
      seed: integers [2], such as the seed of the training, and the number of the image in it. The values are functions
        of the seed and of the other arguments.

    Returns:
      The values of the augmentation, scalars but for ``box``.

    Raises:
      ValueError: for an unknown name, a size below 1, or another seed.
    """
    _check_name(augmentation)
    check_preprocessing("none", size)
    size = int(size)
    seed = check_seed("seed", seed)
    if augmentation == "none":
        return Draws()
    shape = tf.cast(tf.convert_to_tensor(shape), tf.int32)
    of_numbers, of_box = tf.unstack(tf.random.experimental.stateless_split(seed, 2, alg="philox"))
    # One op for all of them, in float64, so that whole numbers come out uniform. Each has its own place.
    uniform = tf.random.stateless_uniform([7], of_numbers, dtype=tf.float64, alg="philox")
    side, top, left, mirrored, level, first, colour = tf.unstack(uniform)
    draws = Draws(flip=mirrored < 0.5)
    if augmentation == "vgg":
        shorter_side = _whole(side, *_shorter_sides(size))
        room = aspect_preserving_size(shape[:2], shorter_side) - size
        return draws._replace(shorter_side=shorter_side, box=_square(top, left, room, size))
    draws = draws._replace(brightness=_between(level, -_BRIGHTNESS[augmentation], _BRIGHTNESS[augmentation]))
    if augmentation == "cifar":
        room = tf.constant([2 * _padding(size)] * 2)
        return draws._replace(box=_square(top, left, room, size), contrast=_between(colour, *_CONTRASTS))
    return draws._replace(
        box=_distorted_box(shape, of_box),
        brightness_first=first < _BRIGHTNESS_FIRST,
        saturation=_between(colour, *_SATURATIONS),
    )


def _shorter_sides(size: int) -> tuple[int, int]:
    """Returns the least and the greatest length of the shorter side for 'vgg'."""
    return round(_VGG_SHORTEST_SIDE * size / _VGG_SIZE), round(_VGG_LONGEST_SIDE * size / _VGG_SIZE)


def _whole(uniform: tf.Tensor, least: int, most: int | tf.Tensor) -> tf.Tensor:
    """Returns a whole number from ``least`` to ``most`` for a number from [0, 1)."""
    return least + tf.cast(uniform * tf.cast(most - least + 1, tf.float64), tf.int32)


def _between(uniform: tf.Tensor, least: float, most: float) -> tf.Tensor:
    return tf.cast(least + uniform * (most - least), tf.float32)


def _square(top: tf.Tensor, left: tf.Tensor, room: tf.Tensor, size: int) -> tf.Tensor:
    """Returns a box of size x size whose top and left are from 0 to ``room`` (vertical, horizontal)."""
    return tf.stack([_whole(top, 0, room[0]), _whole(left, 0, room[1]), size, size])


def _distorted_box(shape: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    begin, extent, _ = tf.image.stateless_sample_distorted_bounding_box(
        tf.concat([shape[:2], [3]], 0),
        _WHOLE_IMAGE,
        seed,
        min_object_covered=_LEAST_COVERED,
        aspect_ratio_range=_ASPECT_RATIOS,
        area_range=_AREAS,
        max_attempts=_ATTEMPTS,
    )
    return tf.concat([begin[:2], extent[:2]], 0)


def augment(
    image: tf.Tensor,
    *,
    preprocessing: str,
    augmentation: str,
    size: int,
    seed: tf.Tensor | Sequence[int] | None = None,
    flip: bool = True,
    color: bool = True,
    draws: Draws | None = None,
) -> tf.Tensor:
    """Turns an image into a network's input for training.

    Args:
      image: [height, width, 3], uint8, RGB; with preprocessing 'none' any numbers of height and width ``size``.
      preprocessing: name of the preprocessing that the network is evaluated with. It determines how values are
        normalized; with augmentation 'cifar' and 'none' also which part of the image is seen.
      augmentation: 'vgg', 'inception', 'cifar' or 'none'.
      size: height and width of the result.
      seed: integers [2], see ``draw``.
      flip: whether half of the images are mirrored. Digits and letters should not be.
      color: whether brightness, saturation and contrast change.
      draws: random values to use instead of drawing them from ``seed``.

    Returns:
      float32 [size, size, channels]; 1 channel with preprocessing 'grayscale', otherwise 3.

    Raises:
      ValueError: for an unknown name, a size below 1, an image of another kind, names that contradict each other,
        neither or both of ``seed`` and ``draws``, or draws for another augmentation.
    """
    check_augmentation(preprocessing, augmentation, size)
    flip, color, size = checked_flag("flip", flip), checked_flag("color", color), int(size)
    image = tf.convert_to_tensor(image)
    if image.shape.rank not in (3, None):
        raise ValueError(f"image must be [height, width, channels], and has shape {image.shape}.")
    if augmentation == "none":
        return preprocess(image[tf.newaxis], preprocessing, size)[0]
    check_images(image, preprocessing)
    if (seed is None) == (draws is None):
        raise ValueError(f"augment requires seed or draws, and got {'neither' if seed is None else 'both'}.")
    with v1.name_scope("augmentation"):
        image = tf.ensure_shape(image, [None, None, 3])
        if draws is None:
            draws = draw(tf.shape(image), augmentation, size, seed)
        _check_draws(draws, augmentation)
        parts = PREPROCESSINGS[preprocessing]
        image = _taken(image, draws, augmentation, parts, size)
        image = tf.ensure_shape(image, [size, size, image.shape[-1]])
        if flip:
            image = tf.cond(draws.flip, lambda: tf.reverse(image, [1]), lambda: image)
        if color:
            image = _coloured(image, draws, augmentation, parts.white)
        return parts.normalize(image)


def _check_draws(draws: Draws, augmentation: str) -> None:
    fields = {field for field, value in draws._asdict().items() if value is not None}
    if fields != _FIELDS[augmentation]:
        raise ValueError(
            f"The draws have {', '.join(sorted(fields)) or 'no values'}, and augmentation {augmentation!r} needs "
            f"{', '.join(sorted(_FIELDS[augmentation]))}: draw them for this augmentation."
        )


def _taken(image: tf.Tensor, draws: Draws, augmentation: str, parts: Preprocessing, size: int) -> tf.Tensor:
    """Returns the part of the image that is seen, float32 [size, size, channels] from 0 to ``parts.white``."""
    top, left, height, width = tf.unstack(draws.box)
    if augmentation == "cifar":
        image = parts.fit(image[tf.newaxis], size)[0]
        margin = [_padding(size)] * 2
        return tf.pad(image, [margin, margin, [0, 0]])[top : top + size, left : left + size]
    if augmentation == "vgg":
        resized = aspect_preserving_size(tf.shape(image)[:2], draws.shorter_side)
        image = resize_bilinear(image[tf.newaxis], resized)[0, top : top + size, left : left + size]
    else:
        image = resize_bilinear(image[tf.newaxis, top : top + height, left : left + width], [size, size])[0]
    return image if parts.white == 255 else image * (parts.white / 255)


def _coloured(image: tf.Tensor, draws: Draws, augmentation: str, white: float) -> tf.Tensor:
    """Changes the colours of an image from 0 to ``white``; 'vgg' has no such change."""
    if augmentation == "vgg":
        return image
    brightness = draws.brightness * white
    if augmentation == "cifar":
        return tf.image.adjust_contrast(image + brightness, draws.contrast)
    # Adding 0 changes nothing, and costs less than a branch.
    image += tf.where(draws.brightness_first, brightness, 0.0)
    image = tf.image.adjust_saturation(image, draws.saturation)
    image += tf.where(draws.brightness_first, 0.0, brightness)
    return tf.clip_by_value(image, 0.0, white)
