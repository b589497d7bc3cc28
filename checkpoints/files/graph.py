"""Reads frozen graphs and the graphs of SavedModels: their constants, and the names of their nodes.

A frozen graph has a constant in place of each variable, and the constant has the variable's name. The file is read node
by node, and a value only when it is asked for, so that the weights are never in memory several times. Nothing is built.
"""

import math
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
import tensorflow as tf
from google.protobuf.message import DecodeError
from tensorflow.core.framework import attr_value_pb2, node_def_pb2

from checkpoints.errors import CheckpointError, first_line
from checkpoints.files.identifying import FROZEN_GRAPH, SAVED_MODEL, read_varint
from checkpoints.names import LAYER_VARIABLES, SHADOW

__all__ = ["GraphFile", "GraphInput"]

# The largest size of a protocol buffer, and so of a graph, in bytes.
_LARGEST = 2**31 - 1

# The numbers of the fields that lead to a graph's nodes: to its own, and to those of the functions in its library.
_NODES = ((1,), (2, 1, 3))
# In a SavedModel the graph is a field of each MetaGraphDef.
_PATHS = {FROZEN_GRAPH: _NODES, SAVED_MODEL: tuple((2, 2, *path) for path in _NODES)}

# An integer of variable length takes at most 10 bytes, and a field has two: its number, and its length or value.
_HEADER = 20
# The bytes that a field of a fixed size takes, by the type of the field.
_FIXED = {1: 8, 5: 4}

# Errors of parsing, and those for values that are not as their nodes say.
_DAMAGE = (DecodeError, ValueError, TypeError)

_VARIABLES = ("Variable", "VariableV2", "VarHandleOp")
# The operations that a network's builder has settings for (op, without its version → attribute → default).
_SETTINGS: dict[str, dict[str, Any]] = {
    "Conv2D": {"strides": None, "padding": None, "dilations": [1, 1, 1, 1]},
    "MaxPool": {"ksize": None, "strides": None, "padding": None},
    "FusedBatchNorm": {"epsilon": float(np.float32(1e-4))},
}
# The names of placeholders for the names of checkpoints, which savers add.
_OF_SAVERS = ("saver_filename", "filename")


class GraphInput(NamedTuple):
    """A placeholder of a graph.

    name: name of its node.
    dtype: name of its dtype.
    shape: its shape, None for an unknown size; None if its rank is unknown.
    """

    name: str
    dtype: str
    shape: tuple[int | None, ...] | None


class _Constant(NamedTuple):
    """A constant: its dtype and shape, and the bytes of the file that hold its node."""

    dtype: tf.DType
    shape: tuple[int, ...]
    start: int
    end: int


