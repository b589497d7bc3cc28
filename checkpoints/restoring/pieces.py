"""The variables of a graph that are restored: whole ones, and the pieces of those that a partitioner cut."""

import dataclasses
from collections.abc import Iterable

import numpy as np
import tensorflow as tf
import tf_slim as slim

from checkpoints.errors import CheckpointError
from checkpoints.files import CheckpointReader
from checkpoints.patterns import offered

__all__ = ["Piece", "pieces_of"]

v1 = tf.compat.v1


@dataclasses.dataclass(frozen=True)
class Piece:
    """A variable of the graph, and the part of the stored variable that it holds.

    variable: the variable.
    name: name of the whole variable.
    full_shape: shape of the whole variable.
    where: slices of the whole variable; empty for all of it.
    """

    variable: tf.Variable
    name: str
    full_shape: tuple[int, ...]
    where: tuple[slice, ...]

    @classmethod
    def of(cls, variable: tf.Variable) -> "Piece":
        """Returns the piece that a variable is.

        Raises:
          ValueError: for a variable without a shape.
        """
        if not variable.shape.is_fully_defined():
            raise ValueError(
                f"{variable.op.name} has no complete shape ({variable.shape}), which a value from a file could be "
                "checked against: create it with a shape, or leave it out of variables."
            )
        shape = tuple(variable.shape.as_list())
        cut = variable._get_save_slice_info()
        if cut is None:
            return cls(variable, variable.op.name, shape, ())
        where = tuple(slice(start, start + size) for start, size in zip(cut.var_offset, cut.var_shape, strict=True))
        return cls(variable, cut.full_name, tuple(cut.full_shape), where)

    def value(self, reader: CheckpointReader, stored: np.ndarray) -> np.ndarray:
        """Returns the piece's part of a stored value, in the dtype of the graph's variable.

        Raises:
          CheckpointError: if the graph's dtype cannot hold it.
        """
        there, here = tf.as_dtype(stored.dtype), self.variable.dtype.base_dtype
        same_kind = (there.is_floating, there.is_integer) == (here.is_floating, here.is_integer)
        if not same_kind or not (here.is_floating or here.is_integer or here == there):
            raise self._other_dtype(reader, there, here)
        with np.errstate(over="ignore"):
            converted = stored[self.where].astype(here.as_numpy_dtype, copy=False)
        if here.is_integer and not np.array_equal(converted, stored[self.where]):
            raise self._other_dtype(reader, there, here)
        return converted

    def _other_dtype(self, reader: CheckpointReader, there: tf.DType, here: tf.DType) -> CheckpointError:
        return CheckpointError(
            f"{reader.path} has {self.name} as {there.name}, and the graph as {here.name}: exclude it, "
            f"{offered([self.name])}, or take another file.",
            "dtype",
        )


def pieces_of(graph: tf.Graph, variables: Iterable[tf.Variable] | None) -> list[Piece]:
    """Returns the variables to restore; ``variables`` is as for ``restoration.restore``.

    Raises:
      ValueError: if there is none, or something else is given.
    """
    with graph.as_default():
        if variables is None:
            found = slim.get_model_variables() or v1.global_variables()
        elif isinstance(variables, tf.Variable) or hasattr(variables, "as_tensor"):
            found = [variables]
        else:
            found = variables
        pieces = [Piece.of(part) for variable in found for part in _parts(variable)]
    if not pieces:
        raise ValueError(
            "There is no variable to restore: build the network in the session's graph first, or give variables."
            if variables is None
            else "variables is empty, so that there is nothing to restore: give some, or leave it out."
        )
    return pieces


def _parts(variable: tf.Variable) -> list[tf.Variable]:
    """Returns the variable itself, or the pieces that a partitioner cut it into."""
    if isinstance(variable, str):
        raise ValueError(f"variables takes variables, and contains the name {variable!r}: give the variable itself.")
    return list(variable) if hasattr(variable, "as_tensor") else [variable]
