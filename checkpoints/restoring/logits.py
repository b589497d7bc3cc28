"""Converts a file's logits for a graph with another number of classes."""

from collections.abc import Callable, Collection, Mapping

import numpy as np

from checkpoints.background_class import class_conversion
from checkpoints.files import CheckpointReader
from checkpoints.names import is_logits
from checkpoints.patterns import offered, patterns_for

__all__ = ["class_conversions"]


def class_conversions(
    reader: CheckpointReader,
    in_graph: Mapping[str, tuple[int, ...]],
    stored: Mapping[str, str],
    excluded: Collection[str],
    num_classes: int,
) -> dict[str, Callable[[np.ndarray], np.ndarray]]:
    """Returns the functions that convert the file's logits (name in the graph → function).

    Args:
      reader: reader of the file.
      in_graph: the graph's variables and their shapes.
      stored: the variables' names in the file (name in the graph → name in the file).
      excluded: variables that are left alone.
      num_classes: number of classes of the graph, to which the file's logits are converted.

    Raises:
      ValueError: if the graph has another number, or the file's logits cannot be converted to it.
    """
    logits = [name for name in in_graph if is_logits(name) and name not in excluded]
    there = {reader.shapes[stored[name]][-1] for name in logits if stored[name] in reader.shapes}
    unfound = [name for name in in_graph if name not in excluded and stored[name] not in reader.shapes]
    if logits and not there and not set(unfound) <= set(logits):
        return {}  # the network itself was not found, which CheckpointMismatch explains
    here = {in_graph[name][-1] for name in logits}
    if here != {num_classes}:
        raise ValueError(_another_number(in_graph, logits, there, excluded, num_classes))
    if there == {num_classes}:
        return {}
    if len(there) == 1 and (found := class_conversion(*there, num_classes)):
        return dict.fromkeys(logits, found.apply)
    holds = " and ".join(f"{number} classes" for number in sorted(there)) or "no logits"
    build = f"build the network with num_classes={next(iter(there), None)} or " if len(there) < 2 else ""
    exclude = offered(patterns_for([*logits, *excluded], in_graph))
    raise ValueError(
        f"num_classes={num_classes} cannot be made from {reader.path}, which has {holds}: only 1001 classes can become "
        f"1000, and 1000 become 1001; leave num_classes out, and {build}give {exclude}."
    )


def _another_number(
    in_graph: Mapping[str, tuple[int, ...]],
    logits: Collection[str],
    there: set[int],
    excluded: Collection[str],
    num_classes: int,
) -> str:
    """Returns a sentence on a number of classes that is not the graph's, with what to do."""
    here = {in_graph[name][-1] for name in logits}
    classes = " and ".join(f"{number} classes" for number in sorted(here)) or "no logits"
    others = [name for name in logits if in_graph[name][-1] != num_classes]
    repairs = []
    if there == {num_classes} or (len(there) == 1 and class_conversion(*there, num_classes)):
        repairs.append(f"build the network with num_classes={num_classes}")
        if num_classes in here:
            repairs.append(f"give {offered(patterns_for([*others, *excluded], in_graph))}")
    if not here or here == there:
        repairs.append("leave it out")
    elif len(here) == len(there) == 1 and class_conversion(*there, *here):
        repairs.append(f"give num_classes={next(iter(here))}")
    if not repairs:
        exclude = offered(patterns_for([*logits, *excluded], in_graph))
        repairs.append(f"leave it out, and give {exclude}")
    return (
        f"num_classes={num_classes} converts the file's logits to the graph's classes, and the graph has {classes}: "
        f"{', or '.join(repairs)}."
    )
