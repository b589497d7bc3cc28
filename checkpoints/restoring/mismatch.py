"""Why a graph and a checkpoint do not fit, and the argument that repairs it."""

import re
from collections.abc import Sequence
from typing import NamedTuple

from checkpoints.background_class import class_conversion
from checkpoints.diagnosis import Structure, diagnose, sort_names, structures_in
from checkpoints.errors import shortened
from checkpoints.files import CheckpointReader
from checkpoints.names import SHADOW, is_logits, joined
from checkpoints.patterns import MOST, offered, patterns_for
from checkpoints.restoring.first_kernel import FIRST_KERNELS, is_first_kernel
from checkpoints.restoring.scopes import (
    Places,
    averages_of,
    kind_of,
    moved_scopes,
    offered_scopes,
    places_in,
    under_scope,
)

__all__ = ["Mismatch"]

# What an optimizer, a training loop and a moving average add to a graph.
_OF_TRAINING = re.compile(
    rf"/({SHADOW}|Momentum|Adam|RMSProp|Adagrad|Adadelta|Ftrl)(_\d+)?$|(^|/)(global_step|beta\d_power)"
)
# Causes that speak of excluding variables, which the message then names.
_EXCLUDING = re.compile(r"exclude (these|what it lacks)")


class Mismatch(NamedTuple):
    """What does not fit.

    reader: of the file.
    shapes: from the graph's variables to their shapes.
    places: where they were sought in the file.
    missing: variables of the graph whose stored names the file does not have.
    mismatched: from variables that have another shape in the file to (shape in the graph, shape in the file).
    superfluous: weights in the file that its blocks have and the graph's have not.
    excluded: variables of the graph that are left alone.
    ema: whether moving averages were asked for.
    has_model_variables: whether the graph knows the network's variables from the rest.
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

    def __bool__(self) -> bool:
        return bool(self.missing or self.mismatched or self.superfluous)

    @property
    def message(self) -> str:
        """The likely cause with what to do, and then the names."""
        cause = self._cause()
        parts = [f"{self.reader.path} does not fit the graph: {cause}"]
        if self.missing:
            names = shortened(self.missing)
            parts.append(f"{len(self.missing)} of {len(self.shapes)} variables are not in the file: {names}.")
        if self.mismatched:
            shapes = [
                f"{name} {list(here)} here, {list(there)} in the file"
                for name, (here, there) in self.mismatched.items()
            ]
            parts.append(f"{len(self.mismatched)} have another shape: {shortened(shapes)}.")
        if self.superfluous:
            without, names = self._without_superfluous(), shortened(self.superfluous)
            parts.append(f"{len(self.superfluous)} of the file have no place in the graph's blocks{without}: {names}.")
        if _EXCLUDING.search(cause) and (exclude := self._exclude(self._failing)):
            parts.append(f"What to exclude: {exclude}.")
        return " ".join(parts)

    @property
    def _failing(self) -> set[str]:
        return {*self.missing, *self.mismatched}

    def _exclude(self, names: set[str]) -> str:
        """The argument that leaves these variables alone, and what is left alone already.

        Nothing where it is long, unless they are logits alone, or where it leaves all alone.
        """
        names = names | self.excluded
        patterns = patterns_for(names, self.shapes) if names < set(self.shapes) else []
        few = len(patterns) <= MOST or all(map(is_logits, names))
        return offered(patterns) if patterns and few else ""

    def _without_superfluous(self) -> str:
        if self._failing:
            return ""
        everything = "slim.get_model_variables()" if self.has_model_variables else "tf.compat.v1.global_variables()"
        return f" (variables={everything} restores the graph's without them)"

    def _elsewhere(self, ema: bool) -> set[str]:
        """What would fail with moving averages, or without."""
        renamed = self.places.renamed
        places = Places(renamed, averages_of(self.reader, renamed) if ema else renamed)
        return places.failing(self.reader, self.shapes) - self.excluded

    def _cause(self) -> str:
        """The likely cause, in one sentence with what to do."""
        causes = (self._of_shadows, self._of_slots, self._of_scope, self._of_channels, self._of_classes)
        for cause in (*causes, self._of_arg_scope, self._of_moved, self._of_no_logits):
            if sentence := cause():
                return sentence
        return self._of_networks()

    def _of_shadows(self) -> str | None:
        contents = sort_names(self.reader.shapes)
        stored = self.places.stored
        if self.ema and not contents.shadows:
            return "the file has no moving averages of the variables; leave ema=True out."
        if not self.ema and any(stored[name] in contents.shadows for name in self.missing):
            without = self._elsewhere(ema=True)
            also = self._exclude(without) if len(without) < len(self._failing) else ""
            return (
                "the file has nothing but moving averages of these variables; give ema=True"
                f"{f', and {also}, of which it has none' if without and also else ''}."
            )
        averaged = set(contents.shadows.values())
        unfound = any(stored[name].endswith(f"/{SHADOW}") for name in self.missing)
        if self.ema and unfound and averaged & set(stored.values()):
            exclude = "exclude these" if self._exclude(self._failing) else "take another file"
            leave = "" if self._elsewhere(ema=False) else "leave ema=True out, or "
            return f"the file has moving averages of a part of the variables only; {leave}{exclude}."
        return None

    def _of_slots(self) -> str | None:
        if not self.missing or self.mismatched or not all(_OF_TRAINING.search(name) for name in self.missing):
            return None
        if self.ema:
            return None  # which has names of its own
        found = "variables=slim.get_model_variables() for the network's"
        repair = (
            found if self.has_model_variables else f"{self._exclude(self._failing) or 'the variables of the network'}"
        )
        return (
            "what it lacks is the optimizer's own or the training loop's, which it was saved without; give "
            f"{repair}, and run the initializers of the rest."
        )

    def _of_scope(self) -> str | None:
        """Of networks that are in the file, under other scopes than they were sought under."""
        scopes = offered_scopes(self.reader, self.shapes, self.places.renamed)
        if not scopes or not (self.missing or self.superfluous):
            return None
        here, there = structures_in(self.shapes), structures_in(self.reader.shapes)
        in_parts = bool(set(scopes) - {ours.scope for ours in here})
        scope = scopes if in_parts or len(here) > 1 else next(iter(scopes.values()))
        left = places_in(self.reader, self.shapes, scope, self.ema).failing(self.reader, self.shapes) - self.excluded
        # Networks of the graph that the file does not have.
        absent = {name for name in left if not any(name.startswith(f"{s}/") or not s for s in scopes)}
        also = self._exclude(absent) if absent and absent == left else ""
        if in_parts:
            return f"the file has the network in parts, each under a scope of its own; give scope={scope!r}."
        found = ", ".join(repr(each) for each in dict.fromkeys(scopes.values()))
        ours = ", ".join(repr(each) for each in scopes)
        several = "networks" if len(set(scopes.values())) > 1 else "network"
        if len(here) == 1 and len(there) > 1:
            holds = ", ".join(f"{_described(each)} under {each.scope!r}" for each in there)
            return (
                f"the file holds several networks, {holds}: choose one by its scope, scope={scope!r}"
                f"{f', and give {also}' if also else ''}."
            )
        return (
            f"the file has the {several} under the scope {found}, and the graph under {ours}; give scope={scope!r}"
            f"{f', and {also}, which it does not have' if also else ''}."
        )

    def _of_moved(self) -> str | None:
        """Of variables that are in the file under other scopes, and make up no network there, or parts of one."""
        if not self.missing or self.mismatched or self.ema:
            return None
        moved = moved_scopes(self.reader, self.shapes, set(self.shapes) - self.excluded)
        if moved is None:
            return None
        return f"the file has these variables under other scopes; give scope={moved!r}."

    def _of_channels(self) -> str | None:
        for name, (here, there) in self.mismatched.items():
            if not is_first_kernel(name) or len(here) != len(there) or len(here) != 4 or here[2] == there[2]:
                continue
            grey = ", which preprocessing='grayscale' makes" if there[2] == 1 else ""
            channels = "1 channel" if there[2] == 1 else f"{there[2]} channels"
            kernels = " or ".join(f"first_kernel={way!r}" for way in FIRST_KERNELS)
            exclude = self._exclude({each for each in self.mismatched if is_first_kernel(each)})
            train = f", or {exclude} to train one of your own" if exclude else ""
            return (
                f"the file is for images of {channels}, and the graph has {here[2]}; build the network on such "
                f"images{grey}, or give {kernels}, which convert the first kernel{train}."
            )
        return None

    def _of_classes(self) -> str | None:
        if self.missing or not self.mismatched or not all(map(is_logits, self.mismatched)):
            return None
        if any(len(here) != len(there) for here, there in self.mismatched.values()):
            return None  # faults of the file's own
        scopes = {name.rpartition("/")[0] for name in self.mismatched}
        if any(name.rpartition("/")[0] in scopes for name in set(self.shapes) - set(self.mismatched) - self.excluded):
            return None  # likewise: its weights and biases do not agree
        here, there = ({shapes[side][-1] for shapes in self.mismatched.values()} for side in (0, 1))
        if len(there) > 1 and len(structures_in(self.shapes)) < 2:
            return None
        classes, stored = (" and ".join(map(str, sorted(numbers))) for numbers in (here, there))
        exclude = self._exclude(self._failing)
        repairs = [f"build the network with num_classes={stored}"] if len(there) == 1 else []
        if len(here) == len(there) == 1 and (found := class_conversion(*there, *here)):
            repairs.append(f"give num_classes={classes}, which {found.effect}")
        elif exclude:
            repairs.append(f"give {exclude} to train logits of your own")
        return f"the graph has {classes} classes and the file {stored}; {', or '.join(repairs)}."

    def _of_no_logits(self) -> str | None:
        """Of logits that the file has neither weights nor biases of."""
        if not self.missing or self.mismatched or not all(map(is_logits, self.missing)):
            return None
        scopes = {name.rpartition("/")[0] for name in self.missing}
        if any(name.rpartition("/")[0] in scopes for name in set(self.shapes) - set(self.missing) - self.excluded):
            return None
        exclude = self._exclude(self._failing)
        train = f", or give {exclude} and train them" if exclude else ""
        return f"the file has no logits; build with num_classes=None{train}."

    def _of_arg_scope(self) -> str | None:
        stored = [self.places.renamed[name] for name in self.missing]
        biases = [name for name in stored if name.endswith("/biases")]
        if any(name.removesuffix("biases") + "BatchNorm/beta" in self.reader.shapes for name in biases):
            return "the graph was built without its arg scope; build it under slim.arg_scope(resnet_arg_scope())."
        norms = [name for name in stored if name.endswith("/BatchNorm/beta")]
        if any(name.removesuffix("BatchNorm/beta") + "biases" in self.reader.shapes for name in norms):
            return (
                "the file's network has no batch norm; build it under "
                "slim.arg_scope(resnet_arg_scope(use_batch_norm=False))."
            )
        return None

    def _of_networks(self) -> str:
        in_file = diagnose(self.reader)
        here = structures_in(self.shapes)
        if not in_file.structures:
            return "the file " + in_file.problems[0].sentence.removeprefix(f"{self.reader.path} ")
        built = ", ".join(_described(ours) for ours in here) or "none of the known networks"
        if in_file.structure is None and not (same := self._same_place(here, in_file.structures)):
            held = ", ".join(f"{_described(theirs)} under {theirs.scope!r}" for theirs in in_file.structures)
            return f"the file holds {held}, and the graph {built}; build what is in the file."
        theirs = in_file.structure or same[1]
        same = [ours for ours in here if kind_of(ours) == kind_of(theirs)]
        classes = f"{theirs.num_classes} classes" if theirs.num_classes else "no logits"
        if not same:
            held = f"{_described(theirs)} with {classes}"
            return f"the file holds a {held}, and the graph {built}; build what is in the file."
        if theirs.faults:
            return f"the file holds a {_described(theirs)}, but {self._fault(same[0], theirs)}."
        if self.mismatched and not self.missing:
            exclude = ", or exclude these" if self._exclude(self._failing) and not self.superfluous else ""
            return f"the file's {_described(theirs)} has kernels of its own; take the original file{exclude}."
        options = "".join(f", {name}={value!r}" for name, value in theirs.options.items())
        exclude = ", or exclude what it lacks" if self._exclude(self._failing) and not self.superfluous else ""
        return f"the file holds a {_described(theirs)} with {classes}{options}; build it so{exclude}."

    def _same_place(self, here: Sequence[Structure], there: Sequence[Structure]) -> tuple[Structure, Structure] | None:
        """A network of the graph that has variables that fail, and the file's that they were sought in."""
        for ours in here:
            inside = [name for name in self.shapes if name.startswith(joined(ours.scope, ""))]
            if not any(name in self._failing for name in inside) and not self.superfluous:
                continue
            for theirs in there:
                place = joined(theirs.scope, "")
                if kind_of(ours) == kind_of(theirs) and all(
                    self.places.renamed[name].startswith(place) for name in inside
                ):
                    return ours, theirs
        return None

    def _fault(self, ours: Structure, theirs: Structure) -> str:
        """The file's first fault, said of the graph's names."""
        prefix = joined(theirs.scope, "")
        named = {
            under_scope(name, theirs.scope, ours.scope): shape
            for name, shape in self.reader.shapes.items()
            if name.startswith(prefix)
        }
        faults = [found.faults for found in structures_in(named) if found.scope == ours.scope and found.faults]
        return faults[0][0] if faults else theirs.faults[0]


def _described(structure: Structure) -> str:
    if structure.network is not None:
        return structure.network.name
    return f"{structure.family} of {' '.join(map(str, structure.units))} units"
