"""Computes named features of images with a checkpoint.

with FeatureExtractor("resnet_v2_50.ckpt", end_points=["block3", "global_pool"]) as extractor:
    features = extractor(images)          # uint8 [N, H, W, 3], or a list of paths
"""

import functools
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Unpack

import numpy as np
import tensorflow as tf

from checkpoints import CheckpointReader, open_checkpoint, restore
from checkpoints.opening import reader_of
from checkpoints.restoring.assignment import assign
from nets import endpoint_info, guards
from nets.building import building
from nets.preprocessing import check_preprocessing, preprocess
from tools.errors import ImageError
from tools.features.computing import TENSORFLOW, EngineOptions, FeatureBatch
from tools.features.computing.arithmetic import arithmetic, is_optimized, worth_freezing
from tools.features.computing.end_points import checked, reduced
from tools.features.computing.engine_user import EngineUser
from tools.features.network_choice import (
    DEFAULTS,
    ENGINE_OPTIONS,
    ExtractorOptions,
    NetworkChoice,
    NetworkFn,
    choose_network,
)
from tools.images import Inputs
from tools.images.given import arrays_or_inputs, as_inputs, check_array
from tools.images.pipeline import ImagePipeline
from tools.runtime.freezing import FrozenNetwork, import_frozen, import_with_variables, worth_splitting
from tools.runtime.freezing import freeze as frozen_graph
from tools.runtime.machine import release_memory
from tools.runtime.records import versions_of
from tools.runtime.sessions import open_session, session_config

__all__ = ["FeatureExtractor"]

v1 = tf.compat.v1


