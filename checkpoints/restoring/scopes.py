"""Finds the graph's variables in a file: the scopes that they are under, and their moving averages."""

import os
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from checkpoints.diagnosis import Structure, model_shapes, sort_names, structures_in
from checkpoints.files import CheckpointReader
from checkpoints.names import SHADOW, STATISTICS, block_of, joined

__all__ = ["Places", "averages_of", "kind_of", "moved_scopes", "offered_scopes", "places_in", "under_scope"]

# The most scopes that a message offers.
_MOST = 8

Shapes = Mapping[str, tuple[int, ...]]


class Places(NamedTuple):
    """The names under which the graph's variables are looked up in a file.

    renamed: the variables' names in the file (name in the graph → name in the file).
    stored: the names of the values they get, which are those or the ones of their moving averages.
    """

    renamed: dict[str, str]
    stored: dict[str, str]

    def failing(self, reader: CheckpointReader, in_graph: Shapes) -> set[str]:
        """Returns the graph's variables that have no value in the file, or one of another shape."""
        return {name for name, shape in in_graph.items() if reader.shapes.get(self.stored[name]) != shape}


def places_in(
    reader: CheckpointReader, in_graph: Shapes, scope: str | Mapping[str, str] | None, ema: bool = False
) -> Places:
    """Returns the names under which the graph's variables are looked up in a file.

    Args:
      reader: reader of the file.
      in_graph: the graph's variables and their shapes.
      scope, ema: as for ``restoration.restore``.

    Raises:
      ValueError: for a scope that the graph or the file does not have.
    """
    renamed = {name: name for name in in_graph}
    # If one scope lies inside another, the inner one counts: it comes later and overrides the outer one.
    for here, there in sorted(_scopes(reader, in_graph, scope).items(), key=lambda item: len(item[0])):
        inside = [name for name in in_graph if name.startswith(joined(here.strip("/"), ""))]
        if not inside:
            raise ValueError(
                f"scope names {here!r}, but no variable of the graph is under it: name a scope of the graph, as in "
                f"{min(in_graph)}."
            )
        renamed |= {name: under_scope(name, here.strip("/"), there.strip("/")) for name in inside}
    return Places(renamed, averages_of(reader, renamed) if ema else renamed)


def under_scope(name: str, scope: str, other: str) -> str:
    """Returns a name with its scope replaced by another one."""
    return joined(other, name.removeprefix(joined(scope, "")))


def averages_of(reader: CheckpointReader, renamed: Mapping[str, str]) -> dict[str, str]:
    """Returns the names of the variables' moving averages in the file (name in the graph → name in the file)."""
    shadows = sort_names(reader.shapes).shadows
    return {name: _averaged(stored, shadows) for name, stored in renamed.items()}


def _averaged(stored: str, shadows: Mapping[str, str]) -> str:
    # By default only trainable variables are averaged, and moving statistics are not.
    if stored not in shadows and stored.endswith(STATISTICS):
        return stored
    return shadows.get(stored, f"{stored}/{SHADOW}")


def _scopes(reader: CheckpointReader, in_graph: Shapes, scope: str | Mapping[str, str] | None) -> Mapping[str, str]:
    """Returns the argument ``scope`` as a dict from scopes in the graph to those in the file."""
    if scope is None:
        return {}
    if not isinstance(scope, str):
        return scope
    prefix = joined(scope.strip("/"), "")
    if not any(name.startswith(prefix) for name in reader.shapes):
        there = ", ".join(repr(found.scope) for found in structures_in(reader.shapes)) or "no known network"
        raise ValueError(f"scope={scope!r} does not exist in {reader.path}: it has networks under {there}.")
    here = structures_in(in_graph)
    if len(here) > 1:
        raise ValueError(_several(reader, in_graph, here, scope))
    # If there is no known network, it is the scope that all variables have in common.
    common = os.path.commonpath([name.rpartition("/")[0] for name in in_graph])
    return {here[0].scope if here else common: scope}


def _several(reader: CheckpointReader, in_graph: Shapes, here: list[Structure], scope: str) -> str:
    """Returns a sentence on a single scope that is given for a graph of several networks."""
    there = [found for found in structures_in(reader.shapes) if found.scope == scope.strip("/")]
    alike = [ours for ours in here if any(kind_of(ours) == kind_of(theirs) for theirs in there)]
    offer = offered_scopes(reader, in_graph, {name: name for name in in_graph}, preferred=scope.strip("/"))
    if offer is None and alike:
        offer = {ours.scope: scope for ours in alike}
    literal = f", scope={offer!r}" if offer else ""
    networks = ", ".join(repr(ours.scope) for ours in here)
    return (
        f"scope={scope!r} does not say for which of the graph's networks, {networks}: give a dict from their scopes to "
        f"those in the file{literal}."
    )


def kind_of(structure: Structure) -> tuple[str, tuple[int, ...]]:
    """Returns what two networks have in common if their variables have the same names."""
    return structure.kind, structure.units


