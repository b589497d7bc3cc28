"""From a checkpoint into the session it is given, with a report of what went where. Strict unless told otherwise."""

import dataclasses
import fnmatch
import os
import re
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
import tf_slim as slim

from checkpoints.background import class_conversion
from checkpoints.damage import shortened, untrained_statistics, value_kind
from checkpoints.files import CheckpointError
from checkpoints.mismatch import CheckpointMismatch, Mismatch
from checkpoints.naming import SHADOW, STATISTICS, block_of, is_logits, joined
from checkpoints.reader import CheckpointReader, open_checkpoint
from checkpoints.structure import sort_names, structures_in
from nets.guards import InferenceWarning

__all__ = ["RestoreReport", "restore"]

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
    warnings: what makes the restored values of doubtful use.
    """

    path: Path
    format: str
    loaded: tuple[str, ...]
    missing: tuple[str, ...]
    mismatched: tuple[str, ...]
    unused: tuple[str, ...]
    warnings: tuple[str, ...] = ()

    def __str__(self) -> str:
        lines = [f"{self.path} ({self.format}): {len(self.loaded)} variables loaded"]
        for label in ("missing", "mismatched", "unused"):
            names = getattr(self, label)
            examples = f": {shortened(names)}" if names else ""
            lines.append(f"  {len(names)} {label}{examples}")
        return "\n".join(lines)


def restore(
    session: v1.Session,
    checkpoint: str | Path | CheckpointReader,
    *,
    variables: Iterable[tf.Variable] | None = None,
    scope: str | Mapping[str, str] | None = None,
    exclude: str | Sequence[str] = (),
    ema: bool = False,
    num_classes: int | None = None,
) -> RestoreReport:
    """Gives the variables of a session their values from a checkpoint.

    Adds no op to the graph, and runs no initializer but with the file's values. Moving statistics that training never
    touched are restored with an ``InferenceWarning``.

    Args:
      session: an open session.
      checkpoint: a path, as for ``open_checkpoint``, or an open reader.
      variables: what to restore; None for the graph's model variables, or all global ones where it has none.
      scope: the variable scope that the network has in the file, where it has another in the graph; with several
        networks, from their scopes in the graph to those in the file.
      exclude: patterns with * and ? of the names of variables to leave alone, such as 'resnet_v2_50/logits/*'.
      ema: take the moving averages (``tf.train.ExponentialMovingAverage``) that the file has of the variables in their
        place; moving statistics that it has no average of are taken as they are.
      num_classes: of the graph's logits, where the file's are to be converted: 1000 drops the background of 1001
        classes, 1001 adds one to 1000, as class 0, that never wins.

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
        if variables is None:
            variables = slim.get_model_variables() or v1.global_variables()
        pieces = [_Piece.of(part) for variable in variables for part in _parts(variable)]
    if not pieces:
        raise ValueError("There is no variable to restore: build the network first, in the session's graph.")
    in_graph = {piece.name: piece.full_shape for piece in pieces}
    excluded = _matching(in_graph, [exclude] if isinstance(exclude, str) else list(exclude))
    renamed = _renamed(reader, in_graph, scope)
    sources = _averages(reader, renamed) if ema else renamed
    kept = {name: stored for name, stored in sources.items() if name not in excluded}
    conversions = {} if num_classes is None else _conversions(reader, in_graph, kept, num_classes)
    missing = [name for name in in_graph if sources[name] not in reader.shapes]
    mismatched = {}
    for name, shape in in_graph.items():
        stored = reader.shapes.get(sources[name])
        converted = (*stored[:-1], num_classes) if stored and name in conversions else stored
        if stored is not None and converted != shape:
            mismatched[name] = (shape, stored)
    used = set(kept.values())
    unused = tuple(name for name in reader.shapes if name not in used)
    failing = Mismatch(
        reader,
        in_graph,
        sources,
        missing=[name for name in missing if name not in excluded],
        mismatched={name: shapes for name, shapes in mismatched.items() if name not in excluded},
        superfluous=_superfluous_in_blocks(reader, set(renamed.values())) if whole_network else [],
        ema=ema,
    )
    if failing:
        raise CheckpointMismatch(failing.message, failing.missing, failing.mismatched, unused)
    wanted = [piece for piece in pieces if piece.name not in excluded]
    # All is read before anything is assigned, so that a damaged file leaves the session as it was.
    values = {}
    for name in dict.fromkeys(piece.name for piece in wanted):
        value = reader.read(sources[name])
        values[name] = conversions[name](value) if name in conversions else value
    converted = [(piece.variable, _value(reader, piece, values[piece.name])) for piece in wanted]
    _assign(session, converted)
    doubts = (_not_finite(converted), untrained_statistics(values), _other_pooling(session.graph, reader, renamed))
    found = [sentence for sentence in doubts if sentence]
    for sentence in found:
        warnings.warn(f"{reader.path}: {sentence}", InferenceWarning, stacklevel=2)
    return RestoreReport(
        path=reader.path,
        format=reader.format,
        loaded=tuple(values),
        missing=tuple(missing),
        mismatched=tuple(mismatched),
        unused=unused,
        warnings=tuple(found),
    )


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


