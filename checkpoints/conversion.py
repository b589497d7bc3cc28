"""Weights from one kind of file to another, by way of slim's names.

Whatever a file is, ``read_weights`` makes of it values under slim's names, with what is known of their network; and
``to_keras``, ``to_torch`` or a writer of arrays makes of those what another file holds. The kind of a file is told by
its content.
"""

import dataclasses
import fnmatch
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from checkpoints.background import class_conversion
from checkpoints.diagnosis import default_pool1_padding, expected_input
from checkpoints.files import CheckpointError
from checkpoints.formats import identify
from checkpoints.keras_files import open_keras
from checkpoints.keras_weights import PREPROCESSING, from_keras, keras_pool1_padding
from checkpoints.naming import STATISTICS, is_logits, joined
from checkpoints.notes import Notes, read_notes, sha256_of
from checkpoints.reader import CheckpointReader, open_checkpoint
from checkpoints.structure import Shapes, model_shapes, sort_names, structures_in
from checkpoints.tensor_files import read_npz, read_safetensors, read_torch
from checkpoints.torch_weights import from_torch, is_torch
from nets.nets_factory import Network, get_network

__all__ = ["KINDS", "Weights", "kind_of", "read_weights"]

# Of files: slim's names in a checkpoint, in arrays, in safetensors; Keras' and torchvision's networks.
KINDS = ("slim", "npz", "safetensors", "keras", "torch")

# Of the weights that Keras publishes: those of version 2 are slim's own, without the background class, which slim
# evaluates at 299. Others were trained at the networks' default size, as far as anyone knows.
_PUBLISHED_V2_CLASSES, _PUBLISHED_V2_SIZE = 1000, 299


