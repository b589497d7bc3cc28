"""Finds a network's end points in somebody's graph by the names of its nodes."""

from collections.abc import Collection, Iterator
from typing import Any

import tensorflow as tf

from nets import endpoint_info
from nets.nets_factory import Network, get_network_fn

__all__ = ["find_end_points"]

v1 = tf.compat.v1


def find_end_points(
    network: Network, nodes: Collection[str], *, channels: int | None = None, **arguments: Any
) -> dict[str, str | None]:
    """Finds the end points of a network among the names of a graph's nodes.

    Args:
      network: the network, which is built to get its end points.
      nodes: names of the graph's nodes.
      channels: channels of the images; None for the network's.
      **arguments: further arguments of the network's builder, such as ``scope``. The network's nodes may be under
        another scope than its variables, as they are if a program builds it a second time.

    Returns:
      The aliases of all end points, in graph order, and the names of their nodes; None for those not in the graph.
    """
    size = network.image_size
    with tf.Graph().as_default():
        images = v1.placeholder(tf.float32, [None, size, size, channels or network.channels], name="images")
        _, end_points = get_network_fn(network.name, network.num_classes)(images, **arguments)
        names = {point.alias: point.tensor.op.name for point in endpoint_info.describe(images, end_points)}
    scope = arguments.get("scope", network.scope)
    relative = {alias: name.removeprefix(f"{scope}/") for alias, name in names.items()}
    nodes = {*nodes}
    best = max(_prefixes(scope, relative, nodes), key=lambda prefix: _count(prefix, relative, nodes))
    return {alias: best + name if best + name in nodes else None for alias, name in relative.items()}


def _prefixes(scope: str, relative: dict[str, str], nodes: set[str]) -> Iterator[str]:
    """Yields the beginnings of names under which the network may be, the scope of its variables first."""
    yield f"{scope}/" if scope else ""
    first = next(iter(relative.values()))
    yield from sorted(node.removesuffix(first) for node in nodes if node == first or node.endswith(f"/{first}"))


def _count(prefix: str, relative: dict[str, str], nodes: set[str]) -> int:
    return sum(prefix + name in nodes for name in relative.values())
