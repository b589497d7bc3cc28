"""From a checkpoint into the session it is given, with a report of what went where. Strict unless told otherwise."""

import dataclasses
import fnmatch
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
import tf_slim as slim

from checkpoints.diagnosis import diagnose, networks_in, unit_of
from checkpoints.reader import CheckpointError, CheckpointReader, open_checkpoint

__all__ = ["CheckpointMismatch", "RestoreReport", "restore"]

v1 = tf.compat.v1


@dataclasses.dataclass(frozen=True)
class RestoreReport:
    """What became of each variable; names as in the graph, and in the file for ``unused``.

    path: of the checkpoint.
    format: 'V1' or 'V2'.
    loaded: variables that got their value from the file.
    missing: variables that the file has no value for; only excluded ones, or restoring would have failed.
    mismatched: variables that have another shape in the file, likewise.
    unused: what else the file holds: optimizer slots, a global step, the excluded.
    """

    path: Path
    format: str
    loaded: tuple[str, ...]
    missing: tuple[str, ...]
    mismatched: tuple[str, ...]
    unused: tuple[str, ...]

    def __str__(self) -> str:
        lines = [f"{self.path} ({self.format}): {len(self.loaded)} variables loaded"]
        for label in ("missing", "mismatched", "unused"):
            names = getattr(self, label)
            examples = f": {_shortened(names)}" if names else ""
            lines.append(f"  {len(names)} {label}{examples}")
        return "\n".join(lines)


class CheckpointMismatch(CheckpointError):  # noqa: N818
    """A graph and a checkpoint that do not fit.

    missing: variables of the graph that the file has no value for.
    mismatched: from variables that have another shape in the file to (shape in the graph, shape in the file).
    unused: names in the file that no variable of the graph has.
    """

    def __init__(
        self,
        message: str,
        missing: Sequence[str],
        mismatched: dict[str, tuple[tuple[int, ...], tuple[int, ...]]],
        unused: Sequence[str],
    ) -> None:
        super().__init__(message)
        self.missing = tuple(missing)
        self.mismatched = dict(mismatched)
        self.unused = tuple(unused)


def restore(
    session: v1.Session,
    checkpoint: str | Path | CheckpointReader,
    *,
    variables: Iterable[tf.Variable] | None = None,
    exclude: str | Sequence[str] = (),
) -> RestoreReport:
    """Gives the variables of a session their values from a checkpoint.

    Adds no op to the graph, and runs no initializer but with the file's values.

    Args:
      session: an open session.
      checkpoint: a path, as for ``open_checkpoint``, or an open reader.
      variables: what to restore; None for the graph's model variables, or all global ones where it has none.
      exclude: patterns with * and ? of the names of variables to leave alone, such as 'resnet_v2_50/logits/*'.

    Returns:
      A report.

    Raises:
      CheckpointMismatch: if a variable that is not excluded has no value in the file, or one of another shape; or if,
        with ``variables`` None, the file has weights in a unit of the graph that the unit does not have there, so that
        the two compute something else. No variable is changed then.
      CheckpointError: if there is no checkpoint, or it is damaged.
      ValueError: if there is no variable, or a pattern fits none.
    """
    reader = checkpoint if isinstance(checkpoint, CheckpointReader) else open_checkpoint(checkpoint)
    whole_network = variables is None
    with session.graph.as_default():
        if variables is None:
            variables = slim.get_model_variables() or v1.global_variables()
        pieces = [_Piece.of(part) for variable in variables for part in _parts(variable)]
    if not pieces:
        raise ValueError("There is no variable to restore: build the network first, in the session's graph.")
    patterns = [exclude] if isinstance(exclude, str) else list(exclude)
    in_graph = {piece.name for piece in pieces}
    excluded = _matching(in_graph, patterns)
    missing = [piece.name for piece in pieces if piece.name not in reader.shapes]
    mismatched = {
        piece.name: (piece.full_shape, reader.shapes[piece.name])
        for piece in pieces
        if piece.name in reader.shapes and reader.shapes[piece.name] != piece.full_shape
    }
    failing_missing = [name for name in missing if name not in excluded]
    failing_mismatched = {name: shapes for name, shapes in mismatched.items() if name not in excluded}
    wanted = [piece for piece in pieces if piece.name not in excluded]
    names = {piece.name for piece in wanted}
    unused = tuple(name for name in reader.shapes if name not in names)
    superfluous = _superfluous_in_units(reader, in_graph) if whole_network else []
    if failing_missing or failing_mismatched or superfluous:
        message = _mismatch_message(reader, pieces, failing_missing, failing_mismatched, superfluous)
        raise CheckpointMismatch(message, failing_missing, failing_mismatched, unused)
    _assign(session, reader, wanted)
    return RestoreReport(
        path=reader.path,
        format=reader.format,
        loaded=tuple(dict.fromkeys(piece.name for piece in wanted)),
        missing=tuple(missing),
        mismatched=tuple(mismatched),
        unused=unused,
    )


def _superfluous_in_units(reader: CheckpointReader, names: set[str]) -> list[str]:
    """The file's weights in units that the graph has too, and has without them; optimizers' slots are none."""
    units = {unit_of(name) for name in names} - {None}
    return [
        name
        for name in reader.shapes
        if name not in names and unit_of(name) in units and name.rpartition("/")[0] not in reader.shapes
    ]


