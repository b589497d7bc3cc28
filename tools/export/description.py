"""The description of an exported network: its input, its outputs, and where its weights come from.

It stands beside an exported file as JSON, in the place and the form of notes on weights: a frozen graph or a SavedModel
that takes the place of a checkpoint has its notes.
"""

import dataclasses
import json
from pathlib import Path
from typing import Any, Self

from checkpoints.files.hashing import sha256_of
from tools.engines.tensors import TensorInfo

__all__ = ["CLASSES", "PREDICTIONS", "PREPROCESSING", "Description"]

# The name that asks for the most probable classes in place of an end point, and the end point that they come from.
CLASSES, PREDICTIONS = "classes", "predictions"

# The scope of the preprocessing in an exported graph.
PREPROCESSING = "preprocessing/"


@dataclasses.dataclass(frozen=True)
class Description:
    """The description of an exported network.

    format: name of the format.
    network: name of the network.
    checkpoint: name and sha256 of each of the checkpoint's files.
    input: 'pixels', 'encoded' or 'network'.
    preprocessing, image_size: of the network's input. With input 'network' the caller preprocesses.
    assumed: which of these two nobody stated.
    pool1_padding: padding of the network's first pooling; None for a network that is not in the table.
    images: the input.
    outputs: the outputs, in their order. The name of one is the alias of an end point, or 'classes', 'probabilities' or
      'labels'.
    labels: names of the classes, in their order; None if the network has no classes.
    dtype: 'float32', 'float16' or 'int8'.
    versions: versions of what wrote the file.
    """

    format: str
    network: str
    checkpoint: dict[str, str]
    input: str
    preprocessing: str
    image_size: int
    assumed: tuple[str, ...]
    pool1_padding: str | None
    images: TensorInfo
    outputs: tuple[TensorInfo, ...]
    labels: tuple[str, ...] | None
    dtype: str
    versions: dict[str, str]

    def record(self) -> dict[str, Any]:
        """Returns the description for JSON."""
        return dataclasses.asdict(self) | {
            "images": self.images._asdict(),
            "outputs": [output._asdict() for output in self.outputs],
        }

    def save(self, path: Path, described: Path | None = None) -> None:
        """Writes the description as JSON; if it describes a file, in the form of notes on its weights."""
        record = self.record()
        if described is not None:
            # Notes hold for the file with this hash, and only for a network of the table.
            of_table = self.pool1_padding is not None
            record |= {"file": described.name, "sha256": sha256_of([described]) if of_table else None}
        path.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, path: Path) -> Self:
        """Reads a description that ``save`` wrote."""
        record = json.loads(path.read_text(encoding="utf-8"))
        images, *outputs = map(TensorInfo.of, (record["images"], *record["outputs"]))
        labels = None if record["labels"] is None else tuple(record["labels"])
        texts = {"assumed": tuple(record["assumed"]), "labels": labels}
        return cls(**record | texts | {"images": images, "outputs": tuple(outputs)})
