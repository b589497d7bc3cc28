"""Named features of images, from a checkpoint: the Python interface.

with FeatureExtractor("resnet_v2_50.ckpt", end_points=["block3", "global_pool"]) as extractor:
    features = extractor(images)          # uint8 [N, H, W, 3], or a list of paths

"""

import collections
import contextlib
import itertools
import os
import warnings
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self, TypeVar

import numpy as np
import tensorflow as tf

from checkpoints import diagnose, open_checkpoint, restore
from checkpoints.diagnosis import expected_input
from checkpoints.store import resolve
from nets import endpoint_info, guards, nets_factory
from nets.preprocessing import preprocess
from tools.images import ImageError, decode

__all__ = ["PRECISIONS", "FeatureBatch", "FeatureExtractor", "ImageStatus", "worth_optimizing"]

v1 = tf.compat.v1

PRECISIONS = ("float32", "bfloat16")

# Images for which optimizing the graph does not pay.
_FEW = 200

Given = TypeVar("Given")
Result = TypeVar("Result")

NetworkFn = Callable[[tf.Tensor], tuple[tf.Tensor, dict[str, tf.Tensor]]]


class ImageStatus(NamedTuple):
    """What became of one image file; width and height as decoded, None and an error where it was not."""

    path: str
    width: int | None
    height: int | None
    error: str | None


class FeatureBatch(NamedTuple):
    """Features of a few images: one row an image, of NaN where it could not be decoded."""

    statuses: list[ImageStatus]
    features: dict[str, np.ndarray]


class _Chosen(NamedTuple):
    """A network, and how it is to be restored.

    build: builds it for inference.
    scope: variable scope in the file.
    expected_input: (preprocessing, image size) that go with the weights; None where they are not known.
    convert_to: the number of classes that the file's are to be converted to.
    channels: of the images that the weights are for.
    """

    build: NetworkFn
    scope: str | None
    expected_input: tuple[str, int] | None = None
    convert_to: int | None = None
    channels: int = 3


