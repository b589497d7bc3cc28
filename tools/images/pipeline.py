"""Makes batches of a network's input in the graph, while the network computes the batch before.

A ``tf.data`` pipeline decodes as many images at a time as there are cores, and is at most two batches ahead of the
network. So the network waits for files only if they are the slower part, and memory does not grow with their number.
``tools.images.decode`` decodes, because it reads more formats than TensorFlow and says what is wrong with an image.
``tools.images.fitting`` preprocesses where it can, because it is faster, and else ``nets.preprocessing``.
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

import numpy as np
import tensorflow as tf

from nets.preprocessing import preprocess
from tools.errors import InputError
from tools.images.fitting import FITTED, fit
from tools.images.inputs import Inputs
from tools.images.reading import ImageStatus, of_images, read_image
from tools.runtime.machine import cores

__all__ = ["ImagePipeline", "batched"]

v1 = tf.compat.v1

# Number of batches that wait for the network.
_AHEAD = 2


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
        if self._preprocessing in FITTED:
            fitted = tf.numpy_function(self._fitted, [index], tf.float32)
            fitted.set_shape([self._size, self._size, 3])
            return fitted
        pixels = tf.numpy_function(self._decode, [index], tf.uint8)
        pixels.set_shape([None, None, 3])
        return preprocess(pixels[tf.newaxis], self._preprocessing, self._size)[0]

    def _fitted(self, index: np.int64) -> np.ndarray:
        return fit(self._decode(index), self._preprocessing, self._size)

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
                computed = compute(fetched)
                numbers = range(start, min(start + batch_size, len(rows)))
                statuses = [self._statuses.pop(number) for number in numbers]
                yield statuses, of_images(statuses, computed, whole)
        finally:
            if run == self._run:
                # After an interrupt, images that are still queued are not decoded.
                self._inputs = None
