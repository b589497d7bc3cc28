"""Weights under slim's names, and their changes: parts, other scopes, averages, other classes."""

import dataclasses
import fnmatch
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from checkpoints.background_class import class_conversion
from checkpoints.diagnosis import default_pool1_padding, expected_input, sort_names
from checkpoints.errors import CheckpointError
from checkpoints.files import Notes
from checkpoints.files.notes import INPUT
from checkpoints.names import STATISTICS, is_logits, joined
from checkpoints.patterns import as_patterns, matching
from nets.nets_factory import Network

__all__ = ["Weights"]


@dataclasses.dataclass(frozen=True)
class Weights:
    """Values under slim's names, and the facts known about them.

    path: path of the file.
    kind: kind of the file, one of ``frameworks.read.KINDS``.
    values: values by name; those of a checkpoint are read on request.
    network: network of the table; None if the values make up none, or several.
    scope: scope of the network's variables.
    num_classes: number of classes of the logits; 0 if there are none.
    options: further arguments of the network's builder.
    pool1_padding, preprocessing, image_size: what the weights expect; None without a network.
    folded: names of the values into which another value of the file was folded.
    sha256: hash of the file, or of the files one after the other.
    channels: channels of the network's images.
    lacking: scopes of the layers at the network's end that the file does not have, relative to the network's: those of
      a VGG without Keras' top. Not even the builder without logits leaves them out.
    fault: reason why the values make up no complete network, a clause; '' if it is unknown.
    labels: names of the classes; None if they are unknown.
    assumed: what neither the file nor notes tell, and the table of networks supplied: 'preprocessing', 'image_size',
      both or neither.
    """

    path: Path
    kind: str
    values: Mapping[str, np.ndarray]
    network: Network | None
    scope: str
    num_classes: int
    options: dict[str, Any]
    pool1_padding: str | None
    preprocessing: str | None
    image_size: int | None
    folded: tuple[str, ...]
    sha256: str
    channels: int = 3
    lacking: tuple[str, ...] = ()
    fault: str = ""
    labels: tuple[str, ...] | None = None
    assumed: tuple[str, ...] = ()

    def value(self, name: str) -> np.ndarray:
        """Returns a value of the network by its name, relative to the network's scope."""
        return self.values[joined(self.scope, name)]

    @property
    def notes(self) -> Notes:
        """The facts that no variable tells, to be written beside the weights."""
        source = {"file": self.path.name, "kind": self.kind, "sha256": self.sha256}
        return Notes(
            self.network.name,
            self.pool1_padding,
            self.preprocessing,
            self.image_size,
            source,
            self.labels,
            self.assumed,
        )

    @property
    def tells_itself(self) -> bool:
        """True if the values alone tell as much as is known."""
        if self.network is None:
            return True
        if self.labels is not None or self.assumed != INPUT:
            return False
        told = (default_pool1_padding(self.network), *expected_input(self.network, self.num_classes, self.channels))
        return told == (self.pool1_padding, self.preprocessing, self.image_size)

    def of_model(self) -> "Weights":
        """Returns the weights without what a training run adds: slots, averages, a global step."""
        return self.renamed({name: name for name in sort_names(self.values).variables})

    def averaged(self) -> "Weights":
        """Returns the weights with the moving averages in place of the variables.

        Raises:
          ValueError: if there are none, or only some.
        """
        contents = sort_names(self.values)
        shadows = contents.shadows
        if not shadows:
            raise ValueError(f"{self.path} holds no moving averages: leave ema=True out.")
        if without := [name for name in contents.variables if name not in shadows and not name.endswith(STATISTICS)]:
            raise ValueError(
                f"{self.path} holds moving averages of only some variables, and none of {without[0]} and "
                f"{len(without) - 1} more: leave ema=True out."
            )
        others = {name: name for name in self.values if name not in shadows.values()}
        return self.renamed(others | shadows)

    def of_network(self) -> "Weights":
        """Returns the network's variables alone.

        Raises:
          CheckpointError: if there is not exactly one network of the table.
        """
        if self.fault:
            raise CheckpointError(
                f"{self.path} holds no complete network of the table, as {self.fault}: take the original file.",
                "incomplete",
            )
        if self.network is None:
            averages = ", or its averages, ema=True" if sort_names(self.values).shadows else ""
            raise CheckpointError(
                f"{self.path} does not hold exactly one network of the table, which another framework's file needs: "
                f"choose one by its scope or net{averages}; `slimnets inspect` lists the networks.",
                "unknown network",
            )
        prefix = joined(self.scope, "")
        model = self.of_model()
        return model.renamed({name: name for name in model.values if name.startswith(prefix)})

    def matching(self, only: Sequence[str], exclude: Sequence[str]) -> "Weights":
        """Returns the values whose names fit a pattern of ``only`` (if there is one) and none of ``exclude``.

        Raises:
          ValueError: for a pattern that fits nothing, or if nothing is left.
        """
        scopes = [self.scope] if self.network else []
        for argument, patterns in (("only", only), ("exclude", exclude)):
            matching(self.values, as_patterns(patterns, argument), argument=argument, of=str(self.path), scopes=scopes)
        kept = [
            name
            for name in self.values
            if (not only or any(fnmatch.fnmatchcase(name, pattern) for pattern in only))
            and not any(fnmatch.fnmatchcase(name, pattern) for pattern in exclude)
        ]
        if not kept:
            raise ValueError(f"The patterns leave nothing of {self.path}: exclude less.")
        part = self.renamed({name: name for name in kept})
        if self.network is None:
            return part
        prefix = joined(self.scope, "")
        lost = [
            name for name in sort_names(self.values).variables if name.startswith(prefix) and name not in part.values
        ]
        if all(map(is_logits, lost)):
            return dataclasses.replace(part, num_classes=0, labels=None) if lost else part
        return dataclasses.replace(
            part,
            network=None,
            num_classes=0,
            options={},
            pool1_padding=None,
            preprocessing=None,
            image_size=None,
            lacking=(),
            labels=None,
            assumed=(),
        )

    def under(self, scope: str) -> "Weights":
        """Returns the weights with the network, and what belongs to its variables, under another scope.

        Raises:
          ValueError: if a name would occur twice, the scope is not valid, or there is no network.
        """
        if self.network is None:
            raise ValueError(f"{self.path} does not hold exactly one network to rename: choose one by its scope.")
        if scope and (not re.fullmatch(r"[A-Za-z0-9.][A-Za-z0-9_.\\/>-]*", scope) or {"", ".."} & {*scope.split("/")}):
            raise ValueError(f"TensorFlow does not accept the scope {scope!r}: take letters, digits and underscores.")
        prefix, other = joined(self.scope, ""), joined(scope, "")
        contents = sort_names(self.values)
        # Names that belong to no variable in particular.
        apart = {name for label, found in contents.extras.items() if not label.startswith("slots") for name in found}
        names = {}
        for name in self.values:
            if prefix and f"/{prefix}" in name:
                raise ValueError(
                    f"{self.path} holds {name}, which belongs to a variable of the network and has a scope of its own: "
                    "leave such out, model_only=True."
                )
            renamed = other + name.removeprefix(prefix) if name.startswith(prefix) and name not in apart else name
            if renamed in names:
                raise ValueError(f"Under the scope {scope!r} two variables would be called {renamed}: take another.")
            names[renamed] = name
        return dataclasses.replace(self.renamed(names), scope=scope)

    def with_classes(self, num_classes: int) -> "Weights":
        """Returns the weights with another number of classes.

        1000 drops the background of 1001, 1001 adds one to 1000, and 0 drops the logits and all that belongs to them.
        Moving averages of the logits are converted, too; their slots of an optimizer are dropped.

        Raises:
          ValueError: for other numbers.
        """
        if self.network is None:
            raise ValueError(
                f"num_classes={num_classes} applies to one network, which {self.path} does not hold: leave it out."
            )
        if num_classes == self.num_classes:
            return self
        convert = class_conversion(self.num_classes, num_classes)
        if convert is None and num_classes != 0:
            raise ValueError(
                f"num_classes={num_classes} cannot be made from {self.path}, which has {self.num_classes} classes: "
                "only 1001 can become 1000, and 1000 become 1001; 0 leaves the logits out."
            )
        prefix = joined(self.scope, "")
        contents = sort_names(self.values)
        logits = [name for name in contents.variables if name.startswith(prefix) and is_logits(name)]
        top = {*logits, *(contents.shadows[name] for name in logits if name in contents.shadows)}
        slots = {name for name in self.values for logit in logits if f"/{logit}/" in f"/{name}"} - top
        left_out = slots if convert else slots | top
        names = {name: name for name in self.values if name not in left_out}
        values = _View(self.values, names, dict.fromkeys(top, convert.apply) if convert else {})
        labels = convert.rename(self.labels) if convert and self.labels else None
        return dataclasses.replace(self, values=values, num_classes=num_classes, labels=labels)

    def for_size(self, image_size: int) -> "Weights":
        """Returns the weights with another image size in their notes.

        Raises:
          ValueError: without a network.
        """
        if self.network is None:
            raise ValueError(
                f"image_size={image_size} applies to one network, which {self.path} does not hold: leave it out."
            )
        assumed = tuple(name for name in self.assumed if name != "image_size")
        return dataclasses.replace(self, image_size=image_size, assumed=assumed)

    def renamed(self, names: Mapping[str, str]) -> "Weights":
        """Returns a copy renamed by ``names`` (new name → current name); values that it does not list are dropped."""
        return dataclasses.replace(self, values=_View(self.values, names, {}))


class _View(Mapping[str, np.ndarray]):
    """A view of another mapping under other names, with some values converted."""

    def __init__(
        self,
        values: Mapping[str, np.ndarray],
        names: Mapping[str, str],
        conversions: Mapping[str, Callable[[np.ndarray], np.ndarray]],
    ) -> None:
        self._values, self._names, self._conversions = values, names, conversions

    def __getitem__(self, name: str) -> np.ndarray:
        value = self._values[self._names[name]]
        return self._conversions[name](value) if name in self._conversions else value

    def __contains__(self, name: object) -> bool:
        return name in self._names

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)
