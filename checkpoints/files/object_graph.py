"""Names of the variables in object-based checkpoints (``tf.train.Checkpoint``, a SavedModel's variables)."""

from collections import defaultdict
from collections.abc import Collection

from tensorflow.core.protobuf import trackable_object_graph_pb2

__all__ = ["OBJECT_GRAPH", "stored_keys"]

# The name under which such a checkpoint stores the graph of its objects, a protocol buffer.
OBJECT_GRAPH = "_CHECKPOINTABLE_OBJECT_GRAPH"


def stored_keys(object_graph: bytes, keys: Collection[str]) -> dict[str, str]:
    """Returns the keys under which an object-based checkpoint stores its values (name → key).

    A variable gets the name that it had in its graph, as TensorFlow's Saver does it. A value without such a name, or
    with one that another variable has too, keeps its key, which is the path to it from object to object.

    Args:
      object_graph: the value stored as ``OBJECT_GRAPH``.
      keys: all stored keys.

    Raises:
      google.protobuf.message.DecodeError: if the object graph is damaged.
    """
    graph = trackable_object_graph_pb2.TrackableObjectGraph.FromString(object_graph)
    named: dict[str, set[str]] = defaultdict(set)
    for node in graph.nodes:
        for attribute in node.attributes:
            if attribute.full_name and attribute.checkpoint_key in keys:
                named[attribute.full_name].add(attribute.checkpoint_key)
    names = {key: name for name, (key, *others) in named.items() if not others and name not in keys}
    return {names.get(key, key): key for key in keys if key != OBJECT_GRAPH}
