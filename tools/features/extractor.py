"""Named features of images, from a checkpoint: the Python interface.

with FeatureExtractor("resnet_v2_50.ckpt", end_points=["block3", "global_pool"]) as extractor:
    features = extractor(images)          # uint8 [N, H, W, 3], or a list of paths

"""

import collections
import functools
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

import numpy as np
import tensorflow as tf

from checkpoints import open_checkpoint, restore
from nets import endpoint_info, guards
from nets.building import building
from nets.preprocessing import check_preprocessing, preprocess
from tools.errors import ImageError
from tools.features.network_choice import NetworkChoice, NetworkFn, choose_network
from tools.images import Inputs
from tools.images.given import arrays_or_inputs, as_inputs
from tools.images.pipeline import ImagePipeline, ImageStatus
from tools.runtime.freezing import freeze as frozen_graph
from tools.runtime.freezing import import_frozen, worth_splitting
from tools.runtime.sessions import open_session, session_config

__all__ = ["POOLS", "FeatureBatch", "FeatureExtractor", "arithmetic", "freeze_for"]

v1 = tf.compat.v1

# How the height and width of an end point are reduced.
POOLS = {"none": None, "mean": tf.reduce_mean, "max": tf.reduce_max}

# Images of a ResNet-50 for which it does not pay that TensorFlow optimizes the graph, a third of a second; and from
# which on freezing does: some three seconds, for 5 ms less an image.
_FEW, _MANY = 200, 1000


class FeatureBatch(NamedTuple):
    """Features of a few images: one row an image, of NaN where it could not be decoded."""

    statuses: list[ImageStatus]
    features: dict[str, np.ndarray]


