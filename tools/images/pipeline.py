"""Makes batches of a network's input in the graph, while the network computes the batch before.

A ``tf.data`` pipeline decodes as many images at a time as there are cores, and is at most two batches ahead of the
network. So the network waits for files only if they are the slower part, and memory does not grow with their number.
``tools.images.decode`` decodes, because it reads more formats than TensorFlow and says what is wrong with an image.
``nets.preprocessing`` preprocesses.
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import tensorflow as tf
from PIL import Image

from nets.augmentation import largest_size
from nets.preprocessing import preprocess
from tools.errors import ImageError, InputError
from tools.images.decoding import decode
from tools.images.inputs import Inputs, Stamp, sha256_of
from tools.runtime.machine import cores

__all__ = ["ImagePipeline", "ImageStatus", "batched", "read_image"]

v1 = tf.compat.v1

# Number of batches that wait for the network.
_AHEAD = 2


class ImageStatus(NamedTuple):
    """The result of reading and decoding one image.

    path: its name.
    width, height: as decoded; None if it was not.
    error: why it failed; None if it did not.
    label: its class; '' if it has none.
    stamp, sha256: identify its content, see ``tools.images.inputs``; None and b"" if it could not be read.
    """

    path: str
    width: int | None
    height: int | None
    error: str | None
    label: str = ""
    stamp: Stamp | None = None
    sha256: bytes = b""


def read_image(
    inputs: Inputs, row: int, preprocessing: str, size: int, augmentation: str = "none"
) -> tuple[ImageStatus, np.ndarray | None]:
    """Reads and decodes an image for a network's input.

    Args:
      inputs: the images.
      row: number of the image.
      preprocessing, size, augmentation: of the network's input, which not every image can be made to.

    Returns:
      Its status, and its pixels, uint8 [height, width, 3]; None if it cannot be decoded.

    Raises:
      InputError: if the storage fails rather than a single image.
    """
    name = inputs.name(row)
    try:
        image = inputs.read(row)
    except ImageError as error:
        return ImageStatus(name, None, None, str(error)), None
    identity = (image.label, image.stamp, sha256_of(name, image))
    try:
        pixels = decode(image.data)
    except ImageError as error:
        return ImageStatus(image.name, None, None, str(error), *identity), None
    height, width = pixels.shape[:2]
    refusal = _why_not_preprocessed(preprocessing, size, augmentation, height, width)
    return ImageStatus(image.name, width, height, refusal, *identity), pixels


def _why_not_preprocessed(preprocessing: str, size: int, augmentation: str, height: int, width: int) -> str | None:
    """Returns the reason why an image of this size cannot be preprocessed; None if it can."""
    if preprocessing == "none" and (height, width) != (size, size):
        return f"the image is {width}x{height}, and without preprocessing must be {size} on each side"
    scaled_height, scaled_width = largest_size(preprocessing, augmentation, size, height, width)
    # For example one row with millions of columns, because vgg enlarges the shorter side.
    if scaled_height * scaled_width > Image.MAX_IMAGE_PIXELS:
        return (
            f"the image of {width}x{height} cannot be preprocessed: {preprocessing} at {size} would scale it to "
            f"{scaled_width}x{scaled_height}"
        )
    return None


def batched(
    numbers: tf.data.Dataset, example: Callable, batch_size: tf.Tensor | int, threads: int | None = None
) -> tf.data.Dataset:
    """Returns batches that are made while the network computes the ones before.

    Args:
      numbers: of the images.
      example: function from a number to tensors, which go into a batch.
      batch_size: of every batch; numbers that do not fill one are dropped.
      threads: number of threads that make images; None for one for each core.
    """
    # AutoGraph would take a tenth of a second, and there is nothing to rewrite.
    example = tf.autograph.experimental.do_not_convert(example)
    dataset = numbers.map(example, num_parallel_calls=threads or cores(), deterministic=True)
    dataset = dataset.batch(batch_size, drop_remainder=True).prefetch(_AHEAD)
    options = tf.data.Options()
    # Separate threads, so that decoding does not queue behind the network's ops.
    options.threading.private_threadpool_size = threads or cores()
    options.threading.max_intra_op_parallelism = 1
    # There is nothing to optimize, and trying takes time at each start.
    options.experimental_optimization.apply_default_optimizations = False
    options.autotune.enabled = False
    return dataset.with_options(options)


class ImagePipeline:
    """Ops in the current graph that turn images into batches, and the code that feeds them.

    Args:
      preprocessing: name of the preprocessing. With 'none' the images must have the network's size.
      size: height and width of the network's input.
      threads: number of threads that decode; None for one for each core.

    Attributes:
      batch: float32 [batch, size, size, channels], the next one each time it is computed.
    """

    def __init__(self, preprocessing: str, size: int, threads: int | None = None) -> None:
        self._preprocessing = preprocessing
        self._size = size
        self._inputs: Inputs | None = None
        self._rows = range(0)
        self._trouble: InputError | None = None
        self._statuses: dict[int, ImageStatus] = {}
        self._run = 0
        with v1.name_scope("pipeline"):
            self._count = v1.placeholder(tf.int64, [], name="count")
            self._batch_size = v1.placeholder(tf.int64, [], name="batch_size")
            dataset = batched(tf.data.Dataset.range(self._count), self._image, self._batch_size, threads)
            iterator = v1.data.make_initializable_iterator(dataset)
            self._initializer = iterator.initializer
            self.batch = iterator.get_next()

    def _image(self, index: tf.Tensor) -> tf.Tensor:
        pixels = tf.numpy_function(self._decode, [index], tf.uint8)
        pixels.set_shape([None, None, 3])
        return preprocess(pixels[tf.newaxis], self._preprocessing, self._size)[0]

    def _decode(self, index: np.int64) -> np.ndarray:
        """Returns the pixels of an image; black if it has failed, and after the last image."""
        inputs, rows = self._inputs, self._rows
        if inputs is not None and index < len(rows) and self._trouble is None:
            try:
                status, pixels = read_image(inputs, rows[index], self._preprocessing, self._size)
            except InputError as error:  # which a TensorFlow op cannot raise
                self._trouble = error
            else:
                self._statuses[int(index)] = status
                if status.error is None:
                    return pixels
        return np.zeros([self._size, self._size, 3], np.uint8)

    def batches(
        self,
        session: v1.Session,
        fetches: Mapping[str, tf.Tensor],
        inputs: Inputs,
        rows: Sequence[int],
        batch_size: int,
        *,
        whole: Collection[str] = (),
        compute: Callable[[dict[str, np.ndarray]], dict[str, np.ndarray]] = lambda fetched: fetched,
    ) -> Iterator[tuple[list[ImageStatus], dict[str, np.ndarray]]]:
        """Computes tensors that depend on ``batch`` for one batch of images after the other.

        Args:
          session: of the graph.
          fetches: float tensors by name, [batch, ...] except for those in ``whole``.
          inputs: the images.
          rows: numbers of the images to take.
          batch_size: of every batch. The last one is filled with black images.
          whole: names of tensors that describe a batch as a whole, such as statistics.
          compute: function from what was fetched to the arrays in its place, while the next images are decoded.

        Yields:
          The statuses of a batch's images, and an array by name with a row for each. Rows of failed images are NaN.
          The arrays in ``whole`` are those of the filled batch, failed images included.

        Raises:
          InputError: if the storage fails rather than a single image.
          RuntimeError: if another call has begun meanwhile.
        """
        if not rows:
            return
        self._run += 1
        run = self._run
        self._inputs, self._rows, self._statuses, self._trouble = inputs, rows, {}, None
        count = -(-len(rows) // batch_size) * batch_size
        session.run(self._initializer, {self._count: count, self._batch_size: batch_size})
        try:
            for start in range(0, len(rows), batch_size):
                if run != self._run:
                    raise RuntimeError("These batches ended when others were begun: use them one after another.")
                fetched = session.run(fetches)
                if self._trouble is not None:
                    raise self._trouble
                fetched = compute(fetched)
                numbers = range(start, min(start + batch_size, len(rows)))
                statuses = [self._statuses.pop(number) for number in numbers]
                failed = [row for row, status in enumerate(statuses) if status.error is not None]
                for name in fetched.keys() - {*whole}:
                    fetched[name] = fetched[name][: len(statuses)]
                    fetched[name][failed] = np.nan
                yield statuses, fetched
        finally:
            if run == self._run:
                # After an interrupt, images that are still queued are not decoded.
                self._inputs = None