class FeatureExtractor:
    """A restored network that turns images into the activations of its end points.

    What is None is read off the checkpoint, and can then be read here.

    Args:
      checkpoint: a path, as for ``checkpoints.open_checkpoint``, or a key of the catalog of published weights.
      end_points: names or aliases; the results carry them as they are given.
      net: name of a network of the table, which of several in the file chooses; or a function
        ``images -> (net, end_points)`` that builds one for inference, and needs ``image_size`` and ``preprocessing``.
      num_classes: of the network's logits; of 1001 classes 1000 drops the background, of 1000 1001 adds one.
      image_size: height and width of the network's input.
      preprocessing: 'vgg', 'inception', 'cifar', 'grayscale', or 'none' for float input that is taken as it is.
      precision: 'float32', or 'bfloat16' for convolutions in bfloat16 where the processor has AVX-512; the results
        are float32 in any case.
      batch_size: images computed at a time.
      scope, exclude, ema: as for ``checkpoints.restore``; the scope also chooses one of several networks.
      checkpoint_dir: folder of the downloaded checkpoints; see ``checkpoints.store.store_folder``.
      optimize_graph: whether TensorFlow optimizes the graph first: a third of a second, which it gives back after some
        two hundred images of a ResNet-50. bfloat16 needs it.

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
        end_points: Sequence[str],
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
        optimize_graph: bool = True,
    ) -> None:
        if isinstance(end_points, str) or not end_points:
            raise ValueError(f"end_points must be a list of at least one name, and is {end_points!r}.")
        if repeated := [name for name, count in collections.Counter(end_points).items() if count > 1]:
            raise ValueError(f"end_points names {repeated[0]!r} more than once.")
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, and is {batch_size}.")
        self.reader = open_checkpoint(resolve(checkpoint, checkpoint_dir))
        self.batch_size = batch_size
        self.precision = precision
        self.exclude = [exclude] if isinstance(exclude, str) else list(exclude)
        self.ema = ema
        chosen = self._choose_network(net, num_classes, image_size, preprocessing, scope)
        self.scope = chosen.scope
        graph = tf.Graph()
        with graph.as_default():
            self._build(chosen, end_points)
        own_warnings = self._warnings(chosen)
        for sentence in own_warnings:
            warnings.warn(sentence, guards.InferenceWarning, stacklevel=2)
        self._session = v1.Session(graph=graph, config=_session_config(precision, optimize_graph))
        try:
            self.report = restore(
                self._session,
                self.reader,
                scope=chosen.scope,
                exclude=self.exclude,
                ema=ema,
                num_classes=chosen.convert_to,
            )
            self._check_excluded()
        except BaseException:
            self._session.close()
            raise
        self.warnings = (*own_warnings, *self.report.warnings)

    def _choose_network(
        self,
        net: str | NetworkFn | None,
        num_classes: int | None,
        image_size: int | None,
        preprocessing: str | None,
        scope: str | None,
    ) -> "_Chosen":
        """Settles the network, its input, and how it is to be restored."""
        if callable(net):
            if image_size is None or preprocessing is None or num_classes is not None:
                raise ValueError("With a function as net, give image_size and preprocessing, and not num_classes.")
            self.net, self.num_classes = getattr(net, "__name__", "function"), None
            self.image_size, self.preprocessing = image_size, preprocessing
            return _Chosen(net, scope)
        found = diagnose(self.reader, scope=scope, net=net)
        network = found.identified() if net is None else nets_factory.get_network(net)
        known = found.network is network
        in_file = network.num_classes if found.num_classes is None else found.num_classes
        self.net = network.name
        self.num_classes = in_file if num_classes is None else num_classes
        expected = (found.preprocessing, found.image_size) if known else expected_input(network, in_file)
        self.preprocessing = expected[0] if preprocessing is None else preprocessing
        self.image_size = expected[1] if image_size is None else image_size
        build = nets_factory.get_network_fn(network.name, self.num_classes, is_training=False)
        arguments = found.builder_arguments if known else {}
        return _Chosen(
            lambda images: build(images, **arguments),
            scope=found.scope if known else scope,
            expected_input=expected,
            channels=(known and found.structure.channels) or network.channels,
            convert_to=self.num_classes if {in_file, self.num_classes} == {1000, 1001} else None,
        )

    def _warnings(self, chosen: "_Chosen") -> tuple[str, ...]:
        """What makes the features doubtful, a sentence each, but for what restoring finds."""
        found = []
        used = self.preprocessing, self.image_size
        # What was prepared elsewhere is its user's affair.
        if chosen.expected_input not in (None, used) and self.preprocessing != "none":
            preprocessing, size = chosen.expected_input
            found.append(
                f"The weights go with preprocessing {preprocessing} at {size}, and {used[0]} at {used[1]} was asked "
                "for: features and classes will be worse, unless the weights were trained so."
            )
        if sentence := guards.training_mode(self._images, list(self._features.values())):
            found.append(sentence)
        return tuple(found)

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

    def _build(self, chosen: "_Chosen", names: Sequence[str]) -> None:
        size = self.image_size
        raw_dtype = tf.float32 if self.preprocessing == "none" else tf.uint8
        # What decodes and preprocesses pictures makes colours of three channels; other input is taken as it is.
        self._channels = chosen.channels if self.preprocessing == "none" else 3
        self._pictures = v1.placeholder(raw_dtype, [None, None, None, self._channels], name="pictures")
        self._preprocessed = preprocess(self._pictures, self.preprocessing, size)
        # The network's input can be fed as well: with pictures of different sizes, preprocessed one by one.
        shape = [None, size, size, self._preprocessed.shape[-1]]
        self._images = v1.placeholder_with_default(self._preprocessed, shape, name="images")
        _, end_points = chosen.build(self._images)
        described = endpoint_info.describe(self._images, end_points, names)
        self.end_points = dict(zip(names, described, strict=True))
        self._features = {name: _without_unit_axes(point.tensor) for name, point in self.end_points.items()}

    @property
    def shapes(self) -> dict[str, tuple[int | None, ...]]:
        """From the end points' names to the shapes of one image's features."""
        return {name: tuple(tensor.shape.as_list()[1:]) for name, tensor in self._features.items()}

    def __call__(self, images: np.ndarray | Sequence[str | Path]) -> dict[str, np.ndarray]:
        """Computes the features of images.

        Args:
          images: uint8 [N, height, width, 3] (float with preprocessing 'none'), or a sequence of paths.

        Returns:
          From the end points' names, as they were asked for, to float32 [N, ...].

        Raises:
          ImageError: if a file cannot be decoded.
          ValueError: for an array of another shape or dtype.
        """
        if isinstance(images, str | Path):
            raise ValueError(f"images must be an array or a list of paths, and is the path {images}: give a list.")
        if not isinstance(images, np.ndarray):
            images = list(images)  # which may be an iterator, to be gone through once
        if isinstance(images, list) and any(isinstance(image, np.ndarray) for image in images):
            raise ValueError("images is a list of arrays: stack them into one, np.stack(images).")
        if isinstance(images, np.ndarray):
            batches = list(self._array_batches(images))
        else:
            batches = []
            for batch in self.batches(images):
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

    def _array_batches(self, images: np.ndarray) -> Iterator[dict[str, np.ndarray]]:
        expected = np.floating if self.preprocessing == "none" else np.uint8
        if images.ndim != 4 or images.shape[-1] != self._channels or not np.issubdtype(images.dtype, expected):
            wanted = "float" if expected is np.floating else "uint8"
            raise ValueError(
                f"images must be {wanted} [N, height, width, {self._channels}] with preprocessing "
                f"{self.preprocessing!r}, and is {images.dtype} {list(images.shape)}."
            )
        if self.preprocessing == "none" and images.shape[1:3] != (self.image_size, self.image_size):
            raise ValueError(
                f"Without preprocessing images must be {self.image_size}x{self.image_size}, "
                f"and are {images.shape[1]}x{images.shape[2]}: resize them, or set image_size."
            )
        for start in range(0, len(images), self.batch_size):
            yield self._compute({self._pictures: images[start : start + self.batch_size]})

    def batches(self, paths: Iterable[str | Path]) -> Iterator[FeatureBatch]:
        """Computes the features of image files, a batch at a time, in their order.

        All batches are computed at one size (``batch_size``, or the number of files where there are fewer), the last
        one filled up with zeros, so that a row does not depend on how many come after it. The files of the next
        batches are decoded while one is computed.
        """
        paths = [str(path) for path in paths]
        size = min(self.batch_size, len(paths))
        with (
            ThreadPoolExecutor(max_workers=os.cpu_count()) as pool,
            contextlib.closing(_ahead(pool, self._prepare, paths, ahead=size)) as prepared,
        ):
            while some := list(itertools.islice(prepared, size)):
                yield self._run(some, size)

    def _prepare(self, path: str) -> tuple[ImageStatus, np.ndarray | None]:
        """Decodes and preprocesses one file: its status, and float32 [1, size, size, channels] or None."""
        try:
            picture = decode(path)
        except ImageError as error:
            return ImageStatus(path, None, None, str(error)), None
        height, width = picture.shape[:2]
        if self.preprocessing == "none" and (height, width) != (self.image_size, self.image_size):
            error = f"the image is {width}x{height}, and without preprocessing must be {self.image_size} on each side"
            return ImageStatus(path, width, height, error), None
        try:
            image = self._session.run(self._preprocessed, {self._pictures: picture[np.newaxis]})
        except tf.errors.OpError as error:
            # A picture of one row and millions of columns, say, which vgg would scale up.
            reason = f"the image of {width}x{height} cannot be preprocessed ({error.message.splitlines()[0]})"
            return ImageStatus(path, width, height, reason), None
        return ImageStatus(path, width, height, None), image

    def _run(self, some: Sequence[tuple[ImageStatus, np.ndarray | None]], batch_size: int) -> FeatureBatch:
        images = np.zeros([batch_size, *self._images.shape[1:]], np.float32)
        for row, (_, image) in enumerate(some):
            if image is not None:
                images[row] = image
        features = self._compute({self._images: images})
        failed = [row for row, (_, image) in enumerate(some) if image is None]
        rows = {name: array[: len(some)] for name, array in features.items()}
        for array in rows.values():
            array[failed] = np.nan
        return FeatureBatch([status for status, _ in some], rows)

    def _compute(self, feeds: dict[tf.Tensor, np.ndarray]) -> dict[str, np.ndarray]:
        try:
            return self._session.run(self._features, feeds)
        except tf.errors.ResourceExhaustedError as error:
            reason = f"a batch of {self.batch_size} images at {self.image_size} does not fit"
            raise MemoryError(reason) from error

    def close(self) -> None:
        """Gives the network's memory back."""
        self._session.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


