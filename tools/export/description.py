"""The description of an exported network: its input, its outputs, and where its weights come from.

It stands beside an exported file as JSON, and in a SavedModel in ``assets.extra``.
"""

import dataclasses
import json
from pathlib import Path
from typing import Any, NamedTuple, Self

__all__ = ["PREPROCESSING", "Description", "TensorInfo"]

# The scope of the preprocessing in an exported graph.
PREPROCESSING = "preprocessing/"


class TensorInfo(NamedTuple):
    """An input or an output.

    name: its name for a caller. That of an output is the alias of an end point, or 'classes', 'probabilities' or
      'labels'.
    tensor: name of the tensor in a frozen graph.
    dtype: name of its type.
    shape: its shape; None for an axis of any size.
    """

    name: str
    tensor: str
    dtype: str
    shape: tuple[int | None, ...]

    def __str__(self) -> str:
        sizes = ", ".join("any" if size is None else str(size) for size in self.shape)
        return f"{self.name}: {self.dtype} [{sizes}]"


@dataclasses.dataclass(frozen=True)
class Description:
    """The description of an exported network.

    format: name of the format.
    network: name of the network.
    checkpoint: name and sha256 of each of the checkpoint's files.
    input: 'pixels', 'encoded' or 'network'.
    preprocessing, image_size: of the network's input. With input 'network' the caller preprocesses.
    images: the input.
    outputs: the outputs, in their order.
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

    def save(self, path: Path) -> None:
        """Writes the description as JSON."""
        path.write_text(json.dumps(self.record(), indent=2) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, path: Path) -> Self:
        """Reads a description that ``save`` wrote."""
        record = json.loads(path.read_text(encoding="utf-8"))
        images, *outputs = (
            TensorInfo(**tensor | {"shape": tuple(tensor["shape"])})
            for tensor in (record["images"], *record["outputs"])
        )
        return cls(**record | {"images": images, "outputs": tuple(outputs)})
