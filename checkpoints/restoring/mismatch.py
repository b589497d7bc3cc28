"""The facts on a graph and a checkpoint that do not fit; ``explanation`` puts them into sentences."""

from typing import NamedTuple

from checkpoints.files import CheckpointReader
from checkpoints.names import is_logits
from checkpoints.patterns import MOST, offered, patterns_for
from checkpoints.restoring.plan import Plan
from checkpoints.restoring.scopes import Places, averages_of

__all__ = ["Mismatch"]


class Mismatch(NamedTuple):
    """A graph and a checkpoint that do not fit.

    reader: reader of the file.
    shapes: the graph's variables and their shapes.
    places: the names that they were looked up under in the file.
    missing: variables that the file has no value for.
    mismatched: variables of another shape in the file (name → shape in the graph, shape in the file).
    superfluous: the file's weights in blocks of the graph that the graph does not have.
    excluded: variables of the graph that are left alone.
    ema: whether moving averages were asked for.
    has_model_variables: whether the graph distinguishes the network's variables from others.
    """

    reader: CheckpointReader
    shapes: dict[str, tuple[int, ...]]
    places: Places
    missing: list[str]
    mismatched: dict[str, tuple[tuple[int, ...], tuple[int, ...]]]
    superfluous: list[str]
    excluded: set[str]
    ema: bool
    has_model_variables: bool

    @classmethod
    def of(cls, plan: Plan, superfluous: list[str], has_model_variables: bool) -> "Mismatch":
        """Returns the mismatch of a plan."""
        return cls(
            plan.reader,
            plan.shapes,
            plan.places,
            plan.missing,
            plan.mismatched,
            superfluous,
            plan.excluded,
            plan.ema,
            has_model_variables,
        )

    @property
    def failing(self) -> set[str]:
        """The graph's variables that cannot be restored."""
        return {*self.missing, *self.mismatched}

    def excluding(self, names: set[str]) -> str:
        """Returns the argument ``exclude`` that leaves out these variables and those excluded already.

        Returns '' if the argument would be long (unless all of them are logits), or would leave nothing to restore.
        """
        names = names | self.excluded
        patterns = patterns_for(names, self.shapes) if names < set(self.shapes) else []
        few = len(patterns) <= MOST or all(map(is_logits, names))
        return offered(patterns) if patterns and few else ""

    def failing_with(self, ema: bool) -> set[str]:
        """Returns the variables that could not be restored with moving averages, or without."""
        renamed = self.places.renamed
        places = Places(renamed, averages_of(self.reader, renamed) if ema else renamed)
        return places.failing(self.reader, self.shapes) - self.excluded
