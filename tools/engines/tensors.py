"""Inputs and outputs of a network, as a caller and a frozen graph name them."""

from typing import TYPE_CHECKING, Any, NamedTuple, Self

if TYPE_CHECKING:
    import tensorflow as tf

__all__ = ["TensorInfo"]


class TensorInfo(NamedTuple):
    """An input or an output.

    name: its name for a caller.
    tensor: name of the tensor in a frozen graph.
    dtype: name of its type.
    shape: its shape; None for an axis of any size.
    """

    name: str
    tensor: str
    dtype: str
    shape: tuple[int | None, ...]

    @classmethod
    def of(cls, record: dict[str, Any]) -> Self:
        """Returns the one whose fields are in a record of JSON."""
        return cls(**record | {"shape": tuple(record["shape"])})

    @classmethod
    def of_tensor(cls, name: str, tensor: "tf.Tensor") -> Self:
        """Returns the one of a tensor in a graph."""
        return cls(name, tensor.name, tensor.dtype.name, tuple(tensor.shape.as_list()))

    def __str__(self) -> str:
        sizes = ", ".join("any" if size is None else str(size) for size in self.shape)
        return f"{self.name}: {self.dtype} [{sizes}]"