class GraphFile:
    """A graph in a file, which is read node by node. The constants that were variables are its weights.

    shapes, dtypes: names, shapes and dtypes of the weights, sorted by name.
    nodes: names of all nodes.
    inputs: placeholders.
    settings: attributes of convolutions, poolings and batch norms (node → attribute → value).

    Args:
      path: the path as it was given, for messages.
      file: a GraphDef, or a SavedModel's ``saved_model.pb``.
      format: ``FROZEN_GRAPH`` or ``SAVED_MODEL``.

    Raises:
      CheckpointError: if the file is damaged, too large for a graph, or holds two values of one name.
    """

    def __init__(self, path: Path, file: Path, format: str) -> None:
        self._path, self._file, self._format = path, file, format
        self._constants: dict[str, _Constant] = {}
        # Constants that an operation reads as a variable's value.
        self._read_as_variables: set[str] = set()
        self._quantized: list[str] = []
        self._without_value: list[str] = []
        self.settings: dict[str, dict[str, Any]] = {}
        nodes, inputs = set(), []
        size = file.stat().st_size
        if size > _LARGEST:
            raise CheckpointError(
                f"{path} has {size / 2**30:.1f} GiB, and a graph is always smaller than 2 GiB: it is damaged, or "
                "something else; fetch or copy it again, or take the checkpoint it was made from."
            )
        with file.open("rb") as stream:
            try:
                for fields in _PATHS[format]:
                    for start, end in _messages(stream, 0, size, fields):
                        node = _node(stream, start, end)
                        self._add(node, start, end)
                        nodes.add(node.name)
                        # The placeholders of functions are none of the graph's.
                        if fields == _PATHS[format][0] and _is_input(node):
                            inputs.append(_input(node))
            except CheckpointError:
                raise
            except _DAMAGE as error:
                raise self._damaged(error) from error
        self._constants = {name: self._constants[name] for name in sorted(self._constants) if self._is_weight(name)}
        self.nodes, self.inputs = frozenset(nodes), tuple(inputs)
        self.shapes = {name: constant.shape for name, constant in self._constants.items()}
        self.dtypes = {name: constant.dtype for name, constant in self._constants.items()}

    def _add(self, node: node_def_pb2.NodeDef, start: int, end: int) -> None:
        """Takes note of a node. Its value is dropped, and read again when it is asked for."""
        if node.op == "Const":
            dtype = tf.as_dtype(node.attr["dtype"].type)
            if not (dtype.is_floating or dtype.is_integer or dtype.is_quantized):
                return
            constant = _Constant(dtype, _shape(node, dtype), start, end)
            # Functions of a SavedModel may repeat the constants of others.
            if node.name in self._constants and _is_layer_variable(node.name):
                self._check_repeated(node, self._constants[node.name])
            self._constants.setdefault(node.name, constant)
        elif node.op == "Identity":
            if node.name.endswith("/read") or "ReadVariableOp" in node.name.rpartition("/")[2]:
                self._read_as_variables.update(name.partition(":")[0] for name in node.input[:1])
        elif settings := _SETTINGS.get(re.sub(r"V\d$", "", node.op)):
            self.settings[node.name] = {
                name: _value(node.attr[name]) if name in node.attr else default for name, default in settings.items()
            }
        elif node.op in _VARIABLES:
            self._without_value.append(node.name)
        elif node.op == "Dequantize" or node.op.startswith("Quantized"):
            self._quantized.append(node.name)

    def _check_repeated(self, node: node_def_pb2.NodeDef, first: _Constant) -> None:
        with self._file.open("rb") as stream:
            before = _node(stream, first.start, first.end)
        if before.attr["value"] != node.attr["value"]:
            raise CheckpointError(
                f"{self._path} has two functions with different values of {node.name}: save a SavedModel of one of "
                "them, or take the checkpoint it was made from.",
                "ambiguous",
            )

    def _is_weight(self, name: str) -> bool:
        """Returns whether a constant was a variable, by its name or by how it is read."""
        return (_is_layer_variable(name) and bool(self._constants[name].shape)) or name in self._read_as_variables

    def check(self) -> None:
        """Raises CheckpointError if the graph has no weights, or quantized ones."""
        is_frozen = self._format == FROZEN_GRAPH
        name = "a graph (GraphDef)" if is_frozen else "a SavedModel"
        if self._quantized:
            name = f"{name} with quantized weights"
            sentence = (
                f"{self._path} is {name} ({self._quantized[0]} is one of {len(self._quantized)} operations on them): "
                "take the graph from before its quantization, or the checkpoint."
            )
            raise CheckpointError(sentence, "dtype", name)
        if any(map(_is_layer_variable, self.shapes)):
            return
        name, count = f"{name} without weights", len(self._without_value)
        if count and is_frozen:
            reason = (
                f"it was not frozen, and its {count} variables have no values: give the checkpoint that goes with it"
            )
        elif count:
            reason = (
                f"the values of its {count} variables are files of the folder variables beside saved_model.pb, which "
                "are missing: copy that folder along"
            )
        else:
            reason = (
                f"none of its {len(self.nodes)} nodes is a constant with the name of a layer's variable, such as "
                "conv1/weights: take the checkpoint it was made from"
            )
        raise CheckpointError(f"{self._path} is {name}: {reason}.", "other format", name)

    def read(self, name: str) -> np.ndarray:
        """Reads the value of that name.

        Raises:
          CheckpointError: if the file is damaged there.
          KeyError: if there is none.
        """
        constant = self._constants[name]
        try:
            with self._file.open("rb") as stream:
                node = _node(stream, constant.start, constant.end)
            value = tf.make_ndarray(node.attr["value"].tensor)
            if (node.name, value.shape) != (name, constant.shape):
                raise ValueError("it changed after it was opened")
        except _DAMAGE as error:
            raise self._damaged(error, f" where {name} is stored") from error
        return value

    def _damaged(self, error: Exception, where: str = "") -> CheckpointError:
        return CheckpointError(
            f"{self._path}, a graph, is damaged or cut short{where} ({first_line(error)}): fetch or copy it again."
        )


