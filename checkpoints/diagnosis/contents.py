"""The stored names, sorted into variables of the network and what a training run keeps beside them."""

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

    variables: neither of the rest: the network's, or another part's of the same model.
    shadows: from variables' names to those of their moving averages.
    extras: from what a training run leaves besides ('global_step', 'mean_rgb', 'slots Momentum', ...) to the names.
    """

    variables: tuple[str, ...]
    shadows: dict[str, str]
    extras: dict[str, tuple[str, ...]]


def sort_names(names: Collection[str]) -> Contents:
    """Tells variables from what an optimizer, a moving average and a training loop keep of them."""
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
            # Of several averages the one of the plain name, which TensorFlow itself takes.
            if name == f"{owner}/{SHADOW}" or owner not in shadows:
                shadows[owner] = name
        elif leaf not in LAYER_VARIABLES and (owner := _owner(parent, present)):
            companions[leaf][owner] = name
            extras[f"slots {leaf}"].append(name)
        else:
            variables.append(name)
    for leaf, owned in companions.items():
        # An optimizer has nothing to keep of moving statistics, and what corrects their bias has nothing to keep of the
        # rest; a moving average of another name has of both.
        of_statistics = {owner.endswith(STATISTICS) for owner in owned}
        if of_statistics == {True, False}:
            shadows = owned | shadows
            del extras[f"slots {leaf}"]
    return Contents(tuple(variables), shadows, {label: tuple(found) for label, found in extras.items()})


def _owner(name: str, present: set[str]) -> str | None:
    """The variable that a companion is kept of; an optimizer that was made under a scope repeats its name there."""
    while name and name not in present:
        name = name.partition("/")[2]
    return name or None
