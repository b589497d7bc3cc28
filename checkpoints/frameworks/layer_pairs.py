"""Pairs of names of one layer: slim's, and another framework's."""

from collections.abc import Iterator
from typing import NamedTuple

from nets.nets_factory import Network

__all__ = ["LayerPair", "unit_names"]


class LayerPair(NamedTuple):
    """A convolution or matrix product with the normalization behind it, or one of the two alone.

    ours: scope of the layer, relative to the network's.
    theirs: the other framework's name of the convolution or matrix product; None for a normalization alone.
    norm: the other framework's name of the normalization; None if there is none.
    size: height and width of slim's kernel if the other framework has a matrix in its place; None for a convolution.
    """

    ours: str
    theirs: str | None
    norm: str | None
    size: tuple[int, int] | None = None

    @property
    def our_norm(self) -> str:
        """Scope of the normalization, which slim puts inside its convolution's."""
        return f"{self.ours}/BatchNorm" if self.theirs else self.ours


def unit_names(network: Network) -> Iterator[tuple[int, int, str]]:
    """Yields (block, unit, scope) of each unit, with numbers from 1 and the scope relative to the network's."""
    for block, units in enumerate(network.variant.units, start=1):
        for unit in range(1, units + 1):
            yield block, unit, f"block{block}/unit_{unit}/{network.unit_scope}"
