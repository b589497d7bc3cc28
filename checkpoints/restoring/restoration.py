"""From a checkpoint into the session it is given, with a report of what went where. Strict unless told otherwise."""

import dataclasses
import os
import re
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import tensorflow as tf
import tf_slim as slim

from checkpoints.diagnosis import sort_names, structures_in
from checkpoints.diagnosis.value_faults import untrained_statistics, value_kind
from checkpoints.errors import CheckpointError, CheckpointMismatch, shortened
from checkpoints.files import CheckpointReader
from checkpoints.names import block_of
from checkpoints.opening import open_checkpoint
from checkpoints.patterns import as_patterns, matching, offered
from checkpoints.restoring.assignment import assign
from checkpoints.restoring.first_kernel import first_kernel_conversions
from checkpoints.restoring.logits import class_conversions
from checkpoints.restoring.mismatch import Mismatch
from checkpoints.restoring.scopes import places_in
from nets.guards import InferenceWarning

__all__ = ["RestoreReport", "restore"]

v1 = tf.compat.v1


@dataclasses.dataclass(frozen=True)
class RestoreReport:
    """What became of each variable; names as in the graph, and in the file for ``unused``.

    path: of the checkpoint.
    format: 'V1' or 'V2'.
    loaded: variables that got their value from the file.
    missing, mismatched: variables that the file has no value for, or one of another shape; always empty, as restoring
      raises ``CheckpointMismatch`` for them.
    unused: what else the file holds, such as optimizer slots or a global step.
    warnings: what makes the restored values of doubtful use.
    excluded: variables that ``exclude`` left alone, whether the file has them or not.
    """

    path: Path
    format: str
    loaded: tuple[str, ...]
    missing: tuple[str, ...]
    mismatched: tuple[str, ...]
    unused: tuple[str, ...]
    warnings: tuple[str, ...] = ()
    excluded: tuple[str, ...] = ()

    def __str__(self) -> str:
        lines = [f"{self.path} ({self.format}): {len(self.loaded)} variables loaded"]
        for label in ("missing", "mismatched", "unused", "excluded"):
            names = getattr(self, label)
            if names or label != "excluded":
                examples = f": {shortened(names)}" if names else ""
                lines.append(f"  {len(names)} {label}{examples}")
        return "\n".join(lines)


