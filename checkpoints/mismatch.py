"""Why a graph and a checkpoint do not fit, and the argument that repairs it."""

import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from checkpoints.background import class_conversion
from checkpoints.damage import shortened
from checkpoints.diagnosis import diagnose
from checkpoints.files import CheckpointError
from checkpoints.naming import SHADOW, block_of, is_logits, joined
from checkpoints.reader import CheckpointReader
from checkpoints.structure import Structure, sort_names, structures_in

__all__ = ["CheckpointMismatch", "Mismatch"]

_ROOT = re.compile(r"(?:^|/)(conv1/weights|init_conv/DW)$")
# What an optimizer, a training loop and a moving average add to a graph.
_OF_TRAINING = re.compile(
    rf"/({SHADOW}|Momentum|Adam|RMSProp|Adagrad|Adadelta|Ftrl)(_\d+)?$|(^|/)(global_step|beta\d_power)"
)


class CheckpointMismatch(CheckpointError):  # noqa: N818
    """A graph and a checkpoint that do not fit.

    missing: variables of the graph that the file has no value for.
    mismatched: from variables that have another shape in the file to (shape in the graph, shape in the file).
    unused: names in the file that no variable of the graph has.
    """

    def __init__(
        self,
        message: str,
        missing: Sequence[str],
        mismatched: Mapping[str, tuple[tuple[int, ...], tuple[int, ...]]],
        unused: Sequence[str],
    ) -> None:
        super().__init__(message, "mismatch")
        self.missing = tuple(missing)
        self.mismatched = dict(mismatched)
        self.unused = tuple(unused)


class Mismatch(NamedTuple):
    """What does not fit.

    reader: of the file.
    shapes: from the graph's variables to their shapes.
    stored: from the graph's variables to the names that were sought for them.
    missing: variables of the graph whose stored names the file does not have.
    mismatched: from variables that have another shape in the file to (shape in the graph, shape in the file).
    superfluous: weights in the file that its blocks have and the graph's have not.
    ema: whether moving averages were asked for.
    """

    reader: CheckpointReader
    shapes: dict[str, tuple[int, ...]]
    stored: dict[str, str]
    missing: list[str]
    mismatched: dict[str, tuple[tuple[int, ...], tuple[int, ...]]]
    superfluous: list[str]
    ema: bool

    def __bool__(self) -> bool:
        return bool(self.missing or self.mismatched or self.superfluous)

    @property
    def message(self) -> str:
        """The likely cause with what to do, and then the names."""
        parts = [f"{self.reader.path} does not fit the graph: {self._cause()}"]
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
            parts.append(
                f"{len(self.superfluous)} of the file have no place in the graph's blocks (variables=... leaves them "
                f"out): {shortened(self.superfluous)}."
            )
        return " ".join(parts)

    def _cause(self) -> str:
        """The likely cause, in one sentence with what to do."""
        causes = (self._of_shadows, self._of_slots, self._of_scope, self._of_channels, self._of_classes)
        for cause in (*causes, self._of_arg_scope):
            if sentence := cause():
                return sentence
        return self._of_networks()

    def _of_shadows(self) -> str | None:
        contents = sort_names(self.reader.shapes)
        if self.ema and not contents.shadows:
            return "the file has no moving averages of the variables; leave ema=True out."
        if not self.ema and any(self.stored[name] in contents.shadows for name in self.missing):
            return "the file has nothing but moving averages of these variables; give ema=True."
        averaged = set(contents.shadows.values())
        unfound = any(self.stored[name].endswith(f"/{SHADOW}") for name in self.missing)
        if self.ema and unfound and averaged & set(self.stored.values()):
            return "the file has moving averages of a part of the variables only; leave ema=True out, or exclude these."
        return None

    def _of_slots(self) -> str | None:
        if not self.missing or self.mismatched or not all(_OF_TRAINING.search(name) for name in self.missing):
            return None
        if self.ema:
            return None  # which has names of its own
        return (
            "what it lacks is the optimizer's own or the training loop's, which it was saved without; give "
            "variables=slim.get_model_variables() for the network's, and run the initializers of the rest."
        )

    def _of_scope(self) -> str | None:
        """Of a network that is in the file, under another scope than it was sought under."""
        sought = {self.stored[name]: shape for name, shape in self.shapes.items()}
        there = structures_in(self.reader.shapes)
        if len(there) != 1 or not self.missing:
            return None
        scope = there[0].scope
        for ours, renamed in zip(structures_in(self.shapes), structures_in(sought), strict=False):
            if _kind(ours) == _kind(there[0]) and scope != renamed.scope:
                return (
                    f"the file has the network under the scope {scope!r}, and the graph under {ours.scope!r}; "
                    f"give scope={scope!r}."
                )
        return None

    def _of_channels(self) -> str | None:
        for name, (here, there) in self.mismatched.items():
            if _ROOT.search(name) and len(here) == len(there) == 4 and not block_of(name) and here[2] != there[2]:
                grey = ", which preprocessing='grayscale' makes" if there[2] == 1 else ""
                channels = "1 channel" if there[2] == 1 else f"{there[2]} channels"
                return (
                    f"the file is for images of {channels}, and the graph has {here[2]}; build the network on such "
                    f"images{grey}."
                )
        return None

    def _of_classes(self) -> str | None:
        if self.missing or not self.mismatched or not all(map(is_logits, self.mismatched)):
            return None
        name, (here, there) = next(iter(self.mismatched.items()))
        if len({shapes[1][-1] for shapes in self.mismatched.values()}) > 1 or len(here) != len(there):
            return None  # faults of the file's own
        logits = f"exclude='{name.rpartition('/')[0]}/*'"
        if found := class_conversion(there[-1], here[-1]):
            repair = f", or give num_classes={here[-1]}, which {found.effect}"
        else:
            repair = f", or give {logits} to train logits of your own"
        return (
            f"the graph has {here[-1]} classes and the file {there[-1]}; build the network with "
            f"num_classes={there[-1]}{repair}."
        )

    def _of_arg_scope(self) -> str | None:
        stored = [self.stored[name] for name in self.missing]
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
        if in_file.structure is None:
            return "the file " + in_file.problems[0].sentence.removeprefix(f"{self.reader.path} ")
        theirs = in_file.structure
        same = [ours for ours in here if _kind(ours) == _kind(theirs)]
        classes = f"{theirs.num_classes} classes" if theirs.num_classes else "no logits"
        if not same:
            built = ", ".join(_described(ours) for ours in here) or "none of the known networks"
            held = f"{_described(theirs)} with {classes}"
            return f"the file holds a {held}, and the graph {built}; build what is in the file."
        logits = joined(same[0].scope, "logits/")
        if not theirs.num_classes and self.missing and all(name.startswith(logits) for name in self.missing):
            return f"the file has no logits; build with num_classes=None, or give exclude='{logits}*' and train them."
        if theirs.faults:
            return f"the file holds a {_described(theirs)}, but {theirs.faults[0]}."
        if self.mismatched and not self.missing:
            return f"the file's {_described(theirs)} has kernels of its own; take the original file, or exclude these."
        options = "".join(f", {name}={value!r}" for name, value in theirs.options.items())
        return f"the file holds a {_described(theirs)} with {classes}{options}; build it so, or exclude what it lacks."


def _kind(structure: Structure) -> tuple[str, tuple[int, ...]]:
    return structure.unit_scope, structure.units


def _described(structure: Structure) -> str:
    if structure.network is not None:
        return structure.network.name
    return f"{structure.family} of {' '.join(map(str, structure.units))} units"
