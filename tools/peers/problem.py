"""The problem that every engine computes: a folder that their processes read.

| file | content |
|---|---|
| `graph.pb` | the network as a GraphDef: weights are constants, the images are a placeholder of a fixed shape |
| `weights.npz` | the weights by the names of their variables |
| `images.npy` | float32 [N, height, width, channels] |
| `problem.json` | the other fields of ``Problem`` |

``making`` writes it. This module does not import TensorFlow, which half of the engines do not need.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Self

import numpy as np

from tools.errors import PeerError

if TYPE_CHECKING:
    from tensorflow.compat.v1 import GraphDef

__all__ = ["Prepared", "Problem"]


class Prepared(NamedTuple):
    """An engine that has loaded the network and the images, and has computed once.

    step: computes once more, and returns when the result is complete.
    outputs: float32, the result of the first computation.
    version: version of the engine.
    """

    step: Callable[[], np.ndarray | None]
    outputs: np.ndarray
    version: str


class Problem(NamedTuple):
    """A network, its weights and its images.

    folder: folder of the files.
    net: the network's name in the table.
    num_classes: number of classes that it was built with.
    images_name, output_name: names of the tensors in the graph, such as 'images:0'.
    threads: threads that an engine may use.
    precision: precision of our own engine, as for ``sessions.session_config``; the names of the others say theirs.
    logit_size: size of the terms of logits, see ``tools.runtime.agreement``; 0 if the output is not logits.
    """

    folder: Path
    net: str
    num_classes: int
    images_name: str
    output_name: str
    threads: int
    precision: str
    logit_size: float = 0.0

    @property
    def graph_file(self) -> Path:
        return self.folder / "graph.pb"

    def graph_def(self) -> "GraphDef":
        """Returns the network, with its weights as constants."""
        import tensorflow as tf

        graph_def = tf.compat.v1.GraphDef()
        graph_def.ParseFromString(self.graph_file.read_bytes())
        return graph_def

    def weights(self) -> dict[str, np.ndarray]:
        """Returns the weights by the names of their variables."""
        with np.load(self.folder / "weights.npz") as weights:
            return dict(weights)

    def images(self) -> np.ndarray:
        """Returns the images, float32 [N, height, width, channels]."""
        return np.load(self.folder / "images.npy")

    def outputs_file(self, engine: str) -> Path:
        """Returns the path of an engine's outputs."""
        return self.folder / f"outputs-{engine.replace(':', '-')}.npy"

    def save(self) -> None:
        """Writes `problem.json`."""
        fields = {key: value for key, value in self._asdict().items() if key != "folder"}
        (self.folder / "problem.json").write_text(json.dumps(fields, indent=2) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, folder: str | Path) -> Self:
        """Reads the problem in a folder.

        Raises:
          PeerError: if the folder does not hold a problem.
        """
        folder = Path(folder)
        try:
            fields = json.loads((folder / "problem.json").read_text(encoding="utf-8"))
            return cls(folder=folder, **fields)
        except (OSError, TypeError, ValueError) as error:
            raise PeerError(f"{folder} holds no problem ({error}): write one with make_problem.") from error