def restore(
    session: v1.Session,
    checkpoint: str | os.PathLike[str] | CheckpointReader,
    *,
    variables: Iterable[tf.Variable] | None = None,
    scope: str | Mapping[str, str] | None = None,
    exclude: str | Sequence[str] | None = (),
    ema: bool = False,
    num_classes: int | None = None,
    first_kernel: str | None = None,
) -> RestoreReport:
    """Gives the variables of a session their values from a checkpoint.

    Adds no op to the graph, unless a variable has no assignment in it, and runs no initializer but with the file's
    values. Moving statistics that training never touched are restored with an ``InferenceWarning``.

    Args:
      session: an open session.
      checkpoint: a path or a key, as for ``open_checkpoint``, or an open reader.
      variables: what to restore; None for the graph's model variables, or all global ones where it has none.
      scope: the variable scope that the network has in the file, where it has another in the graph; with several
        networks, from their scopes in the graph to those in the file.
      exclude: patterns with * and ? of the names of variables to leave alone, such as 'resnet_v2_50/logits/*'.
      ema: take the moving averages (``tf.train.ExponentialMovingAverage``) that the file has of the variables in their
        place; moving statistics that it has no average of are taken as they are.
      num_classes: of the graph's logits, where the file's are to be converted: 1000 drops the background of 1001
        classes, 1001 adds one to 1000, as class 0, that never wins.
      first_kernel: how to convert the first kernel, where the graph's images have k channels and the file's c. 'mean'
        gives each of the k channels the sum of the kernel over the file's channels, divided by k. 'repeat' gives
        channel i the file's channel i modulo c, divided by the number of its copies; with k less than c, the sum of
        the file's channels that are i modulo k. Either way the network answers to an image of k equal channels as the
        file's does to one of c such channels.

    Returns:
      A report.

    Raises:
      CheckpointMismatch: if a variable that is not excluded has no value in the file, or one of another shape; or if,
        with ``variables`` None, the file has weights in a block of the graph that the block does not have there, so
        that the two compute something else. No variable is changed then.
      CheckpointError: if there is no checkpoint, or it is damaged.
      ValueError: if there is no variable, a pattern fits none, or another argument cannot be honoured.
    """
    reader = checkpoint if isinstance(checkpoint, CheckpointReader) else open_checkpoint(checkpoint)
    whole_network = variables is None
    with session.graph.as_default():
        has_model_variables = bool(slim.get_model_variables())
        if variables is None:
            variables = slim.get_model_variables() or v1.global_variables()
        elif isinstance(variables, tf.Variable) or hasattr(variables, "as_tensor"):
            variables = [variables]
        pieces = [_Piece.of(part) for variable in variables for part in _parts(variable)]
    if not pieces:
        raise ValueError(
            "There is no variable to restore: build the network first, in the session's graph, and give variables "
            "where they are not all."
            if whole_network
            else "variables is empty, and there is nothing to restore: give some, or leave it out."
        )
    in_graph = {piece.name: piece.full_shape for piece in pieces}
    scopes_here = [found.scope for found in structures_in(in_graph)]
    excluded = matching(in_graph, as_patterns(exclude, "exclude"), scopes=scopes_here)
    places = places_in(reader, in_graph, scope, ema)
    kept = {name: stored for name, stored in places.stored.items() if name not in excluded}
    found_shapes = {name: reader.shapes[stored] for name, stored in kept.items() if stored in reader.shapes}
    conversions: dict[str, Callable[[np.ndarray], np.ndarray]] = {}
    if num_classes is not None:
        conversions |= class_conversions(reader, in_graph, places.stored, excluded, num_classes)
    if first_kernel is not None:
        wanted_shapes = {name: in_graph[name] for name in kept}
        conversions |= first_kernel_conversions(first_kernel, wanted_shapes, found_shapes)
    mismatched = {}
    for name, there in found_shapes.items():
        if in_graph[name] != (_converted_shape(in_graph[name], there) if name in conversions else there):
            mismatched[name] = (in_graph[name], there)
    failing = Mismatch(
        reader,
        in_graph,
        places,
        missing=[name for name in kept if name not in found_shapes],
        mismatched=mismatched,
        superfluous=_superfluous_in_blocks(reader, set(places.renamed.values())) if whole_network else [],
        excluded=excluded,
        ema=ema,
        has_model_variables=has_model_variables,
    )
    used = set(places.stored.values())
    unused = tuple(name for name in reader.shapes if name not in used)
    if failing:
        raise CheckpointMismatch(failing.message, failing.missing, failing.mismatched, unused)
    # All is read before anything is assigned, so that a damaged file leaves the session as it was.
    values = {name: reader.read(stored) for name, stored in kept.items()}
    values |= {name: convert(values[name]) for name, convert in conversions.items()}
    wanted = [piece for piece in pieces if piece.name in kept]
    converted = [(piece.variable, _value(reader, piece, values[piece.name])) for piece in wanted]
    assign(session, converted)
    doubts = (
        _not_finite(converted),
        untrained_statistics(values),
        _other_pooling(session.graph, reader, places.renamed),
    )
    found = [sentence for sentence in doubts if sentence]
    for sentence in found:
        warnings.warn(f"{reader.path}: {sentence}", InferenceWarning, stacklevel=2)
    return RestoreReport(
        path=reader.path,
        format=reader.format,
        loaded=tuple(values),
        missing=(),
        mismatched=(),
        unused=unused,
        warnings=tuple(found),
        excluded=tuple(name for name in in_graph if name in excluded),
    )


def _converted_shape(here: tuple[int, ...], there: tuple[int, ...]) -> tuple[int, ...]:
    """The shape of a value from the file once its classes, its last axis, or a kernel's channels are the graph's."""
    if len(there) == 4 and here[2] != there[2]:
        return (*there[:2], here[2], there[3])
    return (*there[:-1], here[-1])


