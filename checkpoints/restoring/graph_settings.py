"""Compares a session's graph with the one in the file: a frozen graph tells how its network was built."""

from collections.abc import Iterator, Mapping

import tensorflow as tf

from checkpoints.files import CheckpointReader
from checkpoints.names import joined

__all__ = ["other_settings"]


def other_settings(reader: CheckpointReader, graph: tf.Graph, renamed: Mapping[str, str]) -> str | None:
    """Returns a sentence if the file's graph has other strides, paddings, rates or epsilons, and None otherwise.

    Args:
      reader: reader of the file.
      graph: graph of the session.
      renamed: names of the variables in the graph, and those in the file.
    """
    if reader.graph is None:
        return None
    differences = list(_differences(reader, graph, _scopes(renamed)))
    if not differences:
        return None
    name, attribute, there, here = differences[0]
    return (
        f"the network was built in another way than in the file, where {name} has {attribute}={_shown(there)} and not "
        f"{_shown(here)} ({len(differences)} such differences): results differ from those of the file's graph; build "
        "it with the same options, such as output_stride."
    )


def _differences(
    reader: CheckpointReader, graph: tf.Graph, scopes: Mapping[str, str]
) -> Iterator[tuple[str, str, object, object]]:
    """Yields (name in the file, attribute, value in the file, value here) of the operations in both graphs."""
    settings = reader.graph.settings
    for op in graph.get_operations():
        for here, there in scopes.items():
            if here and not op.name.startswith(f"{here}/"):
                continue
            name = joined(there, op.name.removeprefix(here).removeprefix("/"))
            for attribute, value in settings.get(name, {}).items():
                if value != (built := op.get_attr(attribute)):
                    yield name, attribute, value, built


def _scopes(renamed: Mapping[str, str]) -> dict[str, str]:
    """Returns the scopes of the graph in which names differ, and those in the file."""
    scopes = {}
    for here, there in renamed.items():
        ours, theirs = here.split("/"), there.split("/")
        while ours and theirs and ours[-1] == theirs[-1]:
            ours.pop()
            theirs.pop()
        scopes["/".join(ours)] = "/".join(theirs)
    return scopes


def _shown(value: object) -> str:
    return repr(value.decode()) if isinstance(value, bytes) else repr(value)
