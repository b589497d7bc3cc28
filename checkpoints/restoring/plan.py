"""Plans a restore: which stored value goes to which variable of the graph, and how it is converted."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from checkpoints.diagnosis import sort_names, structures_in
from checkpoints.files import CheckpointReader
from checkpoints.names import block_of
from checkpoints.patterns import as_patterns, matching
from checkpoints.restoring.first_kernel import first_kernel_conversions
from checkpoints.restoring.logits import class_conversions
from checkpoints.restoring.scopes import Places, places_in

__all__ = ["Plan", "plan_restore"]


@dataclasses.dataclass(frozen=True)
class Plan:
    """The stored values for the variables of the graph.

    reader: reader of the file.
    shapes: the graph's variables and their shapes.
    places: the names that they are looked up under in the file.
    excluded: variables that are left alone.
    sources: the other variables (name in the graph → name in the file, which need not exist).
    found: those that the file has (name in the graph → shape in the file).
    conversions: functions that convert stored values (name in the graph → function).
    ema: whether moving averages were asked for.
    """

    reader: CheckpointReader
    shapes: dict[str, tuple[int, ...]]
    places: Places
    excluded: set[str]
    sources: dict[str, str]
    found: dict[str, tuple[int, ...]]
    conversions: dict[str, Callable[[np.ndarray], np.ndarray]]
    ema: bool

    @property
    def missing(self) -> list[str]:
        """Variables that the file has no value for."""
        return [name for name in self.sources if name not in self.found]

    @property
    def mismatched(self) -> dict[str, tuple[tuple[int, ...], tuple[int, ...]]]:
        """Variables of another shape in the file (name → shape in the graph, shape in the file)."""
        wrong = {}
        for name, there in self.found.items():
            here = self.shapes[name]
            if here != (_converted_shape(here, there) if name in self.conversions else there):
                wrong[name] = (here, there)
        return wrong

    @property
    def unused(self) -> tuple[str, ...]:
        """Names in the file that no variable of the graph has."""
        used = set(self.places.stored.values())
        return tuple(name for name in self.reader.shapes if name not in used)

    @property
    def superfluous(self) -> list[str]:
        """The file's weights that lie in blocks of the graph, and that the graph does not have there.

        A network that ends after some block is the beginning of a longer one, and computes the same so far; a network
        whose blocks have fewer layers computes something else.
        """
        names = set(self.places.renamed.values())
        blocks = {block_of(name) for name in names} - {None}
        contents = sort_names(self.reader.shapes)
        stored = dict.fromkeys((*contents.variables, *contents.shadows))
        return [name for name in stored if name not in names and block_of(name) in blocks]

    def read(self) -> dict[str, np.ndarray]:
        """Reads and converts the values (name in the graph → value).

        Raises:
          CheckpointError: if the file is damaged.
        """
        values = {name: self.reader.read(stored) for name, stored in self.sources.items()}
        return values | {name: convert(values[name]) for name, convert in self.conversions.items()}


def plan_restore(
    reader: CheckpointReader,
    shapes: dict[str, tuple[int, ...]],
    *,
    scope: str | Mapping[str, str] | None,
    exclude: str | Sequence[str] | None,
    ema: bool,
    num_classes: int | None,
    first_kernel: str | None,
) -> Plan:
    """Plans a restore without reading any value.

    Args:
      reader: reader of the file.
      shapes: the graph's variables and their shapes.
      scope, exclude, ema, num_classes, first_kernel: as for ``restoration.restore``.

    Raises:
      ValueError: for an argument that cannot be honoured.
    """
    scopes_here = [found.scope for found in structures_in(shapes)]
    excluded = matching(shapes, as_patterns(exclude, "exclude"), scopes=scopes_here)
    places = places_in(reader, shapes, scope, ema)
    sources = {name: stored for name, stored in places.stored.items() if name not in excluded}
    found = {name: reader.shapes[stored] for name, stored in sources.items() if stored in reader.shapes}
    conversions: dict[str, Callable[[np.ndarray], np.ndarray]] = {}
    if num_classes is not None:
        conversions |= class_conversions(reader, shapes, places.stored, excluded, num_classes)
    if first_kernel is not None:
        conversions |= first_kernel_conversions(first_kernel, {name: shapes[name] for name in sources}, found)
    return Plan(reader, shapes, places, excluded, sources, found, conversions, ema)


def _converted_shape(here: tuple[int, ...], there: tuple[int, ...]) -> tuple[int, ...]:
    """Returns a stored shape after the conversion of a kernel's channels, or else of its classes, the last axis."""
    if len(there) == 4 and here[2] != there[2]:
        return (*there[:2], here[2], there[3])
    return (*there[:-1], here[-1])
