"""Runs a checkpoint's network in training mode: normalized by the statistics of each batch, as while it was trained.

Where these give much better results than inference, the stored moving statistics do not fit the weights.
"""

import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

import numpy as np
import tensorflow as tf

from checkpoints import CheckpointReader, open_checkpoint, restore
from nets.batch_statistics import BatchNorm, batch_norms
from nets.building import building
from nets.guards import InferenceWarning
from nets.preprocessing import check_preprocessing
from tools.errors import InputError
from tools.features.network_choice import choose_network
from tools.images import Inputs
from tools.images.pipeline import ImagePipeline
from tools.images.reading import ImageStatus, read_image
from tools.runtime.machine import cores
from tools.runtime.sessions import open_session, session_config

__all__ = ["BatchStatisticsNetwork", "StatisticsBatch", "batch_statistics_logits", "even_sizes", "mixed_rows"]

v1 = tf.compat.v1

_LOGITS = "logits"


class StatisticsBatch(NamedTuple):
    """The results of one batch.

    statuses: of its images.
    logits: float32 [batch, classes]; None if the network has none.
    statistics: mean and population variance of each batch norm's input in this batch, float32 [channels], by the names
      of the variables of the moving statistics.
    """

    statuses: list[ImageStatus]
    logits: np.ndarray | None
    statistics: dict[str, np.ndarray]


class BatchStatisticsNetwork:
    """A restored network in training mode. Dropout is off, and the stored moving statistics do not change.

    Arguments that are None are read from the checkpoint. Their values are attributes of the same names. ``doubt`` is a
    warning if the input is not the one that the weights were trained with, and else None; ``assumed`` is as for
    ``NetworkChoice``.

    Args:
      checkpoint: a path or a key, as for ``checkpoints.open_checkpoint``, or an open reader.
      net: name of a network, which also selects one of several in the file.
      num_classes, image_size, preprocessing, precision, scope, exclude, ema, checkpoint_dir, threads: as for
        ``FeatureExtractor``.
      batch_size: largest number of images in a batch.

    Raises:
      CheckpointError: if the checkpoint cannot be read, or does not fit the network.
      ValueError: for an argument that cannot be honoured.
    """

    def __init__(
        self,
        checkpoint: str | Path | CheckpointReader,
        *,
        net: str | None = None,
        num_classes: int | None = None,
        image_size: int | None = None,
        preprocessing: str | None = None,
        precision: str = "float32",
        batch_size: int = 32,
        scope: str | None = None,
        exclude: str | Sequence[str] = (),
        ema: bool = False,
        checkpoint_dir: str | Path | None = None,
        threads: int | None = None,
    ) -> None:
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, and is {batch_size}.")
        is_open = isinstance(checkpoint, CheckpointReader)
        self.reader = checkpoint if is_open else open_checkpoint(checkpoint, checkpoint_dir=checkpoint_dir)
        choice = choose_network(self.reader, net, num_classes, image_size, preprocessing, scope, is_training=True)
        check_preprocessing(choice.preprocessing, choice.image_size)
        if choice.channels != 3 and choice.preprocessing == "none":
            raise ValueError(
                f"Files are decoded to 3 channels, and {choice.name} takes {choice.channels}: choose a preprocessing."
            )
        self.net, self.num_classes, self.scope = choice.name, choice.num_classes, choice.scope
        self.image_size, self.preprocessing, self.assumed = choice.image_size, choice.preprocessing, choice.assumed
        self.batch_size, self.threads, self.doubt = batch_size, threads, choice.doubt
        config = session_config(precision, threads=threads)
        with tf.Graph().as_default() as graph, building():
            self._pipeline = ImagePipeline(self.preprocessing, self.image_size, threads)
            logits, _ = choice.build(self._pipeline.batch)
            self.batch_norms: tuple[BatchNorm, ...] = tuple(batch_norms(graph))
            self._logits = {_LOGITS: tf.cast(logits, tf.float32)} if self.num_classes else {}
        self._session = open_session(graph, config)
        try:
            with warnings.catch_warnings():
                # Faults of the moving statistics do not matter here.
                warnings.simplefilter("ignore", InferenceWarning)
                restored = {"scope": choice.scope, "exclude": exclude, "ema": ema, "num_classes": choice.convert_to}
                self.report = restore(self._session, self.reader, **restored)
        except BaseException:
            self._session.close()
            raise

    def readable(
        self, inputs: Inputs, rows: Sequence[int], advance: Callable[[int], None] = lambda count: None
    ) -> tuple[list[int], list[ImageStatus]]:
        """Reads and decodes images, and keeps those that can enter a batch.

        Args:
          inputs: the images.
          rows: numbers of the images.
          advance: called with the number of images just read.

        Returns:
          The numbers of the readable images in their order, and the statuses of the others.

        Raises:
          InputError: if the storage fails rather than a single image.
        """
        good, failed = [], []
        pool = ThreadPoolExecutor(self.threads or cores())
        try:
            # Without the pixels, which would fill the memory.
            statuses = pool.map(lambda row: read_image(inputs, row, self.preprocessing, self.image_size)[0], rows)
            for row, status in zip(rows, statuses, strict=True):
                if status.error is None:
                    good.append(row)
                else:
                    failed.append(status)
                advance(1)
        finally:
            pool.shutdown(cancel_futures=True)
        return good, failed

    def batches(self, inputs: Inputs, rows: Sequence[int]) -> Iterator[StatisticsBatch]:
        """Computes images in as few batches as possible, whose sizes differ by at most one.

        Args:
          inputs: the images.
          rows: numbers of the images, in the order of ``mixed_rows`` and all ``readable``.

        Raises:
          InputError: if an image cannot be read any more, because it would spoil the statistics of its batch.
          MemoryError: if a batch does not fit.
        """
        norms = {name: value for norm in self.batch_norms for name, value in _statistics(norm)}
        start = 0
        for size, count in even_sizes(len(rows), self.batch_size):
            part = rows[start : start + size * count]
            start += len(part)
            fetches = {**self._logits, **norms}
            try:
                for statuses, fetched in self._pipeline.batches(
                    self._session, fetches, inputs, part, size, whole=norms.keys()
                ):
                    _check(statuses)
                    yield StatisticsBatch(statuses, fetched.pop(_LOGITS, None), fetched)
            except tf.errors.ResourceExhaustedError as error:
                raise MemoryError(f"a batch of {size} images at {self.image_size} does not fit") from error

    def close(self) -> None:
        """Frees the network's memory."""
        self._session.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