@dataclasses.dataclass(frozen=True)
class Weights:
    """Values under slim's names, and what is known of them.

    path: of the file.
    kind: of it, one of ``KINDS``.
    values: by name; of a checkpoint, all that it holds, read where they are asked for.
    network: of the table; None where the values make up none, or several.
    scope: of the network's variables.
    num_classes: of its logits, 0 where it has none.
    options: further arguments of its builder.
    pool1_padding, preprocessing, image_size: that go with the weights; None without a network.
    folded: names of values that another of the file's went into.
    sha256: of the file, or of the files one after the other.
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

    def value(self, name: str) -> np.ndarray:
        """A value of the network, by its name relative to the network's scope."""
        return self.values[joined(self.scope, name)]

    @property
    def notes(self) -> Notes:
        """What of this no variable tells."""
        source = {"file": self.path.name, "kind": self.kind, "sha256": self.sha256}
        return Notes(self.network.name, self.pool1_padding, self.preprocessing, self.image_size, source)

    @property
    def tells_itself(self) -> bool:
        """Whether the values alone tell what pooling and input they want."""
        if self.network is None:
            return True
        told = (default_pool1_padding(self.network), *expected_input(self.network, self.num_classes))
        return told == (self.pool1_padding, self.preprocessing, self.image_size)

    def of_model(self) -> "Weights":
        """Without what a training run leaves: slots, averages, a global step."""
        return self._renamed({name: name for name in sort_names(self.values).variables})

    def averaged(self) -> "Weights":
        """With the moving averages of the variables in their place.

        Raises:
          ValueError: where there are none.
        """
        shadows = sort_names(self.values).shadows
        if not shadows:
            raise ValueError(f"{self.path} holds no moving averages: leave ema=True out.")
        model = sort_names(self.values).variables
        if without := [name for name in model if name not in shadows and not name.endswith(STATISTICS)]:
            raise ValueError(
                f"{self.path} holds moving averages of some variables alone, and none of {without[0]} and "
                f"{len(without) - 1} more: leave ema=True out."
            )
        others = {name: name for name in self.values if name not in shadows.values()}
        return self._renamed(others | shadows)

    def of_network(self) -> "Weights":
        """Without what is outside of the network, and without what a training run leaves.

        Raises:
          CheckpointError: where there is not one network of the table.
        """
        if self.network is None:
            raise CheckpointError(
                f"{self.path} does not hold one network of the table, which another framework's file is made of: "
                "choose one by its scope or net, or its averages, ema=True; `slimnets inspect` says what there is.",
                "unknown network",
            )
        prefix = joined(self.scope, "")
        model = self.of_model()
        return model._renamed({name: name for name in model.values if name.startswith(prefix)})

    def matching(self, only: Sequence[str], exclude: Sequence[str]) -> "Weights":
        """The values whose names fit one of the patterns of ``only``, or all, and none of ``exclude``.

        Raises:
          ValueError: for a pattern that fits nothing, or if nothing is left.
        """
        for pattern in (*only, *exclude):
            if not fnmatch.filter(self.values, pattern):
                raise ValueError(f"{pattern!r} fits no variable of {self.path}, such as {min(self.values)}.")
        kept = [
            name
            for name in self.values
            if (not only or any(fnmatch.fnmatchcase(name, pattern) for pattern in only))
            and not any(fnmatch.fnmatchcase(name, pattern) for pattern in exclude)
        ]
        if not kept:
            raise ValueError(f"The patterns leave nothing of {self.path}.")
        part = self._renamed({name: name for name in kept})
        if self.network is None:
            return part
        prefix = joined(self.scope, "")
        lost = [
            name for name in sort_names(self.values).variables if name.startswith(prefix) and name not in part.values
        ]
        if all(map(is_logits, lost)):
            return dataclasses.replace(part, num_classes=0) if lost else part
        return dataclasses.replace(
            part, network=None, num_classes=0, options={}, pool1_padding=None, preprocessing=None, image_size=None
        )

    def under(self, scope: str) -> "Weights":
        """The network, and what belongs to its variables, under another scope.

        Raises:
          ValueError: if that is another variable's name, or there is no network.
        """
        if self.network is None:
            raise ValueError(f"{self.path} does not hold one network whose scope could be another: choose it by scope.")
        if scope and (not re.fullmatch(r"[A-Za-z0-9.][A-Za-z0-9_.\\/>-]*", scope) or {"", ".."} & {*scope.split("/")}):
            raise ValueError(f"The scope {scope!r} is none to TensorFlow: take letters, digits and underscores.")
        prefix, other = joined(self.scope, ""), joined(scope, "")
        contents = sort_names(self.values)
        # Of no variable in particular.
        apart = {name for label, found in contents.extras.items() if not label.startswith("slots") for name in found}
        names = {}
        for name in self.values:
            if prefix and f"/{prefix}" in name:
                raise ValueError(
                    f"{self.path} holds {name}, kept of a variable of the network under yet another scope: leave such "
                    "out, model_only=True."
                )
            renamed = other + name.removeprefix(prefix) if name.startswith(prefix) and name not in apart else name
            if renamed in names:
                raise ValueError(f"Under the scope {scope!r} two variables would be called {renamed}: take another.")
            names[renamed] = name
        return dataclasses.replace(self._renamed(names), scope=scope)

    def with_classes(self, num_classes: int) -> "Weights":
        """With logits of another number of classes: 1000 of 1001 drops the background, 1001 of 1000 adds one.

        Their moving averages are converted too; what an optimizer kept of them is left out.

        Raises:
          ValueError: for other numbers.
        """
        if self.network is None:
            raise ValueError(f"num_classes={num_classes} is of a network, and {self.path} does not hold one.")
        if num_classes == self.num_classes:
            return self
        convert = class_conversion(self.num_classes, num_classes)
        if convert is None:
            raise ValueError(
                f"num_classes={num_classes} cannot be had from {self.path}, which has {self.num_classes} classes: 1001 "
                "can be made 1000, and 1000 made 1001."
            )
        prefix = joined(self.scope, "")
        contents = sort_names(self.values)
        logits = [name for name in contents.variables if name.startswith(prefix) and is_logits(name)]
        converted = {*logits, *(contents.shadows[name] for name in logits if name in contents.shadows)}
        left_out = {name for name in self.values for logit in logits if f"/{logit}/" in f"/{name}"} - converted
        names = {name: name for name in self.values if name not in left_out}
        values = _View(self.values, names, dict.fromkeys(converted, convert.apply))
        return dataclasses.replace(self, values=values, num_classes=num_classes)

    def for_size(self, image_size: int) -> "Weights":
        """For images of another size than is known of the weights.

        Raises:
          ValueError: without a network.
        """
        if self.network is None:
            raise ValueError(
                f"image_size={image_size} is of a network, and {self.path} does not hold one: leave it out."
            )
        return dataclasses.replace(self, image_size=image_size)

    def _renamed(self, names: Mapping[str, str]) -> "Weights":
        """With other names, from which to those of now; what has none is left out."""
        return dataclasses.replace(self, values=_View(self.values, names, {}))