@dataclasses.dataclass(frozen=True)
class _Piece:
    """A variable of the graph, which is a slice of a stored one where a partitioner cut it."""

    variable: tf.Variable
    name: str
    full_shape: tuple[int, ...]
    where: tuple[slice, ...]

    @classmethod
    def of(cls, variable: tf.Variable) -> "_Piece":
        shape = tuple(variable.shape.as_list())
        cut = variable._get_save_slice_info()
        if cut is None:
            return cls(variable, variable.op.name, shape, ())
        where = tuple(slice(start, start + size) for start, size in zip(cut.var_offset, cut.var_shape, strict=True))
        return cls(variable, cut.full_name, tuple(cut.full_shape), where)


def _parts(variable: tf.Variable) -> list[tf.Variable]:
    """The variable itself, or the pieces of one that a partitioner cut."""
    if isinstance(variable, str):
        raise ValueError(f"variables must be variables, and has the name {variable!r}.")
    return list(variable) if hasattr(variable, "as_tensor") else [variable]


def _matching(names: set[str], patterns: Sequence[str]) -> set[str]:
    matching = set()
    for pattern in patterns:
        matches = fnmatch.filter(names, pattern)
        if not matches:
            raise ValueError(
                f"exclude={pattern!r} fits no variable of the graph, such as {min(names, default='none')}."
            )
        matching.update(matches)
    return matching


def _assign(session: v1.Session, reader: CheckpointReader, pieces: Sequence[_Piece]) -> None:
    """Runs the variables' initializers with the stored values in the place of the initial ones."""
    # All is read before anything is assigned, so that a damaged file leaves the session as it was.
    values = [(piece.variable, _value(reader, piece)) for piece in pieces]
    initializers, feeds = [], {}
    for variable, value in values:
        initial_value = variable.initializer.inputs[1]
        # Variables made with one tensor as initial value cannot be fed together.
        if initial_value.ref() in feeds:
            _run(session, initializers, feeds)
            initializers, feeds = [], {}
        initializers.append(variable.initializer)
        feeds[initial_value.ref()] = value
    _run(session, initializers, feeds)


def _run(session: v1.Session, initializers: list[tf.Operation], feeds: dict[Any, np.ndarray]) -> None:
    session.run(initializers, {reference.deref(): value for reference, value in feeds.items()})


def _value(reader: CheckpointReader, piece: _Piece) -> np.ndarray:
    value = reader.read(piece.name)[piece.where]
    dtype = piece.variable.dtype.base_dtype.as_numpy_dtype
    converted = np.asarray(value, dtype)
    whole = np.issubdtype(value.dtype, np.integer)
    if not np.can_cast(value.dtype, dtype, "same_kind") or (whole and not np.array_equal(converted, value)):
        raise CheckpointError(
            f"{reader.path} has {piece.name} as {value.dtype}, and the graph as {np.dtype(dtype)}: exclude it."
        )
    return converted


def _mismatch_message(
    reader: CheckpointReader,
    pieces: Sequence[_Piece],
    missing: Sequence[str],
    mismatched: dict[str, tuple[tuple[int, ...], tuple[int, ...]]],
    superfluous: Sequence[str],
) -> str:
    parts = [f"{reader.path} does not fit the graph: {_cause(reader, pieces, missing, mismatched)}"]
    if missing:
        parts.append(f"{len(missing)} of {len(pieces)} variables are not in the file: {_shortened(missing)}.")
    if mismatched:
        shapes = [f"{name} {list(graph)} here, {list(file)} in the file" for name, (graph, file) in mismatched.items()]
        parts.append(f"{len(mismatched)} have another shape: {_shortened(shapes)}.")
    if superfluous:
        parts.append(
            f"{len(superfluous)} of the file have no place in the graph's units (variables=... leaves them out): "
            f"{_shortened(superfluous)}."
        )
    return " ".join(parts)


def _cause(
    reader: CheckpointReader,
    pieces: Sequence[_Piece],
    missing: Sequence[str],
    mismatched: dict[str, tuple[tuple[int, ...], tuple[int, ...]]],
) -> str:
    """The likely cause, in one sentence with what to do."""
    if mismatched and not missing and all("/logits/" in f"/{name}" for name in mismatched):
        here, in_file = next((graph[-1], file[-1]) for graph, file in mismatched.values())
        return f"the graph has {here} classes and the file {in_file}; build the network with num_classes={in_file}."
    if any(name.rpartition("/")[0] + "/BatchNorm/beta" in reader.shapes for name in missing):
        return "the graph was built without its arg scope; build it under slim.arg_scope(resnet_arg_scope())."
    try:
        in_file = diagnose(reader)
    except CheckpointError:
        return "the file holds the weights of none of the known networks."
    classes = f"{in_file.num_classes} classes" if in_file.num_classes else "no logits"
    here = networks_in({piece.name: piece.full_shape for piece in pieces})
    if in_file.network not in here.values():
        built = ", ".join(network.name for network in here.values()) or "none of the known networks"
        return (
            f"the file holds a {in_file.network.name} with {classes}, and the graph {built}; build what is in the file."
        )
    if in_file.scope not in here:
        return f"the file has the network under the scope {in_file.scope!r}, and the graph under {next(iter(here))!r}."
    options = "".join(f", {name}={value!r}" for name, value in in_file.options.items())
    return f"the file holds a {in_file.network.name} with {classes}{options}; build it so, or exclude what it lacks."


def _shortened(names: Sequence[str], limit: int = 5) -> str:
    shown = ", ".join(names[:limit])
    return shown if len(names) <= limit else f"{shown}, and {len(names) - limit} more"
