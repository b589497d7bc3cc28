"""Batches of a network's input, made in the graph while the network computes the batch before.

A ``tf.data`` pipeline decodes as many images at a time as there are cores, and is at most two batches ahead of the
network. So the network waits for files only if they are the slower part, and memory does not grow with their number.
``tools.images.decode`` decodes, since it reads more kinds of images than TensorFlow does and says what is wrong with
one; ``nets.preprocessing`` preprocesses.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf
from PIL import Image

from nets.preprocessing import preprocess, scaled_size
from tools.errors import ImageError, InputError
from tools.images.decoding import decode
from tools.images.inputs import Inputs, Stamp, sha256_of
from tools.runtime.machine import cores

__all__ = ["ImagePipeline", "ImageStatus"]

v1 = tf.compat.v1

# Batches that wait for the network.
_AHEAD = 2


class ImageStatus(NamedTuple):
    """What became of one picture; width and height as decoded, None and an error where it was not.

    stamp, sha256: that tell it from others, see ``tools.images.inputs``; None where it could not be read.
    """

    path: str
    width: int | None
    height: int | None
    error: str | None
    label: str = ""
    stamp: Stamp | None = None
    sha256: bytes = b""


class ImagePipeline:
    """Ops of the current graph that turn pictures into batches, and what feeds them.

    Args:
      preprocessing: its name; with 'none' the pictures must have the size.
      size: height and width of the images.
      threads: that decode; None for one a core.

    Attributes:
      images: float32 [batch, size, size, channels]: each time it is computed, the next batch of ``batches``.
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
            dataset = tf.data.Dataset.range(self._count)
            # Rewriting Python as a graph would take a tenth of a second, and there is nothing to rewrite.
            image = tf.autograph.experimental.do_not_convert(self._image)
            dataset = dataset.map(image, num_parallel_calls=threads or cores(), deterministic=True)
            dataset = dataset.batch(self._batch_size, drop_remainder=True).prefetch(_AHEAD)
            options = tf.data.Options()
            # Threads of its own, so that decoding does not stand in the line of the network's ops.
            options.threading.private_threadpool_size = threads or cores()
            options.threading.max_intra_op_parallelism = 1
            # Nothing is left to optimize, and trying to takes time at each start.
            options.experimental_optimization.apply_default_optimizations = False
            options.autotune.enabled = False
            iterator = v1.data.make_initializable_iterator(dataset.with_options(options))
            self._initializer = iterator.initializer
            self.images = iterator.get_next()

    def _image(self, index: tf.Tensor) -> tf.Tensor:
        picture = tf.numpy_function(self._decode, [index], tf.uint8)
        picture.set_shape([None, None, 3])
        return preprocess(picture[tf.newaxis], self._preprocessing, self._size)[0]

    def _decode(self, index: np.int64) -> np.ndarray:
        """uint8 [height, width, 3] of a picture; black where it has failed, and after the last one."""
        inputs, rows = self._inputs, self._rows
        if inputs is not None and index < len(rows) and self._trouble is None:
            try:
                status, picture = self._read(inputs, rows[index])
            except InputError as error:  # which no TensorFlow op could raise
                self._trouble = error
            else:
                self._statuses[int(index)] = status
                if status.error is None:
                    return picture
        return np.zeros([self._size, self._size, 3], np.uint8)

    def _read(self, inputs: Inputs, row: int) -> tuple[ImageStatus, np.ndarray | None]:
        name = inputs.name(row)
        try:
            found = inputs.read(row)
        except ImageError as error:
            return ImageStatus(name, None, None, str(error)), None
        told_by = (found.label, found.stamp, sha256_of(name, found))
        try:
            picture = decode(found.data)
        except ImageError as error:
            return ImageStatus(found.name, None, None, str(error), *told_by), None
        height, width = picture.shape[:2]
        cannot = self._cannot_be_preprocessed(height, width)
        return ImageStatus(found.name, width, height, cannot, *told_by), picture

    def _cannot_be_preprocessed(self, height: int, width: int) -> str | None:
        """The reason why a picture of that size cannot be; None where it can."""
        if self._preprocessing == "none" and (height, width) != (self._size, self._size):
            return f"the image is {width}x{height}, and without preprocessing must be {self._size} on each side"
        scaled_height, scaled_width = scaled_size(self._preprocessing, self._size, height, width)
        # A picture of one row and millions of columns, say, of which vgg scales the shorter side up.
        if scaled_height * scaled_width > Image.MAX_IMAGE_PIXELS:
            return (
                f"the image of {width}x{height} cannot be preprocessed: {self._preprocessing} at {self._size} would "
                f"scale it to {scaled_width}x{scaled_height}"
            )
        return None

    def batches(
        self, session: v1.Session, fetches: Any, inputs: Inputs, rows: range, batch_size: int
    ) -> Iterator[tuple[list[ImageStatus], Any]]:
        """Runs ``fetches``, which depend on ``images``, for each batch of pictures; the last one is filled up.

        Args:
          session: of the graph.
          fetches: as for ``session.run``.
          inputs, rows: the pictures, and which of them.
          batch_size: of every batch.

        Yields:
          The statuses of a batch's pictures, fewer than ``batch_size`` in the last one; and what was fetched.

        Raises:
          InputError: if not one picture but where they lie is the trouble.
          RuntimeError: if it is gone on with after another call has begun.
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
                    raise RuntimeError("These batches ended when others were begun: go through them one after another.")
                fetched = session.run(fetches)
                if self._trouble is not None:
                    raise self._trouble
                numbers = range(start, min(start + batch_size, len(rows)))
                yield [self._statuses.pop(number) for number in numbers], fetched
        finally:
            if run == self._run:
                # Whatever is still under way, after an interrupt, is not decoded any more.
                self._inputs = None
