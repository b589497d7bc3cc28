"""Measures the states of a training on its validation images."""

from collections.abc import MutableMapping
from pathlib import Path

from tools.evaluation import Labelled, Metrics
from tools.evaluation.evaluating import logits_extractor, measure
from tools.evaluation.evaluation import Images
from tools.training.settings import Settings
from tools.training.start import Start

__all__ = ["Validator"]


class Validator:
    """Measures states one after the other, with one graph for inference.

    Args:
      labelled: the images.
      start: the network and its input.
      settings: of the training.
    """

    def __init__(self, labelled: Labelled, start: Start, settings: Settings) -> None:
        self._labelled = labelled
        self._options = {
            "net": start.network.name,
            "precision": settings.precision,
            "batch_size": settings.batch_size,
            "ema": settings.ema is not None,
            "threads": settings.threads,
            "freeze": False,
        }
        self._extractor = None

    def measure(self, state: Path, failed: MutableMapping[str, str]) -> Metrics:
        """Measures a state.

        Args:
          state: path of its checkpoint.
          failed: takes the images that cannot be measured (name → reason).

        Raises:
          InputError: if no image can be measured.
        """
        if self._extractor is None:
            self._extractor = logits_extractor(state, len(self._labelled.inputs), **self._options)
        else:
            self._extractor.reload(state)

        def note(images: Images) -> None:
            failed.update({path: error for path, error in zip(images.paths, images.errors, strict=True) if error})

        return measure(self._extractor, self._labelled, on_batch=note)

    def close(self) -> None:
        """Frees the network's memory."""
        if self._extractor is not None:
            self._extractor.close()
