"""Tells what is special about the weights in a graph: freezing leaves out all that an end point does not need."""

from collections.abc import Collection

from checkpoints.diagnosis.contents import Contents
from checkpoints.diagnosis.structure import Structure
from checkpoints.errors import Problem
from checkpoints.files.graph import GraphFile
from checkpoints.names import LAST_NORM, NORM, STATISTICS, block_of, joined, root_of
from nets.nets_factory import NETWORKS, Network

__all__ = ["CUT_OFF", "beginnings", "cut_off", "graph_problem", "pool1_padding_of"]

# The kind of the problem that only the beginning of a network is there.
CUT_OFF = "cut off"


def graph_problem(path: object, graph: GraphFile, names: Collection[str]) -> Problem | None:
    """Returns the problem that a graph has lost its batch norms or their statistics; None if it has them.

    Args:
      path: path of the file.
      graph: the graph in it.
      names: names of the weights in the file.
    """
    inside = [name for name in names if block_of(name)]
    # The first convolution of each unit has a batch norm, or else biases; in networks for small images it has neither.
    first = [node for node in graph.nodes if node.endswith("/conv1/Conv2D") and "/sub1/" not in node and block_of(node)]
    if first and not any("/conv1/BatchNorm/" in name or "/conv1/biases" in name for name in inside):
        sentence = (
            f"{path} has its batch norms folded into the convolutions, as optimize_for_inference and transform_graph "
            "do, and they cannot be separated again: take the graph from before that, or the checkpoint."
        )
        return Problem("folded", sentence)
    leaves = {name.rpartition("/")[2] for name in inside}
    if "beta" in leaves and not leaves & {*STATISTICS}:
        sentence = (
            f"{path} has no moving statistics, since the graph was frozen in training mode, which does not use them: "
            "freeze the network built for inference, or take the checkpoint."
        )
        return Problem("training mode", sentence)
    return None


def pool1_padding_of(graph: GraphFile | None, scope: str) -> str | None:
    """Returns how a graph pads its network's first pooling, 'SAME' or 'PAD1'; None if there is no such node."""
    settings = graph.settings.get(joined(scope, "pool1/MaxPool")) if graph else None
    return settings and ("SAME" if settings["padding"] == b"SAME" else "PAD1")


def beginnings(structure: Structure, contents: Contents, nodes: Collection[str]) -> list[Network]:
    """Returns the networks of the table of which a graph holds only the beginning; none if it holds a whole one.

    Args:
      structure: the network in the graph. Its last unit may be incomplete.
      contents: the names of the graph's weights.
      nodes: names of the graph's nodes.
    """
    if (
        structure.unit_scope is None
        or structure.num_classes
        or structure.blocks != tuple(range(1, len(structure.blocks) + 1))
    ):
        return []
    last, prefix = len(structure.blocks) - 1, joined(structure.scope, "")
    names = {name.removeprefix(prefix) for name in contents.variables if name.startswith(prefix)}
    if root_of(structure.unit_scope) not in names:
        return []
    networks = [network for network in NETWORKS.values() if network.variant]
    found = [network for network in networks if _begins_with(network, structure)]
    ending = [network for network in found if network.variant.units[last] == structure.units[last]]
    others = [network for network in found if network not in ending]
    if ending and others:
        # slim's blocks end in a unit with a stride. Its convolution is padded, and its shortcut is subsampled.
        unit = f"{prefix}block{last + 1}/unit_{structure.units[last]}/{structure.unit_scope}"
        found = ending if {f"{unit}/Pad", f"{unit}/shortcut/MaxPool"} & {*nodes} else others
    return [network for network in found if not _is_whole(network, structure, names)]


def _begins_with(network: Network, structure: Structure) -> bool:
    """Returns whether a network has all units of a structure, and units of the same widths."""
    units, widths = network.variant.units, network.variant.base_depths
    last = len(structure.units) - 1
    return (
        network.unit_scope == structure.unit_scope
        and len(units) > last
        and units[:last] == structure.units[:last]
        and units[last] >= structure.units[last]
        # A width is that of a unit's first convolution, which the last block may not have yet.
        and all(here in (0, there) for here, there in zip(structure.base_depths, widths, strict=False))
    )


def _is_whole(network: Network, structure: Structure, names: Collection[str]) -> bool:
    """Returns whether the last layer of a network before its logits is among these names."""
    if network.variant.units != structure.units:
        return False
    if norm := LAST_NORM.get(structure.unit_scope):
        return any(f"{norm}/{leaf}" in names for leaf in NORM)
    unit = f"block{structure.blocks[-1]}/unit_{structure.units[-1]}/{structure.unit_scope}"
    return f"{unit}/conv{3 if network.variant.bottleneck else 2}/weights" in names


def cut_off(path: object, structure: Structure, networks: Collection[Network]) -> Problem:
    """Returns the problem that a graph holds only the beginning of a network."""
    names = " or ".join(network.name for network in networks)
    last = f"block{structure.blocks[-1]}/unit_{structure.units[-1]}"
    sentence = (
        f"{path} holds only the beginning of {names}, up to {last}, as it was frozen to an early end point: ask for "
        "features of end points up to there, or take the graph of the whole network, or its checkpoint."
    )
    return Problem(CUT_OFF, sentence)
