"""Recognizes names of arrays that another library gave."""

import re

from checkpoints.diagnosis import sort_names
from checkpoints.diagnosis.structure import Shapes
from checkpoints.names import LAST_NORM, OUTPUT, UNITS

__all__ = ["foreign_names"]

# Parts of the names of slim's variables and scopes in every network; no other library uses them.
_SLIMS = frozenset(("weights", "biases", "DW", "BatchNorm", *LAST_NORM["bottleneck_v2"].split("/")))
# Names of arrays in PyTorch's layers, which may stand alone without a module's name.
_PYTORCHS = frozenset(("weight", "running_mean", "running_var"))


def foreign_names(shapes: Shapes) -> list[str]:
    """Returns the names that another library gave its weights, in their order; none if any name is slim's.

    A name without a path counts only if it is a convolution's kernel: MXNet's 'conv0_weight', but not NumPy's 'arr_0'.

    Args:
      shapes: names of the arrays and their shapes.
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
