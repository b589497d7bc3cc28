"""Whether arrays by name are variables as slim's networks have them, or another library's."""

import re

from checkpoints.diagnosis import sort_names
from checkpoints.diagnosis.structure import Shapes
from checkpoints.names import LAST_NORM, OUTPUT, UNITS

__all__ = ["foreign_names"]

# Parts of names that slim gives its variables and scopes, whatever the network; other libraries have none of them.
_SLIMS = frozenset(("weights", "biases", "DW", "BatchNorm", *LAST_NORM["bottleneck_v2"].split("/")))
# What layers of PyTorch's call their arrays, even where no module's name stands before it.
_PYTORCHS = frozenset(("weight", "running_mean", "running_var"))


def foreign_names(shapes: Shapes) -> list[str]:
    """Returns the names that another library gave its weights, in their order; none where a single one is slim's.

    A name without a path is anybody's, unless it is a convolution's kernel: NumPy's 'arr_0', MXNet's 'conv0_weight'.

    Args:
      shapes: from the names of arrays to their shapes.
    """
    contents = sort_names(shapes)
    if any(map(_is_slims, (*contents.variables, *contents.shadows))):
        return []
    variables = set(contents.variables)
    return [name for name in shapes if name in variables and (_is_path(name) or len(shapes[name]) == 4)]


def _is_slims(name: str) -> bool:
    parts = name.removesuffix(OUTPUT).split("/")
    return not _SLIMS.isdisjoint(parts) or any(pattern.match(name) for pattern, _ in UNITS)


def _is_path(name: str) -> bool:
    return re.search(r"[/.]", name) is not None or name in _PYTORCHS