def worth_optimizing(num_images: int, precision: str) -> bool:
    """Whether ``optimize_graph`` of the extractor pays for so many images, or the precision needs it."""
    return num_images >= _FEW or precision != "float32"


def _without_unit_axes(tensor: tf.Tensor) -> tf.Tensor:
    """[N, 1, 1, channels] to [N, channels], float32; another shape as it is."""
    if tensor.shape.rank == 4 and tensor.shape.as_list()[1:3] == [1, 1]:
        tensor = tf.squeeze(tensor, [1, 2])
    return tf.cast(tensor, tf.float32)


def _ahead(
    pool: ThreadPoolExecutor, function: Callable[[Given], Result], inputs: Iterable[Given], ahead: int
) -> Generator[Result, None, None]:
    """As ``pool.map``, but never more than ``ahead`` results before what was asked for."""
    inputs = iter(inputs)
    waiting: collections.deque[Future[Result]] = collections.deque(
        pool.submit(function, given) for given in itertools.islice(inputs, ahead)
    )
    try:
        while waiting:
            result = waiting.popleft().result()
            waiting.extend(pool.submit(function, given) for given in itertools.islice(inputs, 1))
            yield result
    finally:
        # Where nobody wants them any more, as after an interrupt.
        for future in waiting:
            future.cancel()


def _session_config(precision: str, optimize_graph: bool) -> v1.ConfigProto:
    if precision not in PRECISIONS:
        raise ValueError(f"precision must be one of {', '.join(PRECISIONS)}, and is {precision!r}.")
    config = v1.ConfigProto()
    rewrites = config.graph_options.rewrite_options
    # A second pass finds nothing more in these graphs, and takes a tenth of a second.
    rewrites.meta_optimizer_iterations = rewrites.ONE
    rewrites.disable_meta_optimizer = not optimize_graph
    if precision == "bfloat16":
        if not optimize_graph:
            raise ValueError("precision='bfloat16' is the graph optimizer's work: leave optimize_graph at True.")
        if not _has_avx512():
            raise ValueError("precision='bfloat16' needs a processor with AVX-512, and this one has none: use float32.")
        rewrites.auto_mixed_precision_onednn_bfloat16 = rewrites.ON
    return config


def _has_avx512() -> bool:
    """Whether TensorFlow's oneDNN computes bfloat16 on this processor (on Linux; elsewhere it does not)."""
    cpuinfo = Path("/proc/cpuinfo")
    return cpuinfo.exists() and "avx512f" in cpuinfo.read_text()