def _not_finite(values: Iterable[tuple[tf.Variable, np.ndarray]]) -> str | None:
    """A sentence on the values that are no numbers; None where all are."""
    names = [variable.op.name for variable, value in values if value_kind(value) == "not finite"]
    if not names:
        return None
    return (
        f"{len(names)} variables were restored to NaN or infinite values ({shortened(names)}), and so will be the "
        "results: take another checkpoint; `slimnets inspect --check` looks a file through."
    )


def _other_pooling(graph: tf.Graph, reader: CheckpointReader, renamed: Mapping[str, str]) -> str | None:
    """A sentence, where the graph pads the first pooling otherwise than the file's weights are known to want."""
    wanted = reader.notes.pool1_padding if reader.notes else None
    kernels = [name for name in renamed if name.endswith("conv1/weights") and block_of(name) is None]
    if wanted is None or not kernels:
        return None
    # The network's name scope: its variable scope's, with a number where that was entered before.
    scope = re.escape(kernels[0].removesuffix("/conv1/weights"))
    pool = next((op for op in graph.get_operations() if re.fullmatch(rf"{scope}(_\d+)?/pool1/MaxPool", op.name)), None)
    if pool is None:
        return None
    here = "SAME" if pool.get_attr("padding") == b"SAME" else "PAD1"
    if here == wanted:
        return None
    return (
        f"these weights were converted from a network with pool1_padding={wanted!r}, and the graph has {here!r}: "
        f"results will be off; build it with pool1_padding={wanted!r}."
    )


def _superfluous_in_blocks(reader: CheckpointReader, names: set[str]) -> list[str]:
    """The file's weights in blocks that these names are in too, and are not among them.

    A network that ends after some block is another's beginning; one whose blocks have fewer layers is not.
    """
    blocks = {block_of(name) for name in names} - {None}
    contents = sort_names(reader.shapes)
    stored = dict.fromkeys((*contents.variables, *contents.shadows))
    return [name for name in stored if name not in names and block_of(name) in blocks]


@dataclasses.dataclass(frozen=True)
class _Piece:
    """A variable of the graph, which is a slice of a stored one where a partitioner cut it."""

    variable: tf.Variable
    name: str
    full_shape: tuple[int, ...]
    where: tuple[slice, ...]

    @classmethod
    def of(cls, variable: tf.Variable) -> "_Piece":
        if not variable.shape.is_fully_defined():
            raise ValueError(
                f"{variable.op.name} has no shape of its own ({variable.shape}), by which a value could be told to be "
                "its own: make it with a shape, or leave it out of variables."
            )
        shape = tuple(variable.shape.as_list())
        cut = variable._get_save_slice_info()
        if cut is None:
            return cls(variable, variable.op.name, shape, ())
        where = tuple(slice(start, start + size) for start, size in zip(cut.var_offset, cut.var_shape, strict=True))
        return cls(variable, cut.full_name, tuple(cut.full_shape), where)


def _parts(variable: tf.Variable) -> list[tf.Variable]:
    """The variable itself, or the pieces of one that a partitioner cut."""
    if isinstance(variable, str):
        raise ValueError(f"variables must be variables, and has the name {variable!r}: give the variables themselves.")
    return list(variable) if hasattr(variable, "as_tensor") else [variable]


def _value(reader: CheckpointReader, piece: _Piece, stored: np.ndarray) -> np.ndarray:
    there, here = tf.as_dtype(stored.dtype), piece.variable.dtype.base_dtype
    same_kind = (there.is_floating, there.is_integer) == (here.is_floating, here.is_integer)
    if not same_kind or not (here.is_floating or here.is_integer or here == there):
        raise CheckpointError(_other_dtype(reader, piece, there, here), "dtype")
    with np.errstate(over="ignore"):
        converted = stored[piece.where].astype(here.as_numpy_dtype, copy=False)
    if here.is_integer and not np.array_equal(converted, stored[piece.where]):
        raise CheckpointError(_other_dtype(reader, piece, there, here), "dtype")
    return converted


def _other_dtype(reader: CheckpointReader, piece: _Piece, there: tf.DType, here: tf.DType) -> str:
    types = f"{piece.name} as {there.name}, and the graph as {here.name}"
    return f"{reader.path} has {types}: exclude it, {offered([piece.name])}, or take another file."