def offered_scopes(
    reader: CheckpointReader, in_graph: Shapes, renamed: Mapping[str, str], preferred: str | None = None
) -> dict[str, str] | None:
    """Returns a dict from the scopes of the graph's networks to those of such networks in the file.

    Args:
      reader: reader of the file.
      in_graph: the graph's variables and their shapes.
      renamed: the names that they were looked up under.
      preferred: the scope to choose if the file has several such networks.

    Returns:
      The scopes that must be given; None if all were looked up in the right place, or the file has no such network.
    """
    ours, theirs = structures_in(in_graph), structures_in(reader.shapes)
    sought = {here.scope: _sought(here, renamed) for here in ours}
    found: dict[str, str] = {}
    parts: dict[str, str] = {}
    for here in ours:
        alike = [there for there in theirs if kind_of(there) == kind_of(here)]
        if not alike and (pieces := _pieces(here, theirs)):
            parts |= _scopes_of_pieces(here, pieces, in_graph, model_shapes(reader.shapes))
            alike = pieces[:1]
        if any(there.scope == sought[here.scope] for there in alike):
            found[here.scope] = sought[here.scope]
        elif alike:
            found[here.scope] = max(alike, key=lambda there: _nearness(here, there, preferred)).scope
    wrong = [here for here, there in parts.items() if not _is_sought(here, there, renamed)]
    if not wrong and all(sought[here] == there for here, there in found.items()):
        return None
    changed = {here: there for here, there in found.items() if {here, sought[here]} != {there}}
    # A network inside another one's scope must be named too, even if its own scope is right.
    inner = {here: there for here, there in found.items() if any(here.startswith(joined(s, "")) for s in changed)}
    return inner | changed | parts


def _pieces(whole: Structure, theirs: Sequence[Structure]) -> list[Structure]:
    """Returns the file's structures that are the parts of one network, the largest first; none if they are not."""
    if not whole.blocks:
        return []  # a network without residual units is not divided
    units = dict(zip(whole.blocks, whole.units, strict=True))
    pieces = [
        there
        for there in sorted(theirs, key=lambda there: -len(there.blocks))
        if there.unit_scope == whole.unit_scope
        and all(units.get(block) == count for block, count in zip(there.blocks, there.units, strict=True))
    ]
    blocks = [block for piece in pieces for block in piece.blocks]
    return pieces if sorted(blocks) == sorted(units) else []


def _scopes_of_pieces(
    whole: Structure, pieces: Sequence[Structure], in_graph: Shapes, stored: Shapes
) -> dict[str, str]:
    """Returns a dict from scopes that the largest part of a network lacks in the file to those in other parts."""
    prefix = joined(whole.scope, "")
    inside = [name.removeprefix(prefix) for name in in_graph if name.startswith(prefix)]
    scopes = {}
    for child in dict.fromkeys(name.partition("/")[0] for name in inside):
        places = [joined(piece.scope, child) for piece in pieces]
        having = [place for place in places if any(name.startswith(f"{place}/") for name in stored)]
        if having and places[0] not in having:
            scopes[joined(whole.scope, child)] = having[0]
    return scopes


def _is_sought(scope: str, there: str, renamed: Mapping[str, str]) -> bool:
    """Returns whether the variables under a scope in the graph were looked up under that scope in the file."""
    return all(stored.startswith(f"{there}/") for name, stored in renamed.items() if name.startswith(f"{scope}/"))


def _sought(structure: Structure, renamed: Mapping[str, str]) -> str | None:
    """Returns the scope under which a network of the graph was looked up."""
    if structure.unit_scope is None:
        prefix = joined(structure.scope, "")
        name = next(name for name in renamed if name.startswith(prefix))
        relative = name.removeprefix(prefix)
        return renamed[name].removesuffix(relative).rstrip("/") if renamed[name].endswith(relative) else None
    for name, stored in renamed.items():
        if (block := block_of(name)) and block[0] == structure.scope and f"/{structure.unit_scope}/" in name:
            return (block_of(stored) or (None,))[0]
    return None


def _nearness(here: Structure, there: Structure, preferred: str | None) -> tuple[bool, ...]:
    same_shape = (here.base_depths, here.channels) == (there.base_depths, there.channels)
    last = here.scope.rpartition("/")[2] == there.scope.rpartition("/")[2]
    return there.scope == preferred, same_shape, here.num_classes == there.num_classes, last


def moved_scopes(reader: CheckpointReader, in_graph: Shapes, wanted: set[str]) -> dict[str, str] | None:
    """Returns a dict from scopes in the graph to those of the same variables in the file, known network or not.

    Args:
      reader: reader of the file.
      in_graph: the graph's variables and their shapes.
      wanted: variables that must be found.

    Returns:
      The scopes; None if a variable cannot be found, or too many scopes would be needed.
    """
    contents = sort_names(reader.shapes)
    stored = {name: reader.shapes[name] for name in contents.variables}
    moved: dict[str, str] = {}
    for name in sorted(wanted):
        if any(name.startswith(joined(here, "")) for here in moved):
            continue
        if (found := _moved(name, in_graph, wanted, stored)) is None or len(moved) == _MOST:
            return None
        moved[found[0]] = found[1]
    return moved if any(here != there for here, there in moved.items()) else None


def _moved(name: str, in_graph: Shapes, wanted: set[str], stored: Shapes) -> tuple[str, str] | None:
    """Returns (scope in the graph, scope in the file) for a variable's widest scope that the file has as a whole."""
    parts = name.split("/")
    for count in range(len(parts)):
        here, rest = "/".join(parts[:count]), "/".join(parts[count:])
        inside = [each for each in in_graph if each.startswith(joined(here, "")) and each in wanted]
        ends = [other.removesuffix(rest).strip("/") for other in stored if f"/{other}".endswith(f"/{rest}")]
        if count > 1:  # the scope of a layer or a block keeps its name
            ends = [end for end in ends if end.rpartition("/")[2] == parts[count - 1]]
        whole = [end for end in ends if all(stored.get(under_scope(n, here, end)) == in_graph[n] for n in inside)]
        if len(whole) == 1:
            return here, whole[0]
    return None