class FeatureExtractor:
    """A restored network that turns images into the activations of its end points.

    What is None is read off the checkpoint, and can then be read here.

    Args:
      checkpoint: a path, as for ``checkpoints.open_checkpoint``, or a key of the catalog of published weights.
      end_points: one or more names or aliases; the results carry them as they are given.
      net: name of a network of the table, which of several in the file chooses; or a function
        ``images -> (net, end_points)`` that builds one for inference, and needs ``image_size`` and ``preprocessing``.
      num_classes: of the network's logits; of 1001 classes 1000 drops the background, of 1000 1001 adds one.
      image_size: height and width of the network's input.
      preprocessing: 'vgg', 'inception', 'torchvision', 'cifar', 'grayscale', or 'none' for float input that is taken as
        it is.
      precision: 'float32'; 'bfloat16' for convolutions in bfloat16 where the processor has AVX-512; 'float16' on a GPU.
        The results are float32 in any case.
      batch_size: images computed at a time.
      pool: 'mean' or 'max' reduces end points [N, height, width, channels] to [N, channels], before they leave
        TensorFlow; 'none' leaves them as they are.
      scope, exclude, ema: as for ``checkpoints.restore``; the scope also chooses one of several networks.
      checkpoint_dir: folder of the downloaded checkpoints; see ``checkpoints.published.store.store_folder``.
      freeze: whether the weights become constants and the graph is optimized for them: some three seconds, which a
        ResNet-50 gives back in less than 1,000 images, and nine times the memory of its weights. None: once a call
        brings so many images. False: never, nor is the graph optimized, for the soonest start; unless the precision
        needs it.
      threads: that decode, and that compute; None for one a core.

    Raises:
      CheckpointError: if the checkpoint cannot be read, or does not fit the network.
      UnknownEndPointError: for an end point that the network does not have.
      ValueError: for any other argument that cannot be honoured.

    Warns:
      InferenceWarning: for what makes the features doubtful; ``warnings`` holds the sentences.
    """

    def __init__(
        self,
        checkpoint: str | Path,
        end_points: str | Sequence[str],
        *,
        net: str | NetworkFn | None = None,
        num_classes: int | None = None,
        image_size: int | None = None,
        preprocessing: str | None = None,
        precision: str = "float32",
        batch_size: int = 32,
        scope: str | None = None,
        exclude: str | Sequence[str] = (),
        ema: bool = False,
        checkpoint_dir: str | Path | None = None,
        pool: str = "none",
        freeze: bool | None = None,
        threads: int | None = None,
    ) -> None:
        end_points = [end_points] if isinstance(end_points, str) else list(end_points)
        if not end_points:
            raise ValueError(f"end_points must be a list of at least one name, and is {end_points!r}.")
        if repeated := [name for name, count in collections.Counter(end_points).items() if count > 1]:
            raise ValueError(f"end_points names {repeated[0]!r} more than once.")
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, and is {batch_size}.")
        if pool not in POOLS:
            raise ValueError(f"pool must be one of {', '.join(POOLS)}, and is {pool!r}.")
        self.reader = open_checkpoint(checkpoint, checkpoint_dir=checkpoint_dir)
        self.batch_size = batch_size
        self.precision = precision
        self.pool = pool
        self.threads = threads
        self.exclude = [exclude] if isinstance(exclude, str) else list(exclude)
        self.ema = ema
        choice = choose_network(self.reader, net, num_classes, image_size, preprocessing, scope)
        check_preprocessing(choice.preprocessing, choice.image_size)
        self.net, self.num_classes, self.scope = choice.name, choice.num_classes, choice.scope
        self.image_size, self.preprocessing = choice.image_size, choice.preprocessing
        self.options = dict(choice.options)
        # What decodes pictures makes colours of three channels; arrays without preprocessing are taken as they are.
        self._channels = choice.channels if self.preprocessing == "none" else 3
        self._freezes_for_many = freeze is None
        # The lower precisions are the optimizer's work.
        self._freeze_asked = freeze
        config = session_config(precision, optimize_graph=_is_optimized(precision, freeze), threads=threads)
        graph = tf.Graph()
        # The lock, since a function given as net may open arg scopes, which all threads share.
        with graph.as_default(), building():
            self._images = self._input()
            self._build(choice, end_points)
        own_warnings = [choice.doubt, guards.training_mode(self._images, list(self._features.values()))]
        self.warnings = tuple(sentence for sentence in own_warnings if sentence)
        for sentence in self.warnings:
            warnings.warn(sentence, guards.InferenceWarning, stacklevel=2)
        self._session = open_session(graph, config)
        try:
            self.report = restore(
                self._session,
                self.reader,
                scope=choice.scope,
                exclude=self.exclude,
                ema=ema,
                num_classes=choice.convert_to,
            )
            self._check_excluded()
            if freeze:
                self._freeze()
        except BaseException:
            self._session.close()
            raise
        self.warnings += self.report.warnings

    def _input(self) -> tf.Tensor:
        """The network's input: the next batch of files, where it is not fed."""
        if self._channels != 3:
            shape = [None, self.image_size, self.image_size, self._channels]
            return v1.placeholder(tf.float32, shape, name="images")
        self._pipeline = ImagePipeline(self.preprocessing, self.image_size, self.threads)
        batch = self._pipeline.images
        return v1.placeholder_with_default(batch, batch.shape, name="images")

    def _build(self, choice: NetworkChoice, names: Sequence[str]) -> None:
        _, end_points = choice.build(self._images)
        described = endpoint_info.describe(self._images, end_points, names)
        self.end_points = dict(zip(names, described, strict=True))
        self._features = {name: _reduced(point.tensor, self.pool) for name, point in self.end_points.items()}

    def _freeze_for(self, num_images: int) -> None:
        if self._freezes_for_many and num_images >= _MANY:
            self._freeze()

    def _freeze(self) -> None:
        """Puts the network with its weights as constants in the place of the one with variables."""
        graph_def = frozen_graph(self._session, list(self._features.values()), [self._images])
        self._session.close()
        graph = tf.Graph()
        with graph.as_default():
            images = self._input()
            outputs = [tensor.name for tensor in self._features.values()]
            split = worth_splitting(self.batch_size, self.threads)
            tensors = import_frozen(graph_def, {self._images.name: images}, outputs, split=split)
        self._images = images
        self._features = dict(zip(self._features, tensors, strict=True))
        self._session = open_session(graph, session_config(self.precision, frozen=True, threads=self.threads))
        self._freezes_for_many = False

    def _check_excluded(self) -> None:
        """Raises ValueError if an end point needs a variable that was excluded, and so has no value."""
        if not self.exclude:
            return
        needed = {op.name for op in guards.ancestors(self._features.values())}
        with self._session.graph.as_default():
            names = [variable.op.name for variable in v1.global_variables()]
        if without := [name for name in names if name in needed and name not in self.report.loaded]:
            raise ValueError(
                f"exclude={self.exclude!r} leaves {without[0]} without a value, which an end point needs: "
                "exclude less, or ask for end points before it."
            )

    @property
    def shapes(self) -> dict[str, tuple[int | None, ...]]:
        """From the end points' names to the shapes of one image's features."""
        return {name: tuple(tensor.shape.as_list()[1:]) for name, tensor in self._features.items()}

    def __call__(self, images: Any) -> dict[str, np.ndarray]:
        """Computes the features of images.

        Args:
          images: uint8 [N, height, width, 3] (float with preprocessing 'none'), one image without the first axis, or a
            list of images of any sizes; as arrays, tensors with values, or PIL images. Or as for ``batches``.

        Returns:
          From the end points' names, as they were asked for, to float32 [N, ...]; N is 1 for one image.

        Raises:
          ImageError: if a file cannot be decoded.
          ValueError: for an array of another shape or dtype, or what is no image.
        """
        given = arrays_or_inputs(images)
        if not isinstance(given, Inputs):
            batches = list(self._array_batches(given))
        else:
            batches = []
            for batch in self.batches(given):
                for status in batch.statuses:
                    if status.error is not None:
                        raise ImageError(f"{status.path}: {status.error}")
                batches.append(batch.features)
        return {
            name: np.concatenate([batch[name] for batch in batches])
            if batches
            else np.empty([0, *(size or 0 for size in self.shapes[name])], np.float32)
            for name in self._features
        }

    def _array_batches(self, images: np.ndarray | list[np.ndarray]) -> Iterator[dict[str, np.ndarray]]:
        if isinstance(images, np.ndarray):
            self._check_array(images)
        else:
            for image in images:
                self._check_array(image[np.newaxis])
        self._freeze_for(len(images))
        for start in range(0, len(images), self.batch_size):
            yield self._compute({self._images: self._preprocess(images[start : start + self.batch_size])})

    def _check_array(self, images: np.ndarray) -> None:
        """Raises ValueError if the network cannot be fed [N, height, width, channels] of this shape and dtype."""
        expected = np.floating if self.preprocessing == "none" else np.uint8
        shape = images.shape
        if images.ndim != 4 or shape[-1] != self._channels or not np.issubdtype(images.dtype, expected):
            wanted = "float" if expected is np.floating else "uint8"
            hint = ""
            if images.ndim == 4 and shape[1] == self._channels != shape[-1]:
                hint = " Its channels come first: transpose it by (0, 2, 3, 1)."
            elif expected is np.uint8 and np.issubdtype(images.dtype, np.floating):
                hint = " Give the pixels from 0 to 255 with astype('uint8'), or preprocessing='none' for your own."
            raise ValueError(
                f"images must be {wanted} [N, height, width, {self._channels}] with preprocessing "
                f"{self.preprocessing!r}, and is {images.dtype} {list(shape)}.{hint}"
            )
        if self.preprocessing == "none" and shape[1:3] != (self.image_size, self.image_size):
            raise ValueError(
                f"Without preprocessing images must be {self.image_size}x{self.image_size}, "
                f"and are {shape[1]}x{shape[2]}: resize them, or set image_size."
            )

    def _preprocess(self, images: np.ndarray | list[np.ndarray]) -> np.ndarray:
        if not isinstance(images, np.ndarray):  # of different sizes
            return np.concatenate([self._preprocess(image[np.newaxis]) for image in images])
        if self.preprocessing == "none":
            return images
        session, pictures, preprocessed = self._preprocessing
        return session.run(preprocessed, {pictures: images})

    @functools.cached_property
    def _preprocessing(self) -> tuple[v1.Session, tf.Tensor, tf.Tensor]:
        """For arrays, whose size differs from call to call: a session, what it is fed and what it gives."""
        with tf.Graph().as_default() as graph:
            pictures = v1.placeholder(tf.uint8, [None, None, None, 3])
            preprocessed = preprocess(pictures, self.preprocessing, self.image_size)
        return v1.Session(graph=graph), pictures, preprocessed

    def arithmetic(self, num_images: int) -> tuple[int, int]:
        """Returns what the last bits of this extractor's rows depend on; see ``arithmetic``."""
        return arithmetic(num_images, self.batch_size, self.precision, self._freeze_asked)

    def batches(
        self, pictures: Inputs | str | Path | Iterable[str | Path], rows: Sequence[int] | None = None
    ) -> Iterator[FeatureBatch]:
        """Computes the features of pictures, a batch at a time, in their order.

        All batches are computed at one size (``batch_size``, or the number of pictures where there are fewer, whichever
        rows are asked for), the last one filled up with zeros, so that a row does not depend on what comes after it.
        The pictures of the next batches are decoded while one is computed.

        Args:
          pictures: inputs, as ``tools.images.opening.open_inputs`` gives them, paths of image files, or a folder.
          rows: which of them; None for all.
        """
        if self._channels != 3:
            raise ValueError(f"Files are decoded to 3 channels, and {self.net} takes {self._channels}: give arrays.")
        inputs = as_inputs(pictures)
        rows = range(len(inputs)) if rows is None else rows
        self._freeze_for(len(inputs))
        size = min(self.batch_size, len(inputs))
        with self._memory_suffices():
            for statuses, fetched in self._pipeline.batches(self._session, self._features, inputs, rows, size):
                failed = [row for row, status in enumerate(statuses) if status.error is not None]
                features = {name: array[: len(statuses)] for name, array in fetched.items()}
                for array in features.values():
                    array[failed] = np.nan
                yield FeatureBatch(statuses, features)

    def _compute(self, feeds: dict[tf.Tensor, np.ndarray]) -> dict[str, np.ndarray]:
        with self._memory_suffices():
            return self._session.run(self._features, feeds)

    @contextmanager
    def _memory_suffices(self) -> Iterator[None]:
        try:
            yield
        except tf.errors.ResourceExhaustedError as error:
            reason = f"a batch of {self.batch_size} images at {self.image_size} does not fit"
            raise MemoryError(reason) from error

    def __repr__(self) -> str:
        points = ", ".join(f"{name} {list(shape)}" for name, shape in self.shapes.items())
        classes = "" if self.num_classes is None else f" of {self.num_classes} classes"
        return (
            f"<FeatureExtractor of {self.reader.path}: {self.net}{classes}, {self.preprocessing} at {self.image_size}, "
            f"{self.precision}: {points}>"
        )

    def close(self) -> None:
        """Gives the network's memory back."""
        self._session.close()
        if "_preprocessing" in vars(self):
            self._preprocessing[0].close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


