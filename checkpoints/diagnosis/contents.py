"""Sorts stored names into variables of the network and what a training run keeps beside them."""

import re
from collections import defaultdict
from collections.abc import Collection
from typing import NamedTuple

from checkpoints.names import LAYER_VARIABLES, SHADOW, STATISTICS

__all__ = ["Contents", "sort_names"]

_BOOKKEEPING = (
    (re.compile(r"(?:^|/)global_step$"), "global_step"),
    (re.compile(r"(?:^|/)mean_rgb$"), "mean_rgb"),
    (re.compile(r"^save_counter$"), "save_counter"),  # of tf.train.Checkpoint
    (re.compile(r"(?:^|/)beta[12]_power(?:_\d+)?$"), "beta powers (Adam)"),
)


class Contents(NamedTuple):
    """The stored names, sorted by what they are.

    variables: variables of the network, or of another part of the same model.
    shadows: moving averages (name of the variable → name of its average).
    extras: what else a training run stores ('global_step', 'mean_rgb', 'slots Momentum', ... → names).
    """

    variables: tuple[str, ...]
    shadows: dict[str, str]
    extras: dict[str, tuple[str, ...]]


def sort_names(names: Collection[str]) -> Contents:
    """Separates variables from what an optimizer, a moving average and a training loop store beside them."""
    present = set(names)
    variables, shadows = [], {}
    extras: dict[str, list[str]] = defaultdict(list)
    companions: dict[str, dict[str, str]] = defaultdict(dict)
    for name in sorted(present):
        parent, _, leaf = name.rpartition("/")
        leaf = re.sub(r"_\d+$", "", leaf)
        if label := next((label for pattern, label in _BOOKKEEPING if pattern.search(name)), None):
            extras[label].append(name)
        elif leaf == SHADOW:
            owner = _owner(parent, present) or parent
            # Of several averages, TensorFlow itself takes the one with the plain name.
            if name == f"{owner}/{SHADOW}" or owner not in shadows:
                shadows[owner] = name
        elif leaf not in LAYER_VARIABLES and (owner := _owner(parent, present)):
            companions[leaf][owner] = name
            extras[f"slots {leaf}"].append(name)
        else:
            variables.append(name)
    for leaf, owned in companions.items():
        # An optimizer stores nothing for moving statistics, and the correction of their bias stores nothing for other
        # variables. Names that exist for both are moving averages under another name.
        of_statistics = {owner.endswith(STATISTICS) for owner in owned}
        if of_statistics == {True, False}:
            shadows = owned | shadows
            del extras[f"slots {leaf}"]
    return Contents(tuple(variables), shadows, {label: tuple(found) for label, found in extras.items()})


def _owner(name: str, present: set[str]) -> str | None:
    """Returns the variable that a stored companion belongs to; an optimizer under a scope puts that before its name."""
    while name and name not in present:
        name = name.partition("/")[2]
    return name or None
