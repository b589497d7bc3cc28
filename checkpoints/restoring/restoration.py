"""Restores a checkpoint into a session and reports what became of each variable; strict unless told otherwise."""

import dataclasses
import functools
import os
import re
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import tensorflow as tf
import tf_slim as slim

from checkpoints.diagnosis.value_faults import untrained_statistics, value_kind
from checkpoints.errors import CheckpointMismatch, shortened
from checkpoints.files import CheckpointReader
from checkpoints.names import block_of
from checkpoints.opening import reader_of
from checkpoints.restoring.assignment import assign
from checkpoints.restoring.graph_settings import other_settings
from checkpoints.restoring.pieces import pieces_of
from checkpoints.restoring.plan import Plan, plan_restore
from nets.guards import InferenceWarning

__all__ = ["RestoreReport", "init_fn", "restore"]

v1 = tf.compat.v1


@dataclasses.dataclass(frozen=True)
class RestoreReport:
    """The result of a restore. Names are those of the graph, except for ``unused``, which are those of the file.

    path: path of the checkpoint.
    format: its format, as ``CheckpointReader`` has it.
    loaded: variables that were restored.
    missing, mismatched: variables without a value in the file, or with one of another shape; always empty, as restoring
      raises ``CheckpointMismatch`` for them.
    unused: what else the file holds, such as optimizer slots or a global step.
    warnings: reasons to doubt the restored values, one sentence each.
    excluded: variables that ``exclude`` left alone, whether or not the file has them.
    sources: the names in the file of the values that ``loaded`` got, in the same order.
    """

    path: Path
    format: str
    loaded: tuple[str, ...]
    missing: tuple[str, ...]
    mismatched: tuple[str, ...]
    unused: tuple[str, ...]
    warnings: tuple[str, ...] = ()
    excluded: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()

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
    """Gives the variables of a session their values from a checkpoint, and changes none if one does not fit.

    Doubtful values, such as moving statistics that training never updated, are restored with an ``InferenceWarning``.

    Args:
      session: an open session. Its graph gets no new op, unless a variable has no assignment in it.
      checkpoint: a path or a key, as for ``open_checkpoint``, or an open reader.
      variables: variables to restore; None for the graph's model variables, or all global ones if it has none.
      scope: variable scope of the network in the file, if the graph has another; for several networks a dict from
        their scopes in the graph to those in the file.
      exclude: patterns with * and ? of the names of variables to leave alone, such as 'resnet_v2_50/logits/*'.
      ema: take the variables' moving averages (``tf.train.ExponentialMovingAverage``) in place of their values. Moving
        statistics without an average are taken as they are.
      num_classes: classes of the graph's logits, to convert the file's: 1000 drops the background of 1001 classes,
        1001 adds to 1000 a background, as class 0, that never wins.
      first_kernel: how to convert the first kernel from the file's c image channels to the graph's k. 'mean' gives each
        channel the sum over the file's channels divided by k. 'repeat' gives channel i the file's channel i modulo c,
        divided by its number of copies; if k < c, the sum of the file's channels that are i modulo k. The response to
        an image of equal channels stays the same.

    Raises:
      CheckpointMismatch: if a variable that is not excluded has no value in the file or one of another shape; or if,
        with ``variables`` None, a block of the file has weights that the graph's block lacks.
      CheckpointError: if there is no checkpoint, or it is damaged.
      ValueError: if there is no variable, a pattern fits none, or another argument cannot be honoured.
    """
    reader = reader_of(checkpoint)
    pieces = pieces_of(session.graph, variables)
    options = {"scope": scope, "exclude": exclude, "ema": ema, "num_classes": num_classes, "first_kernel": first_kernel}
    plan = plan_restore(reader, {piece.name: piece.full_shape for piece in pieces}, **options)
    _check(plan, session.graph, whole_network=variables is None)
    # All values are read before any is assigned, so that a damaged file leaves the session as it was.
    values = plan.read()
    converted = [(piece.variable, piece.value(reader, values[piece.name])) for piece in pieces if piece.name in values]
    assign(session, converted)
    doubts = tuple(_doubts(plan, session.graph, values, converted))
    for sentence in doubts:
        warnings.warn(f"{reader.path}: {sentence}", InferenceWarning, stacklevel=2)
    excluded = tuple(name for name in plan.shapes if name in plan.excluded)
    sources = tuple(plan.sources[name] for name in values)
    return RestoreReport(reader.path, reader.format, tuple(values), (), (), plan.unused, doubts, excluded, sources)


def init_fn(
    checkpoint: str | os.PathLike[str] | CheckpointReader,
    *,
    scope: str | Mapping[str, str] | None = None,
    exclude: str | Sequence[str] | None = (),
    ema: bool = False,
    num_classes: int | None = None,
    first_kernel: str | None = None,
) -> Callable[[v1.Session], RestoreReport]:
    """Returns a function that restores a checkpoint, as ``slim.learning.train(init_fn=...)`` calls it.

    slim calls it after the initializers, unless ``logdir`` holds a checkpoint to resume from. The model variables are
    restored; slots and the global step begin anew. It works in a finalized graph.

    Args:
      checkpoint, scope, exclude, ema, num_classes, first_kernel: as for ``restore``.

    Raises:
      CheckpointError: at once, if there is no checkpoint. The function itself raises as ``restore`` does.
    """
    options = {"scope": scope, "exclude": exclude, "ema": ema, "num_classes": num_classes, "first_kernel": first_kernel}
    return functools.partial(restore, checkpoint=reader_of(checkpoint), **options)


def _check(plan: Plan, graph: tf.Graph, whole_network: bool) -> None:
    """Raises CheckpointMismatch, with the likely cause, if the file does not fit the graph."""
    superfluous = plan.superfluous if whole_network else []
    if not (plan.missing or plan.mismatched or superfluous):
        return
    from checkpoints.restoring.explanation import explain
    from checkpoints.restoring.mismatch import Mismatch

    with graph.as_default():
        has_model_variables = bool(slim.get_model_variables())
    mismatch = Mismatch.of(plan, superfluous, has_model_variables)
    raise CheckpointMismatch(explain(mismatch), mismatch.missing, mismatch.mismatched, plan.unused)


def _doubts(
    plan: Plan,
    graph: tf.Graph,
    values: Mapping[str, np.ndarray],
    assigned: Iterable[tuple[tf.Variable, np.ndarray]],
) -> Iterator[str]:
    """Yields sentences on what makes the restored values of doubtful use."""
    names = [variable.op.name for variable, value in assigned if value_kind(value) == "not finite"]
    if names:
        yield (
            f"{len(names)} variables were restored to NaN or infinite values ({shortened(names)}), and the results "
            "will be, too: take another checkpoint; `slimnets inspect --check` examines a file."
        )
    if sentence := untrained_statistics(values):
        yield sentence
    # Where the file's graph pads its first pooling in another way too, the first says what to do about it.
    built = (plan.reader, graph, plan.places.renamed)
    if sentence := _other_pooling(*built) or other_settings(*built):
        yield sentence


def _other_pooling(reader: CheckpointReader, graph: tf.Graph, renamed: Mapping[str, str]) -> str | None:
    """Returns a sentence if the graph pads its first pooling differently from what the file's notes say, else None."""
    wanted = reader.notes.pool1_padding if reader.notes else None
    kernels = [name for name in renamed if name.endswith("conv1/weights") and block_of(name) is None]
    if wanted is None or not kernels:
        return None
    # The network's name scope is its variable scope, with a number if that was entered before.
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
