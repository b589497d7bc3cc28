"""The ways into an extractor's network: its session, its graph and its tensors."""

from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Self

import tensorflow as tf

from checkpoints import RestoreReport
from nets import endpoint_info, guards

__all__ = ["OpenNetwork"]

v1 = tf.compat.v1


class OpenNetwork:
    """A network in a session, from which further tensors can be fetched. ``FeatureExtractor`` is one.

    with FeatureExtractor(checkpoint, "logits", freeze=False) as extractor:
        feed = {extractor.images: extractor.preprocess(pixels)}
        maps = extractor.session.run(extractor.tensor("block3/unit_2/conv1"), feed)

    Once the extractor has frozen its network, which a call with 1,000 images or more does unless ``freeze=False``,
    session and graph are those of the frozen network. Its variables are folded weights, and of slim's tensors it has
    only its input and the end points that the extractor was made for.
    """

    # Set by the subclass: the session, None once closed; the input; the end points of the whole network by full name,
    # None once it was replaced; and then what has replaced it, and what keeps it; what was restored, and what was not.
    _session: v1.Session | None
    _batch: tf.Tensor
    _network: Mapping[str, tf.Tensor] | None
    _fixed: tuple[str, str] | None = None
    report: RestoreReport
    exclude: list[str]

    @property
    def session(self) -> v1.Session:
        """Returns the session that holds the weights.

        Raises:
          RuntimeError: if the extractor is closed.
        """
        self._check_open()
        return self._session

    @property
    def graph(self) -> tf.Graph:
        """Returns the graph of the network, to which operations may be added. Raises RuntimeError if it is closed."""
        return self.session.graph

    @property
    def images(self) -> tf.Tensor:
        """Returns the network's input, float32 [N, height, width, channels], to feed with what ``preprocess`` returns.

        Raises:
          RuntimeError: if the extractor is closed.
        """
        self._check_open()
        return self._batch

    def tensor(self, name: str) -> tf.Tensor:
        """Returns the tensor of any end point, as the network computes it: neither pooled nor without axes of size 1.

        Args:
          name: full name or alias, also of layers that slim's dict leaves out, as for ``endpoint_info.resolve``.

        Raises:
          RuntimeError: if the extractor is closed.
          UnknownEndPointError: for a name that no end point has.
          ValueError: if the network is frozen.
        """
        return endpoint_info.resolve(name, self._open_network(f"tensor {name!r}"))[1]

    def tensors(self) -> dict[str, tf.Tensor]:
        """Returns the tensors of all end points and layers by full name, in graph order. Raises as ``tensor`` does."""
        return endpoint_info.reachable(self._open_network("other tensors"))

    def check_restored(self, *tensors: tf.Tensor) -> None:
        """Raises ValueError if a tensor depends on a variable that was not restored, and so has no value."""
        if without := self.not_restored(*tensors):
            cause, repair = f"exclude={self.exclude!r} leaves", "exclude less"
            if not self.exclude:
                cause, repair = "The checkpoint leaves", "take one of the whole network"
            raise ValueError(
                f"{cause} {without[0]} without a value, which an end point needs: {repair}, or ask for end points "
                "before it."
            )

    def not_restored(self, *tensors: tf.Tensor) -> list[str]:
        """Returns the names of the variables that tensors depend on and that were not restored."""
        loaded = {*self.report.loaded}
        return [name for variable in self._variables_of(tensors) if (name := variable.op.name) not in loaded]

    def _variables_of(self, tensors: Sequence[tf.Tensor]) -> list[tf.Variable]:
        """Returns the variables that tensors depend on."""
        needed = {op.name for op in guards.ancestors(tensors)}
        with self.graph.as_default():
            return [variable for variable in v1.global_variables() if variable.op.name in needed]

    def _open_network(self, wanted: str) -> Mapping[str, tf.Tensor]:
        self._check_open()
        if self._fixed:
            raise ValueError(f"{self._fixed[0]}, which has no {wanted} any more: {self._fixed[1]}.")
        return self._network

    def close(self) -> None:
        """Frees the network's memory. A closed extractor computes nothing more; closing it again does nothing."""
        if self._session is not None:
            self._session.close()
        self._session = None
        if "_preprocessing" in vars(self):
            self._preprocessing[0].close()

    def _check_open(self) -> None:
        if self._session is None:
            raise RuntimeError(f"{self!r} is closed: use it inside its `with` block, or make another one.")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()
