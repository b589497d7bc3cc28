"""Object-based checkpoints (``tf.train.Checkpoint``, a SavedModel's variables): the variables' names in them."""

from collections import defaultdict
from collections.abc import Collection

from tensorflow.core.protobuf import trackable_object_graph_pb2

__all__ = ["OBJECT_GRAPH", "stored_keys"]

# Where such a checkpoint holds the graph of its objects, a protocol buffer.
OBJECT_GRAPH = "_CHECKPOINTABLE_OBJECT_GRAPH"


def stored_keys(object_graph: bytes, keys: Collection[str]) -> dict[str, str]:
    """Returns, from the names of what an object-based checkpoint holds, to the keys that it is stored under.

    A variable has the name that it had in its graph, as TensorFlow's Saver takes it. What has no such name, or one that
    another variable has too, keeps its key, which tells the way to it from object to object.

    Args:
      object_graph: the value that is stored as ``OBJECT_GRAPH``.
      keys: all that are stored.

    Raises:
      google.protobuf.message.DecodeError: if it is damaged.
    """
    graph = trackable_object_graph_pb2.TrackableObjectGraph.FromString(object_graph)
    named: dict[str, set[str]] = defaultdict(set)
    for node in graph.nodes:
        for attribute in node.attributes:
            if attribute.full_name and attribute.checkpoint_key in keys:
                named[attribute.full_name].add(attribute.checkpoint_key)
    names = {key: name for name, (key, *others) in named.items() if not others and name not in keys}
    return {names.get(key, key): key for key in keys if key != OBJECT_GRAPH}