def _renamed(
    reader: CheckpointReader, in_graph: Mapping[str, tuple[int, ...]], scope: str | Mapping[str, str] | None
) -> dict[str, str]:
    """From the graph's variables to their names in the file."""
    renamed = {name: name for name in in_graph}
    # Of two scopes, one inside of the other, the inner one counts.
    for here, there in sorted(_scopes(reader, in_graph, scope).items(), key=lambda item: len(item[0])):
        prefix = joined(here.strip("/"), "")
        inside = [name for name in in_graph if name.startswith(prefix)]
        if not inside:
            raise ValueError(f"scope names {here!r}, under which the graph has no variable, such as {min(in_graph)}.")
        renamed |= {name: joined(there.strip("/"), name.removeprefix(prefix)) for name in inside}
    return renamed


def _averages(reader: CheckpointReader, renamed: Mapping[str, str]) -> dict[str, str]:
    """From the graph's variables to the names of their moving averages in the file."""
    shadows = sort_names(reader.shapes).shadows
    return {name: _averaged(stored, shadows) for name, stored in renamed.items()}


def _averaged(stored: str, shadows: Mapping[str, str]) -> str:
    # An average of all trainable variables, which is the default, leaves the moving statistics out.
    if stored not in shadows and stored.endswith(STATISTICS):
        return stored
    return shadows.get(stored, f"{stored}/{SHADOW}")


def _scopes(
    reader: CheckpointReader, in_graph: Mapping[str, tuple[int, ...]], scope: str | Mapping[str, str] | None
) -> Mapping[str, str]:
    """From scopes in the graph to those in the file."""
    if scope is None:
        return {}
    if not isinstance(scope, str):
        return scope
    prefix = joined(scope.strip("/"), "")
    if not any(name.startswith(prefix) for name in reader.shapes):
        there = ", ".join(repr(found.scope) for found in structures_in(reader.shapes)) or "no known network"
        raise ValueError(f"scope={scope!r} is none in {reader.path}: it has networks under {there}.")
    here = [found.scope for found in structures_in(in_graph)]
    if len(here) > 1:
        raise ValueError(
            f"scope={scope!r} does not say for which of the graph's networks, {', '.join(map(repr, here))}: give a "
            "dict from their scopes to those in the file."
        )
    # Without a known network, the scope that all the variables have in common.
    return {here[0] if here else os.path.commonpath([name.rpartition("/")[0] for name in in_graph]): scope}


def _conversions(
    reader: CheckpointReader, in_graph: Mapping[str, tuple[int, ...]], sources: Mapping[str, str], num_classes: int
) -> dict[str, Callable[[np.ndarray], np.ndarray]]:
    """From the graph's logits to what makes the file's values theirs."""
    logits = [name for name in sources if is_logits(name)]
    here = {in_graph[name][-1] for name in logits}
    if here != {num_classes}:
        classes = " and ".join(f"{number} classes" for number in sorted(here)) or "no logits"
        raise ValueError(
            f"num_classes={num_classes} is what the file's logits are to become, and the graph has {classes}: "
            f"build the network with num_classes={num_classes}, or leave it out."
        )
    stored = {reader.shapes[sources[name]][-1] for name in logits if sources[name] in reader.shapes}
    if stored == {num_classes}:
        return {}
    if len(stored) == 1 and (found := class_conversion(*stored, num_classes)):
        return dict.fromkeys(logits, found.apply)
    there = f"{min(stored)} classes" if stored else "no logits"
    raise ValueError(
        f"num_classes={num_classes} cannot be had from {reader.path}, which has {there}: 1001 can be made 1000, and "
        "1000 made 1001; otherwise build the network with the file's number, or exclude the logits."
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


def _matching(names: Iterable[str], patterns: Sequence[str]) -> set[str]:
    matching = set()
    for pattern in patterns:
        matches = fnmatch.filter(names, pattern)
        if not matches:
            raise ValueError(
                f"exclude={pattern!r} fits no variable of the graph, such as {min(names, default='none')}."
            )
        matching.update(matches)
    return matching


def _assign(session: v1.Session, values: Iterable[tuple[tf.Variable, np.ndarray]]) -> None:
    """Runs the variables' initializers with the stored values in the place of the initial ones."""
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
    return f"{reader.path} has {types}: exclude it, or take another file."