def batch_statistics_logits(
    network: BatchStatisticsNetwork,
    inputs: Inputs,
    rows: Sequence[int],
    advance: Callable[[int], None] = lambda count: None,
) -> np.ndarray:
    """Returns the logits of images by the statistics of their batches, float32 [len(rows), classes].

    Args:
      network: a network with logits.
      inputs, rows: as for ``BatchStatisticsNetwork.batches``.
      advance: called with the number of images just computed.
    """
    logits = [np.empty([0, network.num_classes], np.float32)]
    advance(0)
    for batch in network.batches(inputs, rows):
        logits.append(batch.logits)
        advance(len(batch.statuses))
    return np.concatenate(logits)


def mixed_rows(count: int, limit: int | None = None, seed: int = 0) -> list[int]:
    """Returns the numbers of ``limit`` of ``count`` images, or of all, in an order that mixes the classes.

    A batch of a single class has other statistics than the batches of training.
    """
    return np.random.default_rng(seed).permutation(count)[:limit].tolist()


def even_sizes(count: int, batch_size: int) -> list[tuple[int, int]]:
    """Returns (size, number of batches) of the fewest batches of ``count`` images, whose sizes differ by at most one.

    The statistics of a last batch of a few images would be noise.
    """
    number = -(-count // batch_size)
    if not number:
        return []
    size, larger = divmod(count, number)
    return [(each, times) for each, times in ((size + 1, larger), (size, number - larger)) if times]


def _statistics(norm: BatchNorm) -> tuple[tuple[str, tf.Tensor], ...]:
    return (norm.moving_mean, norm.mean), (norm.moving_variance, norm.variance)


def _check(statuses: Sequence[ImageStatus]) -> None:
    for status in statuses:
        if status.error is not None:
            raise InputError(f"{status.path} cannot be read any more ({status.error}): leave the images as they are.")