def _is_layer_variable(name: str) -> bool:
    return name.rpartition("/")[2] in (*LAYER_VARIABLES, SHADOW)


def _node(stream: BinaryIO, start: int, end: int) -> node_def_pb2.NodeDef:
    stream.seek(start)
    return node_def_pb2.NodeDef.FromString(stream.read(end - start))


def _messages(stream: BinaryIO, start: int, end: int, path: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Yields where messages inside of a message begin and end.

    Args:
      stream: the file.
      start, end: where the outer message begins and ends.
      path: numbers of the fields that lead to the inner messages.
    """
    for number, begin, stop in _fields(stream, start, end):
        if number == path[0] and len(path) == 1:
            yield begin, stop
        elif number == path[0]:
            yield from _messages(stream, begin, stop, path[1:])


def _fields(stream: BinaryIO, start: int, end: int) -> Iterator[tuple[int, int, int]]:
    """Yields (number, begin, end) of the fields of a message that are messages themselves.

    Raises:
      ValueError: if there is something else than a protocol buffer.
    """
    while start < end:
        stream.seek(start)
        header = stream.read(_HEADER)
        tag, place = read_varint(header, 0)
        number, kind = tag >> 3, tag & 7
        value, after = read_varint(header, place)
        if kind == 2 and number and after > place:
            begin, start = start + after, start + after + value
        elif kind == 0 and number and after > place:
            begin, start = start, start + after
        elif kind in _FIXED and number:
            begin, start = start, start + place + _FIXED[kind]
        else:
            raise ValueError(f"there is no field at byte {start:,}")
        if start > end:
            raise ValueError(f"the field at byte {begin:,} ends at {start:,}, behind the end at {end:,}")
        if kind == 2:
            yield number, begin, start


def _shape(node: node_def_pb2.NodeDef, dtype: tf.DType) -> tuple[int, ...]:
    """Returns the shape of a constant. Raises ValueError if its value has another size or type."""
    tensor = node.attr["value"].tensor
    if tensor.dtype != dtype.as_datatype_enum:
        raise ValueError(f"the value of {node.name} is not {dtype.name}")
    shape = tuple(axis.size for axis in tensor.tensor_shape.dim)
    size = math.prod(shape) * dtype.size
    if min(shape, default=0) < 0 or size > _LARGEST or (tensor.tensor_content and len(tensor.tensor_content) != size):
        raise ValueError(f"the value of {node.name} does not have its shape, {list(shape)}")
    return shape


def _value(attribute: attr_value_pb2.AttrValue) -> Any:
    """Returns the value of an attribute that is a number, a text or a list of integers."""
    kind = attribute.WhichOneof("value")
    return list(attribute.list.i) if kind == "list" else getattr(attribute, kind)


def _is_input(node: node_def_pb2.NodeDef) -> bool:
    """Returns whether a node is a placeholder, and not one for the name of a saver's file."""
    is_text = node.attr["dtype"].type == tf.string.as_datatype_enum
    if node.op == "PlaceholderWithDefault":
        return not is_text
    return node.op == "Placeholder" and not (is_text and node.name.rpartition("/")[2] in _OF_SAVERS)


def _input(node: node_def_pb2.NodeDef) -> GraphInput:
    shape = node.attr["shape"].shape
    # Programs before TensorFlow 1.0 left the shape out.
    known = not shape.unknown_rank and (shape.dim or node.attr["shape"].HasField("shape"))
    sizes = tuple(axis.size if axis.size >= 0 else None for axis in shape.dim) if known else None
    return GraphInput(node.name, tf.as_dtype(node.attr["dtype"].type).name, sizes)
