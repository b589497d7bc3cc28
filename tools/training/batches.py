"""Makes the batches of a training in the graph, while the network computes the step before.

The images pass in epochs, each in an order of its own, and a batch may begin in one epoch and end in the next. The
images of a step and their augmentation follow from the seed and the step alone, so that a stopped training goes on with
the same ones.
"""

import functools

import numpy as np
import tensorflow as tf

from nets.augmentation import augment
from tools.errors import InputError
from tools.evaluation import Labelled
from tools.images.pipeline import batched
from tools.images.reading import read_image

__all__ = ["TrainingBatches"]

v1 = tf.compat.v1


class TrainingBatches:
    """Ops in the current graph that turn labelled images into batches, and the code that feeds them.

    Images that cannot be read or decoded are replaced by the next ones in the epoch's order.

    Args:
      preprocessing, size: of the network's input.
      batch_size: number of images of a step.
      augmentation, flip, color: see ``nets.augmentation.augment``.
      seed: of the order and the augmentation.
      threads: number of threads that decode; None for one for each core.

    Attributes:
      images: float32 [batch_size, size, size, channels], of the next step each time they are computed.
      classes: int64 [batch_size], theirs.
      failed: the images that could not be used so far (name → reason).
    """

    def __init__(
        self,
        preprocessing: str,
        size: int,
        batch_size: int,
        *,
        augmentation: str,
        flip: bool,
        color: bool,
        seed: int,
        threads: int | None = None,
    ) -> None:
        self._input = (preprocessing, size, augmentation)
        self._size, self._batch_size = size, batch_size
        self._augment = functools.partial(
            augment, preprocessing=preprocessing, augmentation=augmentation, size=size, flip=flip, color=color
        )
        self._seed = seed
        self._order = functools.lru_cache(2)(self._order_of)
        self.failed: dict[str, str] = {}
        self._unusable: set[int] = set()
        self._trouble: Exception | None = None
        with v1.name_scope("batches"):
            self._first, self._last = (v1.placeholder(tf.int64, [], name=name) for name in ("first", "last"))
            positions = tf.data.Dataset.range(self._first, self._last)
            iterator = v1.data.make_initializable_iterator(batched(positions, self._example, batch_size, threads))
            self._initializer = iterator.initializer
            self.images, self.classes = iterator.get_next()

    def begin(self, session: v1.Session, labelled: Labelled, first: int, last: int) -> None:
        """Starts with the batch of step ``first``, counted from 0; the last one is that of step ``last`` - 1.

        Args:
          session: of the graph.
          labelled: the images. Those without a class are left out.
        """
        self._inputs, self._rows, self._classes = labelled.inputs, labelled.rows, labelled.classes
        positions = {self._first: first * self._batch_size, self._last: last * self._batch_size}
        session.run(self._initializer, positions)

    def check(self) -> None:
        """Raises the error that kept images from being read, if there was one."""
        if self._trouble is not None:
            raise self._trouble

    def _example(self, position: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns the image at a position, which counts all images of all steps, and its class."""
        pixels, number = tf.numpy_function(self._read, [position], [tf.uint8, tf.int64])
        pixels.set_shape([None, None, 3])
        number.set_shape([])
        return self._augment(pixels, seed=tf.stack([tf.constant(self._seed, tf.int64), position])), number

    def _read(self, position: np.int64) -> tuple[np.ndarray, np.int64]:
        if self._trouble is None:
            try:
                return self._usable(*divmod(int(position), len(self._rows)))
            except Exception as error:  # which a TensorFlow op would wrap in its own
                self._trouble = error
        return np.zeros([self._size, self._size, 3], np.uint8), np.int64(0)

    def _usable(self, epoch: int, place: int) -> tuple[np.ndarray, np.int64]:
        """Returns the pixels and the class of the image at a place of an epoch, or of the next one that is usable."""
        order = self._order(epoch)
        for step in range(len(order)):
            row = int(order[(place + step) % len(order)])
            if row in self._unusable:
                continue
            status, pixels = read_image(self._inputs, row, *self._input)
            if status.error is None:
                return pixels, self._classes[row]
            self.failed[status.path] = status.error
            self._unusable.add(row)
        example, reason = next(iter(self.failed.items()))
        raise InputError(f"None of the {len(order):,} images can be used ({example}: {reason}): give others.")

    def _order_of(self, epoch: int) -> np.ndarray:
        generator = np.random.Generator(np.random.Philox([self._seed, epoch]))
        return generator.permutation(self._rows)
