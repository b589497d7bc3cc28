"""The part of an extractor that lets another engine compute its features."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from tools.engines.models import Model
from tools.engines.tensors import TensorInfo
from tools.features.access import OpenNetwork
from tools.features.computing import AUTO, TENSORFLOW, EngineOptions, resolved
from tools.features.computing.preparing import Job, prepare
from tools.images import Inputs
from tools.images.batches import ArrayPipeline
from tools.images.fitting import FITTED
from tools.images.given import arrays_or_inputs
from tools.images.pipeline import ImagePipeline
from tools.images.reading import ImageStatus
from tools.runtime.freezing import FrozenNetwork, import_unchanged
from tools.runtime.sessions import open_session, session_config

__all__ = ["EngineUser"]

v1 = tf.compat.v1


class EngineUser(OpenNetwork):
    """A network whose features another engine than TensorFlow may compute. ``FeatureExtractor`` is one.

    Attributes:
      engine: name of the engine; 'auto' until a job has been prepared.
      engine_model: the model that the engine computes; None for TensorFlow, and until a job has been prepared.
      engine_rates: images/s of each engine that was timed; empty if none was.
      engine_key: all that determines the network and its end points, as values of JSON; None if a function builds it.
    """

    engine: str
    engine_model: Model | None = None
    engine_rates: Mapping[str, float] = {}
    engine_key: Mapping[str, Any] | None

    # Set by the subclass.
    batch_size: int
    threads: int | None
    preprocessing: str
    image_size: int
    _features: dict[str, tf.Tensor]
    _pipeline: ImagePipeline

    def _ask(self, options: EngineOptions) -> None:
        """Notes what was asked for. Raises ModuleNotFoundError or ValueError for what this machine cannot do."""
        self.engine = resolved(options.engine, options.precision)
        self._asked = options._replace(engine=self.engine)
        self._loaded: dict[int, Callable[[np.ndarray], dict[str, np.ndarray]]] = {}

    def prepare(self, images: Any, *, before: tuple[str, str | None] | None = None) -> None:
        """Prepares the engine for a job: chooses it, and makes or finds its model. The first call does so by itself.

        The model is made and proved on images of the job, and kept for other jobs. For TensorFlow nothing is done.

        Args:
          images: the images of the job, as for a call.
          before: engine of an earlier part of the job, and the key of its model; None for none.

        Raises:
          InputError: if the images do not suffice for int8, or the engine computes something else than TensorFlow.

        Warns:
          UserWarning: if a model in the cache is damaged, or the cache cannot be written.
        """
        engine, key = before or (self.engine, None)
        if self.engine == AUTO:
            self._ask(self._asked._replace(engine=engine))
        if self.engine == TENSORFLOW or self.engine_model is not None:
            return
        given = arrays_or_inputs(images)
        if not len(given):
            return
        job = Job(
            num_images=len(given),
            batch_size=self.batch_size,
            threads=self.threads,
            key=self.engine_key,
            inputs=lambda rows: self._computed(given, rows, {})[0],
            reference=lambda rows: self._computed(given, rows, self._features),
            frozen=lambda: _graph_of(self.frozen()),
            optimized=self._optimized,
            model_before=key if engine == self.engine else None,
        )
        self.engine_model, self.engine_rates = prepare(job, self._asked)
        self.engine = TENSORFLOW if self.engine_model is None else self.engine_model.engine
        if self.engine_model is not None:
            self._leave_tensorflow()

    def frozen(self) -> FrozenNetwork:
        """Returns the network with its weights as constants."""
        raise NotImplementedError

    def _computed(
        self, given: Inputs | np.ndarray | list[np.ndarray], rows: Sequence[int], features: Mapping[str, tf.Tensor]
    ) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """Computes the network's input and features of rows in TensorFlow; drops images that cannot be decoded."""
        found: list[dict[str, np.ndarray]] = []
        fetches = {"": self._batch, **features}
        if isinstance(given, Inputs):
            size = min(self.batch_size, len(given))
            for statuses, values in self._pipeline.batches(self.session, fetches, given, list(rows), size):
                good = [row for row, status in enumerate(statuses) if status.error is None]
                found.append({name: value[good] for name, value in values.items()})
        else:
            for row in rows:
                found.append(self.session.run(fetches, {self._batch: self.preprocess(given[row][np.newaxis])}))
        joined = {name: np.concatenate([values[name] for values in found]) for name in fetches}
        return joined.pop(""), joined

    def _optimized(self) -> Callable[[np.ndarray], dict[str, np.ndarray]]:
        """Freezes the network, and returns a function that computes its features."""
        self._freeze()
        return lambda images: self.session.run(self._features, {self._batch: images})

    def _leave_tensorflow(self) -> None:
        """Keeps of TensorFlow only what makes the network's input."""
        self._session.close()
        graph = tf.Graph()
        with graph.as_default():
            self._batch = self._input()
        self._session = open_session(graph, session_config(threads=self.threads, optimize_graph=False))
        self._features, self._network = {}, None
        self._fixed = (f"The network is in the engine {self.engine}", "make the extractor with engine='tensorflow'")

    def _computed_batches(
        self, inputs: Inputs, rows: Sequence[int], size: int
    ) -> Iterator[tuple[list[ImageStatus], dict[str, np.ndarray]]]:
        """Returns the statuses and the features of images, in batches of ``size``."""
        if self.engine_model is None or self.preprocessing not in FITTED:
            fetches, compute = self._computation(size)
            return self._pipeline.batches(self.session, fetches, inputs, rows, size, compute=compute)
        self._check_open()
        images = ArrayPipeline(self.preprocessing, self.image_size, self.threads)
        return images.batches(inputs, rows, size, self._compiled(size))

    def _computation(self, size: int) -> tuple[dict[str, tf.Tensor], Callable[[dict[str, np.ndarray]], dict]]:
        """Returns the tensors to fetch for a batch of at most ``size`` images, and what makes the features of them."""
        if self.engine_model is None:
            return self._features, lambda fetched: fetched
        compute = self._compiled(size)
        return {"": self._batch}, lambda fetched: compute(fetched[""])

    def _compiled(self, size: int) -> Callable[[np.ndarray], dict[str, np.ndarray]]:
        """Returns the function of the engine's model for batches of ``size``."""
        if size not in self._loaded:
            self._loaded = {size: self.engine_model.load(threads=self.threads, batch=size)}
        return self._loaded[size]


def _graph_of(frozen: FrozenNetwork) -> dict[str, Any]:
    """Returns the arguments of ``make_model`` for a network: an engine may drop a tensor that no operation ends in."""
    with tf.Graph().as_default() as graph:
        images = v1.placeholder(tf.float32, [None, *frozen.images.shape[1:]], name="images")
        tensors = import_unchanged(frozen.graph_def, {frozen.images.name: images}, list(frozen.outputs.values()))
        named = [tf.identity(tensor, name=f"output_{number}") for number, tensor in enumerate(tensors)]
    return {
        "graph": graph.as_graph_def().SerializeToString(deterministic=True),
        "images": TensorInfo.of_tensor("images", images),
        "outputs": [TensorInfo.of_tensor(name, tensor) for name, tensor in zip(frozen.outputs, named, strict=True)],
    }
