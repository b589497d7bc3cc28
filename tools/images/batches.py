"""Makes batches of a network's input in NumPy, while an engine computes the batch before. No TensorFlow is imported."""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np

from tools.images.fitting import fit
from tools.images.inputs import Inputs
from tools.images.reading import ImageStatus, of_images, read_image
from tools.runtime.machine import cores

__all__ = ["ArrayPipeline"]

# Number of batches that wait for the engine.
_AHEAD = 2


class ArrayPipeline:
    """Threads that read, decode and preprocess images.

    Args:
      preprocessing: a name in ``tools.images.fitting.FITTED``. With 'none' the images must have the network's size.
      size: height and width of the network's input.
      threads: number of threads; None for one for each core.
    """

    def __init__(self, preprocessing: str, size: int, threads: int | None = None) -> None:
        self._preprocessing, self._size, self._threads = preprocessing, size, threads or cores()

    def batches(
        self,
        inputs: Inputs,
        rows: Sequence[int],
        batch_size: int,
        compute: Callable[[np.ndarray], dict[str, np.ndarray]],
    ) -> Iterator[tuple[list[ImageStatus], dict[str, np.ndarray]]]:
        """Computes one batch of images after the other.

        Args:
          inputs: the images.
          rows: numbers of the images to take.
          batch_size: of every batch. The last one is filled with zeros.
          compute: function from float32 [batch, size, size, 3] to arrays by name, with a row for each image. The
            batch is used again.

        Yields:
          The statuses of a batch's images, and an array by name with a row for each. Rows of failed images are NaN.

        Raises:
          InputError: if the storage fails rather than a single image.
        """
        starts = range(0, len(rows), batch_size)
        memory = [np.zeros([batch_size, self._size, self._size, 3], np.float32) for _ in starts[: _AHEAD + 1]]
        waiting: deque[list[Future[ImageStatus]]] = deque()
        with ThreadPoolExecutor(self._threads, "images") as pool:

            def begin(number: int) -> None:
                numbers, batch = rows[starts[number] : starts[number] + batch_size], memory[number % len(memory)]
                waiting.append([pool.submit(self._put, inputs, row, batch[i]) for i, row in enumerate(numbers)])

            try:
                for number in range(min(_AHEAD, len(starts))):
                    begin(number)
                for number in range(len(starts)):
                    if number + _AHEAD < len(starts):
                        begin(number + _AHEAD)
                    statuses = [future.result() for future in waiting.popleft()]
                    batch = memory[number % len(memory)]
                    batch[len(statuses) :] = 0
                    yield statuses, of_images(statuses, compute(batch))
            finally:
                # After an interrupt, images that are still queued are not decoded.
                pool.shutdown(cancel_futures=True)

    def _put(self, inputs: Inputs, row: int, place: np.ndarray) -> ImageStatus:
        """Puts the network's input of an image in its place; zeros if it has failed."""
        status, pixels = read_image(inputs, row, self._preprocessing, self._size)
        if status.error is None:
            place[:] = fit(pixels, self._preprocessing, self._size)
        else:
            place[:] = 0
        return status