class FeatureExtractor(EngineUser):
    """A restored network that turns images into the activations of its end points.

    Arguments that are None are read from the checkpoint. Their values are attributes of the same names. ``labels`` are
    the names of the classes, None if the notes on the weights do not tell them. ``session``, ``graph``, ``images`` and
    ``tensor(name)`` are the ways into the network.

    Args:
      checkpoint: a path, as for ``checkpoints.open_checkpoint``, or a key of the catalog of published weights.
      end_points: one or more names or aliases, which are also the keys of the results; None for the network's first
        one, for those who look at others by ``tensor``.
      net: name of a network, which also selects one of several in the file; or a function
        ``images -> (net, end_points)`` that builds one for inference, or its name 'module:function', which require
        ``image_size`` and ``preprocessing``.
      num_classes: of the network's logits. 1000 drops the background class of 1001, and 1001 adds one to 1000.
      image_size: height and width of the network's input.
      preprocessing: 'vgg', 'inception', 'torchvision', 'cifar', 'grayscale', or 'none' for float input that is not
        changed.
      precision: 'float32'; 'bfloat16' for convolutions in bfloat16 on a processor with AVX-512; 'float16' on a GPU;
        'int8' for whole numbers of 8 bits in another engine. Results are always float32.
      batch_size: number of images computed at a time.
      pool: 'mean' or 'max' reduces end points [N, height, width, channels] to [N, channels] inside TensorFlow; 'none'
        does not.
      scope, exclude, ema: as for ``checkpoints.restore``; the scope also selects one of several networks.
      checkpoint_dir: folder of downloaded checkpoints; see ``checkpoints.published.store.store_folder``.
      freeze: whether batch norms are folded into the weights and the graph is optimized for that. It takes some three
        seconds, which pays off from about 1,000 images of a ResNet-50. None: at the first call with that many images.
        False: neither freeze nor optimize, for the fastest start, unless the precision requires it.
      threads: number of threads that decode, and that compute; None for one for each core.
      engine: 'tensorflow'; 'openvino' or 'onnxruntime', whose model of the network is made from TensorFlow's, held
        against it on images of the first job, and kept; 'auto' for the fastest of those that are installed, which a job
        of 4,000 images or more finds out.
      calibrate: number of images of the job from which int8 takes the ranges of values.
      min_cosine: for bfloat16 and int8 in another engine, the least mean cosine between each end point and
        TensorFlow's in float32, after the mean of all images was taken from both.
      engine_dir: folder of the engines' models; None for that of the variable SLIMNETS_ENGINES, or the user's cache.
      engine_model: folder of a model that an extractor with these arguments has made; None to find or make one.

    Raises:
      CheckpointError: if the checkpoint cannot be read, or does not fit the network.
      TypeError: for an unknown argument.
      UnknownEndPointError: for an end point that the network does not have.
      ValueError: for any other argument that cannot be honoured.

    Warns:
      InferenceWarning: if the features are doubtful. The sentences are also in ``warnings``.
    """

    def __init__(
        self,
        checkpoint: str | Path,
        end_points: str | Sequence[str] | None,
        *,
        net: str | NetworkFn | None = None,
        num_classes: int | None = None,
        image_size: int | None = None,
        preprocessing: str | None = None,
        precision: str = "float32",
        batch_size: int = 32,
        **options: Unpack[ExtractorOptions],
    ) -> None:
        for name in options:
            if name not in DEFAULTS:
                raise TypeError(f"FeatureExtractor() got an unexpected keyword argument {name!r}")
        options = {**DEFAULTS, **options}
        end_points = checked(end_points, batch_size, options["pool"])
        self.reader = open_checkpoint(checkpoint, checkpoint_dir=options["checkpoint_dir"])
        self.batch_size, self.precision = batch_size, precision
        self.pool, self.threads, self.ema = options["pool"], options["threads"], options["ema"]
        self.exclude = [options["exclude"]] if isinstance(options["exclude"], str) else list(options["exclude"])
        self._freeze_asked = options["freeze"]
        self._ask(EngineOptions(precision=precision, **{name: options[name] for name in ENGINE_OPTIONS}))
        if self._freeze_asked and self.engine != TENSORFLOW:
            raise ValueError(
                f"freeze=True applies only to engine='tensorflow', and engine is {self.engine!r}: omit it."
            )
        choice = choose_network(self.reader, net, num_classes, image_size, preprocessing, options["scope"])
        check_preprocessing(choice.preprocessing, choice.image_size)
        self.net, self.num_classes, self.scope = choice.name, choice.num_classes, choice.scope
        self.image_size, self.preprocessing, self.assumed = choice.image_size, choice.preprocessing, choice.assumed
        self.labels, self.options = choice.labels, dict(choice.options)
        # Decoded files have three channels. Arrays without preprocessing have those of the network.
        self._channels = choice.channels if self.preprocessing == "none" else 3
        # Before the graph is built, since it raises if TensorFlow does not compute the precision. As the reference of
        # another engine it computes in float32.
        in_session = precision if self.engine == TENSORFLOW else "float32"
        optimize = self.engine == TENSORFLOW and is_optimized(precision, options["freeze"])
        config = session_config(in_session, optimize_graph=optimize, threads=self.threads)
        graph = self._build(choice, end_points)
        doubts = [choice.doubt, guards.training_mode(self._batch, list(self._features.values()))]
        self._doubts = tuple(sentence for sentence in doubts if sentence)
        for sentence in self._doubts:
            warnings.warn(sentence, guards.InferenceWarning, stacklevel=2)
        self._session = open_session(graph, config)
        self._restored = {"scope": choice.scope, "exclude": self.exclude, "ema": self.ema}
        self._restored["num_classes"] = choice.convert_to
        if choice.cut_off:
            self._restored["variables"] = self._variables_of(list(self._features.values()))
        # The name of a function does not tell what it builds.
        self.engine_key = self._key(choice) if choice.expected_input else None
        try:
            self._restore(self.reader)
            self.check_restored(*self._features.values())
            if self._freeze_asked:
                self._freeze()
        except BaseException:
            self.close()
            raise

    def _build(self, choice: NetworkChoice, names: Sequence[str]) -> tf.Graph:
        """Builds the network and its end points in a new graph."""
        graph = tf.Graph()
        # ``building`` holds a lock: a function given as net may open arg scopes, which all threads share.
        with graph.as_default(), building():
            self._batch = self._input()
            _, self._network = choice.build(self._batch)
            names = names or [next(iter(endpoint_info.reachable(self._network)))]
            described = endpoint_info.describe(self._batch, self._network, names)
            self.end_points = dict(zip(names, described, strict=True))
            self._features = {name: reduced(point.tensor, self.pool) for name, point in self.end_points.items()}
        self._shapes = {name: tuple(tensor.shape.as_list()[1:]) for name, tensor in self._features.items()}
        return graph

    def _key(self, choice: NetworkChoice) -> dict[str, Any]:
        """Returns all that determines the network and its end points, as values of JSON."""
        return {
            "checkpoint": self.reader.sha256(),
            **{name: getattr(self, name) for name in ("net", "num_classes", "scope", "exclude", "ema", "pool")},
            "options": repr(sorted(self.options.items())),
            "converted to": choice.convert_to,
            "input": list(self.input_shape),
            "end points": {name: point.name for name, point in self.end_points.items()},
            "versions": versions_of("slimnets", "tf-slim"),
        }

    def _input(self) -> tf.Tensor:
        """Returns the network's input: the next batch of files, unless it is fed."""
        if self._channels != 3:
            shape = [None, self.image_size, self.image_size, self._channels]
            return v1.placeholder(tf.float32, shape, name="images")
        self._pipeline = ImagePipeline(self.preprocessing, self.image_size, self.threads)
        batch = self._pipeline.batch
        return v1.placeholder_with_default(batch, batch.shape, name="images")

    def _restore(self, reader: CheckpointReader) -> None:
        self.report = restore(self.session, reader, **self._restored)
        self.reader = reader
        self.warnings = self._doubts + self.report.warnings

    def reload(self, checkpoint: str | Path | CheckpointReader) -> None:
        """Restores another checkpoint of the same network, as training writes one after the other.

        Args:
          checkpoint: a path or a key, or an open reader.

        Raises:
          CheckpointError: if the checkpoint cannot be read, or does not fit the network. The weights stay as they were.
          ValueError: if the weights have become constants.
        """
        self._check_open()
        if self._fixed:
            raise ValueError(f"{self._fixed[0]}, so that no other weights can take their place: {self._fixed[1]}.")
        self._restore(reader_of(checkpoint))

    def _freeze_for(self, num_images: int) -> None:
        if self._freeze_asked is None and not self._fixed and worth_freezing(num_images):
            self._freeze()

    def frozen(self) -> FrozenNetwork:
        """Returns the network with its weights as constants.

        Raises:
          ValueError: if the extractor has frozen it already and split it in two, or the weights take more than 2 GiB.
        """
        self._check_open()
        if self._fixed:
            raise ValueError(f"{self._fixed[0]}, which replaced TensorFlow's own: {self._fixed[1]}.")
        graph_def = frozen_graph(self.session, list(self._features.values()), [self._batch])
        return FrozenNetwork(graph_def, self._batch, {name: tensor.name for name, tensor in self._features.items()})

    def _freeze(self) -> None:
        """Replaces the network by one whose batch norms are folded into its weights."""
        frozen = self.frozen()
        self._session.close()
        graph = tf.Graph()
        with graph.as_default():
            batch = self._input()
            given = frozen.graph_def, {self._batch.name: batch}, list(frozen.outputs.values())
            split = worth_splitting(self.batch_size, self.threads)
            # Variables save memory. In a lower precision, which is for speed, each step would convert them.
            if self.precision == "float32":
                outputs, variables = import_with_variables(*given, split=split)
            else:
                outputs, variables = import_frozen(*given, split=split), []
        del frozen, given
        self._batch, self._network = batch, None
        self._features = dict(zip(self._features, outputs, strict=True))
        self._session = open_session(graph, session_config(self.precision, frozen=True, threads=self.threads))
        assign(self._session, variables)
        del variables
        release_memory()
        self._fixed = ("The weights were frozen into the graph", "make the extractor with freeze=False")

    @property
    def input_known(self) -> bool:
        """True if preprocessing and image size were given or noted; False if one is assumed, as ``assumed`` lists."""
        return not self.assumed

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """Returns the shape of one image of the network's input: (height, width, channels)."""
        return tuple(self._batch.shape.as_list()[1:])

    @property
    def shapes(self) -> dict[str, tuple[int | None, ...]]:
        """Returns the shapes of one image's features, by the names of the end points."""
        return self._shapes

    def __call__(self, images: Any, *, errors: str = "raise") -> dict[str, np.ndarray]:
        """Computes the features of images.

        Args:
          images: uint8 [N, height, width, 3] (float with preprocessing 'none'), one image without the first axis, or a
            list of images of any sizes, as arrays, tensors with values, or PIL images; or files as for ``batches``.
          errors: 'raise' an error for a file that cannot be decoded, or give it a row of 'nan'.

        Returns:
          Features float32 [N, ...] by the names of the end points as they were given. N is 1 for one image.

        Raises:
          ImageError: if a file cannot be decoded and ``errors`` is 'raise'.
          RuntimeError: if the extractor is closed.
          ValueError: for an array of another shape or dtype, or for anything but images.
        """
        if errors not in ("raise", "nan"):
            raise ValueError(f"errors must be 'raise' or 'nan', and is {errors!r}.")
        given = arrays_or_inputs(images)
        if not isinstance(given, Inputs):
            batches = list(self._array_batches(given))
        else:
            batches = []
            for batch in self.batches(given):
                for status in batch.statuses:
                    if status.error is not None and errors == "raise":
                        raise ImageError(f"{status.path}: {status.error}")
                batches.append(batch.features)
        return {
            name: np.concatenate([batch[name] for batch in batches])
            if batches
            else np.empty([0, *(size or 0 for size in self.shapes[name])], np.float32)
            for name in self.end_points
        }

    def _array_batches(self, images: np.ndarray | list[np.ndarray]) -> Iterator[dict[str, np.ndarray]]:
        for array in [images] if isinstance(images, np.ndarray) else [image[np.newaxis] for image in images]:
            check_array(array, self.preprocessing, self.image_size, self._channels)
        self.prepare(images)
        self._freeze_for(len(images))
        fetches, compute = self._computation(min(self.batch_size, len(images)))
        for start in range(0, len(images), self.batch_size):
            batch = self.preprocess(images[start : start + self.batch_size])
            with self._memory_suffices():
                yield compute(self.session.run(fetches, {self._batch: batch}))

    def preprocess(self, images: np.ndarray | list[np.ndarray]) -> np.ndarray:
        """Returns the network's input for uint8 images [N, height, width, 3], or for a list of [height, width, 3]."""
        if not isinstance(images, np.ndarray):  # of different sizes
            return np.concatenate([self.preprocess(image[np.newaxis]) for image in images])
        if self.preprocessing == "none":
            return images
        self._check_open()
        session, fed, preprocessed = self._preprocessing
        return session.run(preprocessed, {fed: images})

    @functools.cached_property
    def _preprocessing(self) -> tuple[v1.Session, tf.Tensor, tf.Tensor]:
        """Returns a session that preprocesses arrays of any size, its placeholder and its result."""
        with tf.Graph().as_default() as graph:
            images = v1.placeholder(tf.uint8, [None, None, None, 3])
            preprocessed = preprocess(images, self.preprocessing, self.image_size)
        return v1.Session(graph=graph), images, preprocessed

    def arithmetic(self, num_images: int) -> tuple[int, int]:
        """Returns what determines the last bits of this extractor's rows; see ``arithmetic``."""
        return arithmetic(num_images, self.batch_size, self.precision, self._freeze_asked, self.engine)

    def batches(
        self, images: Inputs | str | Path | Iterable[str | Path], rows: Sequence[int] | None = None
    ) -> Iterator[FeatureBatch]:
        """Yields the features of images, a batch at a time, in their order.

        All batches have the same size: ``batch_size``, or the number of images if that is smaller, whatever the rows.
        The last one is filled up, so that a row does not depend on those after it. While a batch is computed,
        the images of the next ones are decoded.

        Args:
          images: inputs, as ``tools.images.open_inputs`` returns them, paths of image files, or a folder.
          rows: numbers of the images to compute; None for all.
        """
        if self._channels != 3:
            raise ValueError(f"Files are decoded to 3 channels, and {self.net} takes {self._channels}: give arrays.")
        inputs = as_inputs(images)
        rows = range(len(inputs)) if rows is None else rows
        self.prepare(inputs)
        self._freeze_for(len(inputs))
        size = min(self.batch_size, len(inputs))
        with self._memory_suffices():
            for computed in self._computed_batches(inputs, rows, size):
                yield FeatureBatch(*computed)

    @contextmanager
    def _memory_suffices(self) -> Iterator[None]:
        try:
            yield
        except tf.errors.ResourceExhaustedError as error:
            reason = f"a batch of {self.batch_size} images at {self.image_size} does not fit"
            raise MemoryError(reason) from error
        except RuntimeError:
            self._check_open()  # it may have been closed while its batches were gone through
            raise

    def __repr__(self) -> str:
        points = ", ".join(f"{name} {list(shape)}" for name, shape in self.shapes.items())
        classes = "" if self.num_classes is None else f" of {self.num_classes} classes"
        return (
            f"<FeatureExtractor of {self.reader.path}: {self.net}{classes}, {self.preprocessing} at {self.image_size}, "
            f"{self.precision}: {points}>"
        )