class _Stored(Mapping[str, np.ndarray]):
    """The values of a checkpoint, read where they are asked for."""

    def __init__(self, reader: CheckpointReader) -> None:
        self._reader = reader

    def __getitem__(self, name: str) -> np.ndarray:
        return self._reader.read(name)

    def __contains__(self, name: object) -> bool:
        return name in self._reader.shapes

    def __iter__(self) -> Iterator[str]:
        return iter(self._reader.shapes)

    def __len__(self) -> int:
        return len(self._reader.shapes)


class _View(Mapping[str, np.ndarray]):
    """Values of another mapping under other names, some of them converted."""

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


def kind_of(path: str | Path) -> str:
    """Which of ``KINDS`` a file is, by its content; 'slim' too for what is none."""
    path = Path(path)
    kind = identify(path).weights if path.is_file() else None
    return kind or "slim"


def read_weights(path: str | Path, *, net: str | None = None, scope: str | None = None, ema: bool = False) -> Weights:
    """Reads the weights in a file of any of the kinds.

    Args:
      path: a checkpoint, as for ``open_checkpoint``; an ``.npz`` or ``.safetensors`` file by slim's names; Keras'
        ``.h5``, ``.weights.h5`` or ``.keras`` of one of its applications' six ResNets; a ``.pth`` or ``.safetensors``
        file by torchvision's names.
      net: name of the network, which of several in the file chooses; another than the file's is refused.
      scope: likewise; what comes from another framework gets its network's name.
      ema: take the moving averages of the variables in their place.

    Raises:
      CheckpointError: if it cannot be read, is not safe to, or holds another network.
      ImportError: without the package that reads it.
      ValueError: for an unknown network or scope.
    """
    path = Path(path)
    wanted = None if net is None else get_network(net)
    kind = kind_of(path)
    weights, shapes, notes = _READERS[kind](path)
    if ema:
        weights, shadows = weights.averaged(), sort_names(shapes).shadows
        shapes = {name: shapes[shadows.get(name, name)] for name in weights.values}
    if weights.network is None:
        weights = _with_structure(weights, shapes, wanted, scope)
    elif scope is not None:
        raise ValueError(f"scope={scope!r} is of slim's names, which {path} has not: leave it out.")
    else:
        _check(weights, shapes)
    weights = _noted(weights, notes)
    if wanted is not None and weights.network is not wanted:
        holds = weights.network.name if weights.network else "none of the known networks, or several"
        raise CheckpointError(
            f"{path} holds {holds} and not {net}: leave net out, or take another file.", "another network"
        )
    return weights


def _with_structure(weights: Weights, shapes: Shapes, wanted: Network | None, scope: str | None) -> Weights:
    """With what values under slim's names make up."""
    structures = structures_in(shapes)
    chosen = [found for found in structures if scope is None or found.scope == scope.strip("/")]
    if wanted is not None and len(chosen) > 1:
        chosen = [found for found in chosen if found.network is wanted]
    if scope is not None and not chosen:
        there = ", ".join(repr(found.scope) for found in structures) or "none"
        raise ValueError(f"{weights.path} has no network under scope={scope!r}: those there are have {there}.")
    if len(chosen) != 1 or chosen[0].network is None or chosen[0].faults:
        return weights
    found = chosen[0]
    prefix = joined(found.scope, "")
    # Some are there as averages alone, or under other names.
    if any(name.startswith(prefix) and name not in weights.values for name in model_shapes(shapes)):
        return weights
    if len(structures) > 1:
        weights = weights._renamed({name: name for name in weights.values if name.startswith(prefix)})
    preprocessing, image_size = expected_input(found.network, found.num_classes, found.channels)
    return dataclasses.replace(
        weights,
        network=found.network,
        scope=found.scope,
        num_classes=found.num_classes,
        options=found.options,
        pool1_padding=default_pool1_padding(found.network),
        preprocessing=preprocessing,
        image_size=image_size,
    )


