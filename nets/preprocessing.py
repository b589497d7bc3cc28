"""The preprocessing from images to network inputs, in the graph, as in the evaluation of research/slim.

A network computes well only with the preprocessing that its weights were trained with:

vgg        shorter side to round(256 * size / 224), central crop of size x size, minus the mean colour. For slim's
           published v1 weights, at 224.
inception  to [0, 1], central crop of 87.5 %, resized to size x size whatever the aspect ratio, then to [-1, 1]. For
           slim's published v2 weights, at 299.
cifar      central crop, or padding with zeros, to size x size, then zero mean and unit variance for each image.
torchvision  shorter side to round(256 * size / 224), antialiased, central crop of size x size, to [0, 1], minus the
           mean colour, divided by its deviation. For torchvision's ResNet-18 and 34, at 224.
grayscale  to grey levels in [0, 1], [batch, size, size, 1], resized whatever the aspect ratio. For scanned digits.
none       the same values, as float32.

Resizing is bilinear with legacy pixel centres (``align_corners=False`` of TensorFlow 1), which slim's weights saw in
training. ``tf.image.resize``, which torchvision's weights need, places pixels differently.

With ``portable=True``, TensorFlow Lite, ONNX Runtime and OpenVINO can run the graph too. All three lack
``ScaleAndTranslate``, the op of antialiased resizing. The first two lack ``ResizeBilinear`` of uint8, and for images of
a fixed size tf2onnx can make its result a pixel too small. The portable graph resizes by ``Gather`` and ``MatMul``. Its
values are the same but for rounding, which moves a few of torchvision's pixels by one level.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import tensorflow as tf

from nets.arguments import flag, is_number, whole_number

__all__ = [
    "PREPROCESSINGS",
    "Preprocessing",
    "aspect_preserving_size",
    "check_images",
    "check_preprocessing",
    "get_preprocessing",
    "preprocess",
    "resize_bilinear",
    "scaled_size",
]

v1 = tf.compat.v1

# RGB means of the ImageNet training set, from slim's vgg_preprocessing.
_VGG_MEANS = (123.68, 116.78, 103.94)
_VGG_RESIZE_SIDE, _VGG_CROP_SIDE = 256, 224
# RGB, for pixels in [0, 1], from torchvision's documentation of its weights.
_TORCHVISION_MEANS, _TORCHVISION_DEVIATIONS = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
# The central 87.5 % of a side leave a sixteenth on each end, rounded down.
_INCEPTION_MARGIN = 16


class Preprocessing(NamedTuple):
    """The two parts of a preprocessing. Training keeps the second, and may put an augmentation in place of the first.

    fit: takes uint8 images [batch, height, width, 3], a size, and whether the ops must be portable (False by default).
      Returns float32 images of this size.
    normalize: takes the result of ``fit``, or RGB images in the same range, and returns the network's input.
    white: the value of white in the result of ``fit``, where black is 0: 255 or 1.
    """

    fit: Callable[..., tf.Tensor]
    normalize: Callable[[tf.Tensor], tf.Tensor]
    white: float


def resize_bilinear(images: tf.Tensor, size: tf.Tensor | list[int], portable: bool = False) -> tf.Tensor:
    """Resizes to [batch, *size, channels], float32. ``tf.compat.v1.image`` would warn at each use."""
    if not portable:
        return tf.raw_ops.ResizeBilinear(images=images, size=size, align_corners=False, half_pixel_centers=False)
    height, width = tf.unstack(size)
    for length in (height, width):
        images = _swap_sides(_resize_height(_mix_neighbours, images, length))
    return images


def _resize_antialiased(images: tf.Tensor, size: tf.Tensor, portable: bool) -> tf.Tensor:
    """Resizes as Pillow does: antialiased, first the width and then the height, rounded to whole levels each time."""
    height, width = tf.unstack(size)
    if portable:
        for length in (width, height):
            images = _to_levels(_resize_height(_mix_triangles, _swap_sides(images), length))
        return images
    images = _to_levels(tf.image.resize(images, [tf.shape(images)[1], width], antialias=True))
    return _to_levels(tf.image.resize(images, size, antialias=True))


def _to_levels(images: tf.Tensor) -> tf.Tensor:
    return tf.floor(tf.clip_by_value(images, 0.0, 255.0) + 0.5)


def _swap_sides(images: tf.Tensor) -> tf.Tensor:
    return tf.transpose(images, [0, 2, 1, 3])


def _resize_height(mix: Callable[..., tf.Tensor], images: tf.Tensor, length: tf.Tensor) -> tf.Tensor:
    """Resizes the height by a function that makes ``length`` rows of all rows.

    The function gets [batch, height, values], because some runtimes are slow if the last axis is short.
    """
    batch, height, width, channels = tf.unstack(tf.shape(images))
    rows = mix(tf.reshape(images, [batch, height, width * channels]), height, length)
    return tf.reshape(rows, [batch, length, width, channels])


def _mix_neighbours(images: tf.Tensor, count: tf.Tensor, length: tf.Tensor) -> tf.Tensor:
    """Makes ``length`` rows of ``count``, each from two neighbours, at the float32 positions of ``ResizeBilinear``."""
    positions = tf.cast(tf.range(length), tf.float32) * _quotient(count, length)
    lower = tf.minimum(tf.cast(positions, tf.int32), count - 1)
    upper = tf.minimum(lower + 1, count - 1)
    share = tf.expand_dims(positions - tf.cast(lower, tf.float32), 1)
    first, second = (tf.cast(tf.gather(images, rows, axis=1), tf.float32) for rows in (lower, upper))
    return first + (second - first) * share


def _quotient(dividend: int | tf.Tensor, divisor: int | tf.Tensor) -> tf.Tensor:
    """Divides whole numbers below 4096, rounded correctly to float32, by every runtime.

    OpenVINO, and TensorFlow if the divisor is constant, multiply by the reciprocal. Their last bit may be wrong, which
    moves the pixels at the far end of an image by up to a twentieth of a level.
    """
    dividend, divisor = tf.cast(dividend, tf.float32), tf.cast(divisor, tf.float32)
    quotient = dividend / divisor
    # The products of the divisor with the two halves of the quotient's bits are exact, and so is the remainder.
    upper = tf.floor(quotient * 2048) / 2048
    return quotient + ((dividend - upper * divisor) - (quotient - upper) * divisor) / divisor


def _mix_triangles(images: tf.Tensor, count: tf.Tensor, length: tf.Tensor) -> tf.Tensor:
    """Makes ``length`` rows of ``count`` by a product with a matrix of weights, as ``ScaleAndTranslate`` weighs them.

    The weights of a row are a triangle around its centre. It ends at a distance of one row of the smaller image.
    """
    # In units of 1 / (2 * length) of a row, all of these are whole numbers. int32 holds them if length * count is less
    # than 2**30, and float32 holds sums of less than 2**24 exactly. A sum that is not halfway between two levels is at
    # least a half away from it. So with a quarter more every runtime rounds alike, however it divides.
    centres, rows = (2 * tf.range(length) + 1) * count, (2 * tf.range(count) + 1) * length
    weights = 2 * tf.maximum(count, length) - tf.abs(tf.expand_dims(centres, 1) - rows)
    weights = tf.cast(tf.maximum(weights, 0), tf.float32)
    sums = tf.matmul(weights, tf.cast(images, tf.float32))
    return (sums + 0.25) / tf.reduce_sum(weights, axis=1, keepdims=True)


def _to_unit_range(images: tf.Tensor) -> tf.Tensor:
    return tf.cast(images, tf.float32) * (1 / 255)


def aspect_preserving_size(shape: tf.Tensor, shorter_side: int | tf.Tensor) -> tf.Tensor:
    """Returns (height, width), int32, of an image of ``shape`` (height, width) scaled to have this shorter side."""
    height, width = tf.unstack(tf.cast(shape, tf.float32))
    scale = _quotient(shorter_side, tf.minimum(height, width))
    return tf.cast(tf.round(tf.stack([height * scale, width * scale])), tf.int32)


def _fit_vgg(images: tf.Tensor, size: int, portable: bool = False) -> tf.Tensor:
    resized = aspect_preserving_size(tf.shape(images)[1:3], round(_VGG_RESIZE_SIDE * size / _VGG_CROP_SIDE))
    top, left = tf.unstack((resized - size) // 2)
    return resize_bilinear(images, resized, portable)[:, top : top + size, left : left + size]


def _normalize_vgg(images: tf.Tensor) -> tf.Tensor:
    return images - tf.constant(_VGG_MEANS)


def _fit_inception(images: tf.Tensor, size: int, portable: bool = False) -> tf.Tensor:
    height, width = tf.unstack(tf.shape(images)[1:3])
    top, left = height // _INCEPTION_MARGIN, width // _INCEPTION_MARGIN
    images = _to_unit_range(images[:, top : height - top, left : width - left])
    return resize_bilinear(images, [size, size], portable)


def _normalize_inception(images: tf.Tensor) -> tf.Tensor:
    return (images - 0.5) * 2.0


def _fit_torchvision(images: tf.Tensor, size: int, portable: bool = False) -> tf.Tensor:
    shorter_side = round(_VGG_RESIZE_SIDE * size / _VGG_CROP_SIDE)
    sides = tf.shape(images)[1:3]
    resized = shorter_side * sides // tf.reduce_min(sides)
    images = _resize_antialiased(images, resized, portable)
    top, left = tf.unstack(tf.cast(tf.round(tf.cast(resized - size, tf.float32) / 2), tf.int32))
    return images[:, top : top + size, left : left + size]


def _normalize_torchvision(images: tf.Tensor) -> tf.Tensor:
    return (images / 255.0 - tf.constant(_TORCHVISION_MEANS)) / tf.constant(_TORCHVISION_DEVIATIONS)


def _fit_cifar(images: tf.Tensor, size: int, portable: bool = False) -> tf.Tensor:
    sides = tf.shape(images)[1:3]
    top, left = tf.unstack(tf.maximum(sides - size, 0) // 2)
    height, width = tf.unstack(tf.minimum(sides, size))
    images = tf.cast(images[:, top : top + height, left : left + width], tf.float32)
    channels = images.shape[-1]  # tf.pad loses it
    above, before = tf.unstack(tf.maximum(size - sides, 0) // 2)
    images = tf.pad(images, [[0, 0], [above, size - height - above], [before, size - width - before], [0, 0]])
    images.set_shape([None, size, size, channels])
    return images


def _fit_grayscale(images: tf.Tensor, size: int, portable: bool = False) -> tf.Tensor:
    return resize_bilinear(_normalize_grayscale(_to_unit_range(images)), [size, size], portable)


def _normalize_grayscale(images: tf.Tensor) -> tf.Tensor:
    """Converts RGB to grey levels, and leaves grey levels as they are."""
    return images if images.shape[-1] == 1 else tf.image.rgb_to_grayscale(images)


PREPROCESSINGS: dict[str, Preprocessing | None] = {
    "cifar": Preprocessing(_fit_cifar, tf.image.per_image_standardization, white=255.0),
    "grayscale": Preprocessing(_fit_grayscale, _normalize_grayscale, white=1.0),
    "inception": Preprocessing(_fit_inception, _normalize_inception, white=1.0),
    "none": None,
    "torchvision": Preprocessing(_fit_torchvision, _normalize_torchvision, white=255.0),
    "vgg": Preprocessing(_fit_vgg, _normalize_vgg, white=255.0),
}


def check_preprocessing(name: str, size: int) -> None:
    """Raises ValueError for an unknown name, or a size that is not a whole number of at least 1."""
    if not isinstance(name, str) or name not in PREPROCESSINGS:
        raise ValueError(f"Unknown preprocessing {name!r}: there is {', '.join(sorted(PREPROCESSINGS))}.")
    if is_number(size) and size < 1:
        raise ValueError(f"The image size must be at least 1, and is {size}.")
    whole_number("The image size", size, least=1)


def check_images(images: tf.Tensor, name: str) -> None:
    """Raises ValueError for images that are not uint8, which a preprocessing other than 'none' requires."""
    if images.dtype != tf.uint8:
        raise ValueError(
            f"Preprocessing {name!r} takes uint8 images, 0 to 255, and was given {images.dtype.name}: "
            "convert them, or use 'none' for input that needs no preprocessing."
        )


def preprocess(images: tf.Tensor, name: str, size: int, *, portable: bool = False) -> tf.Tensor:
    """Preprocesses a batch of images of one size.

    Args:
      images: [batch, height, width, 3], uint8, RGB; for 'none' any numeric dtype and any number of channels.
      name: 'vgg', 'inception', 'cifar', 'grayscale', 'torchvision' or 'none'.
      size: height and width of the result; with 'none' the images must already have this size.
      portable: whether to use only ops that TensorFlow Lite, ONNX Runtime and OpenVINO have too, which is slower.

    Returns:
      [batch, size, size, 3], or 1 channel with 'grayscale'; float32.

    Raises:
      ValueError: for an unknown name, a size below 1, images that are not uint8, or, if ``portable``, images of an
        unknown number of channels.
    """
    check_preprocessing(name, size)
    size, portable = int(size), flag("portable", portable)
    if tf.TensorShape(images.shape).rank not in (4, None):
        raise ValueError(f"images must be [batch, height, width, channels], and has shape {images.shape}.")
    with v1.name_scope("preprocessing"):
        preprocessing = PREPROCESSINGS[name]
        if preprocessing is None:
            images = tf.cast(images, tf.float32)
        else:
            check_images(images, name)
            images = preprocessing.normalize(preprocessing.fit(images, size, portable))
        batch, _, _, channels = images.shape.as_list()
        if portable:
            if channels is None:
                raise ValueError("portable=True requires images with a known number of channels: set their shape.")
            # Not ensure_shape, which TensorFlow Lite lacks. Every runtime learns the size of the result from this.
            return tf.reshape(images, [tf.shape(images)[0], size, size, channels])
        return tf.ensure_shape(images, [batch, size, size, channels])


def scaled_size(name: str, size: int, height: int, width: int) -> tuple[int, int]:
    """Returns (height, width) of the largest image between an image of ``height`` x ``width`` and the network's input.

    It determines the memory that is needed: 'vgg' and 'torchvision' scale the shorter side before they crop.
    """
    if name not in ("vgg", "torchvision"):
        return max(height, size), max(width, size)
    scale = round(_VGG_RESIZE_SIDE * size / _VGG_CROP_SIDE) / min(height, width)
    return round(height * scale), round(width * scale)


def get_preprocessing(name: str, size: int) -> Callable[[tf.Tensor], tf.Tensor]:
    """Returns ``preprocess`` for one name and size, a function of the images alone."""
    return functools.partial(preprocess, name=name, size=size)