def _is_optimized(precision: str, freeze: bool | None) -> bool:
    return freeze is not False or precision != "float32"


def arithmetic(num_images: int, batch_size: int, precision: str, freeze: bool | None) -> tuple[int, int]:
    """Returns what the last bits of a row depend on besides the image: rows of another arithmetic differ in them.

    Args:
      num_images: of the job.
      batch_size, precision, freeze: of the extractor that makes the rows.

    Returns:
      The size of the batches; and what TensorFlow makes of the graph, a number.
    """
    frozen = freeze or (freeze is None and num_images >= _MANY)
    return min(batch_size, num_images), 2 if frozen else int(_is_optimized(precision, freeze))


def freeze_for(num_images: int) -> bool | None:
    """What ``freeze`` of the extractor is best for so many images in all."""
    if num_images < _FEW:
        return False
    return True if num_images >= _MANY else None


def _reduced(tensor: tf.Tensor, pool: str) -> tf.Tensor:
    """float32; [N, height, width, channels] pooled, and [N, 1, 1, channels] to [N, channels]."""
    if tensor.shape.rank == 4:
        if POOLS[pool] is not None:
            # In float32, whatever precision the optimizer gives the network.
            tensor = POOLS[pool](tf.cast(tensor, tf.float32), axis=[1, 2])
        elif tensor.shape.as_list()[1:3] == [1, 1]:
            tensor = tf.squeeze(tensor, [1, 2])
    return tf.cast(tensor, tf.float32)