def _noted(weights: Weights, notes: Notes | None) -> Weights:
    """With what the notes beside the file say, if they are on the same network."""
    if notes is None or weights.network is None or notes.network != weights.network.name:
        return weights
    return dataclasses.replace(
        weights,
        pool1_padding=notes.pool1_padding,
        preprocessing=notes.preprocessing,
        image_size=notes.image_size,
    )


def _check(weights: Weights, shapes: Shapes) -> None:
    """Raises CheckpointError if values from another framework do not make up the network that their names are of."""
    found = structures_in(shapes)
    if len(found) != 1 or found[0].network is not weights.network or found[0].faults:
        reason = next(iter(found[0].faults), "its widths are others") if found else "nothing fits"
        raise CheckpointError(
            f"{weights.path} has the layers of {weights.network.name} in other shapes ({reason}): take another file.",
            "unknown network",
        )


class _Read(NamedTuple):
    """What a file holds, the shapes of its values, and the notes beside it."""

    weights: Weights
    shapes: Shapes
    notes: Notes | None


def _read_slim(path: Path) -> _Read:
    reader = open_checkpoint(path)
    return _Read(_by_name(path, "slim", _Stored(reader), reader.files()), reader.shapes, reader.notes)


def _read_npz(path: Path) -> _Read:
    return _from_memory(_by_name(path, "npz", read_npz(path), [path]))


def _read_safetensors(path: Path) -> _Read:
    values = read_safetensors(path)
    return _from_memory(_torch(path, values) if is_torch(values) else _by_name(path, "safetensors", values, [path]))


def _read_torch(path: Path) -> _Read:
    return _from_memory(_torch(path, read_torch(path)))


def _from_memory(weights: Weights) -> _Read:
    shapes = {name: value.shape for name, value in weights.values.items()}
    return _Read(weights, shapes, read_notes(weights.path, weights.path))


def _read_keras(path: Path) -> _Read:
    with open_keras(path) as file:
        got, pool1_padding = from_keras(file), keras_pool1_padding(file)
    published_v2 = got.network.family == "resnet_v2" and got.num_classes == _PUBLISHED_V2_CLASSES
    weights = Weights(
        path,
        "keras",
        {joined(got.network.name, name): value for name, value in got.values.items()},
        got.network,
        got.network.name,
        got.num_classes,
        options={},
        pool1_padding=pool1_padding,
        preprocessing=PREPROCESSING[got.network.family],
        image_size=_PUBLISHED_V2_SIZE if published_v2 else got.network.image_size,
        folded=tuple(joined(got.network.name, name) for name in got.folded),
        sha256=sha256_of([path]),
    )
    return _from_memory(weights)


def _torch(path: Path, state: Mapping[str, np.ndarray]) -> Weights:
    got = from_torch(path, state)
    return Weights(
        path,
        "torch",
        {joined(got.network.name, name): value for name, value in got.values.items()},
        got.network,
        got.network.name,
        got.num_classes,
        options={"shortcut": got.shortcut},
        pool1_padding="PAD1",
        preprocessing="torchvision",
        image_size=got.network.image_size,
        folded=(),
        sha256=sha256_of([path]),
    )


def _by_name(path: Path, kind: str, values: Mapping[str, np.ndarray], files: Sequence[Path]) -> Weights:
    return Weights(path, kind, values, None, "", 0, {}, None, None, None, (), sha256_of(files))


_READERS: dict[str, Callable[[Path], _Read]] = {
    "slim": _read_slim,
    "npz": _read_npz,
    "safetensors": _read_safetensors,
    "keras": _read_keras,
    "torch": _read_torch,
}
