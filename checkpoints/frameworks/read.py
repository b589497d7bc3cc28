"""Reads weights from files of any kind, which their content tells, into values under slim's names.

``to_keras``, ``to_torch`` and the writers of arrays turn such values into the contents of other files.
"""

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from checkpoints.diagnosis import (
    Structure,
    default_pool1_padding,
    expected_input,
    model_shapes,
    sort_names,
    structures_in,
)
from checkpoints.diagnosis.graphs import pool1_padding_of
from checkpoints.diagnosis.structure import Shapes
from checkpoints.errors import CheckpointError
from checkpoints.files import CheckpointReader, Notes, read_notes
from checkpoints.files.graph import GraphFile
from checkpoints.files.hashing import sha256_of
from checkpoints.files.identifying import identify
from checkpoints.files.notes import INPUT
from checkpoints.frameworks.keras_applications import APPLICATIONS
from checkpoints.frameworks.keras_files import open_keras
from checkpoints.frameworks.keras_names import from_keras, keras_image_size, keras_pool1_padding
from checkpoints.frameworks.tensor_files import read_npz, read_safetensors, read_torch
from checkpoints.frameworks.torch_names import from_torch, is_torch
from checkpoints.frameworks.weights import Weights
from checkpoints.names import joined
from checkpoints.opening import open_checkpoint
from nets.nets_factory import Network, get_network

__all__ = ["KINDS", "kind_of", "read_weights"]

# The kinds of files: slim's names in a checkpoint, in arrays or in safetensors; Keras' and torchvision's networks.
KINDS = ("slim", "npz", "safetensors", "keras", "torch")

# The weights of version 2 that Keras publishes are slim's own without the background class, and slim evaluates them at
# 299. Others were probably trained at the networks' default size.
_PUBLISHED_V2_CLASSES, _PUBLISHED_V2_SIZE = 1000, 299

# The frameworks' own preprocessings are for images of three channels. For other images, no file tells one.
_COLOURS, _UNKNOWN_INPUT = 3, "none"


def kind_of(path: str | Path) -> str:
    """Returns the kind of a file, one of ``KINDS``, from its content; 'slim' also for unknown files and folders."""
    path = Path(path)
    kind = identify(path).weights if path.is_file() else None
    return kind or "slim"


def read_weights(path: str | Path, *, net: str | None = None, scope: str | None = None, ema: bool = False) -> Weights:
    """Reads the weights in a file of any of the kinds.

    Args:
      path: a checkpoint, as for ``checkpoints.open_checkpoint``; an ``.npz`` or ``.safetensors`` file with slim's
        names; a ``.h5``, ``.weights.h5`` or ``.keras`` file of one of the ResNets of ``keras.applications``, of its
        VGGs or of its Inception v3; a ``.pth`` or ``.safetensors`` file with torchvision's names.
      net: name of the network, which chooses among several; a file without it is refused.
      scope: scope of the network, which chooses among several in a file with slim's names.
      ema: take the moving averages of the variables in their place.

    Raises:
      CheckpointError: if the file cannot be read, would run code, or holds another network.
      ImportError: if the package that reads the file is missing.
      ValueError: for an unknown network or scope.
    """
    path = Path(path)
    wanted = None if net is None else get_network(net)
    kind = kind_of(path)
    weights, shapes, notes, graph = _READERS[kind](path)
    if ema:
        weights, shadows = weights.averaged(), sort_names(shapes).shadows
        shapes = {name: shapes[shadows.get(name, name)] for name in weights.values}
    if weights.network is None:
        weights = _with_structure(weights, shapes, wanted, scope)
    elif scope is not None:
        raise ValueError(f"scope={scope!r} chooses among networks with slim's names, unlike {path}: leave it out.")
    else:
        weights = _checked(weights, shapes)
    if weights.network and (padding := pool1_padding_of(graph, weights.scope)):
        weights = dataclasses.replace(weights, pool1_padding=padding)
    weights = _noted(weights, notes)
    if wanted is not None and weights.network is not wanted:
        holds = weights.network.name if weights.network else "none of the known networks, or several"
        raise CheckpointError(
            f"{path} holds {holds} and not {net}: leave net out, or take another file.", "another network"
        )
    return weights


def _with_structure(weights: Weights, shapes: Shapes, wanted: Network | None, scope: str | None) -> Weights:
    """Returns the weights with the network that their names and shapes make up, if it is a single one of the table."""
    structures = structures_in(shapes)
    chosen = [found for found in structures if scope is None or found.scope == scope.strip("/")]
    if wanted is not None and len(chosen) > 1:
        chosen = [found for found in chosen if found.network is wanted]
    if scope is not None and not chosen:
        there = ", ".join(repr(found.scope) for found in structures) or "none"
        raise ValueError(f"{weights.path} has no network under scope={scope!r}: its networks are under {there}.")
    if len(chosen) != 1 or chosen[0].network is None or (chosen[0].faults and not chosen[0].lacking):
        return dataclasses.replace(weights, fault=_cause(chosen[0])) if len(chosen) == 1 else weights
    found = chosen[0]
    prefix = joined(found.scope, "")
    # Some variables exist only as averages, or under other names.
    if any(name.startswith(prefix) and name not in weights.values for name in model_shapes(shapes)):
        return weights
    if len(structures) > 1:
        weights = weights.renamed({name: name for name in weights.values if name.startswith(prefix)})
    preprocessing, image_size = expected_input(found.network, found.num_classes, found.channels)
    return dataclasses.replace(
        weights,
        network=found.network,
        scope=found.scope,
        num_classes=found.num_classes,
        options=found.options,
        lacking=found.lacking,
        pool1_padding=default_pool1_padding(found.network),
        preprocessing=preprocessing,
        image_size=image_size,
        channels=found.channels or weights.channels,
        assumed=INPUT,
    )


def _cause(structure: Structure) -> str:
    """Returns why a structure is not in the table, without the advice, which is for restoring; '' if unknown."""
    return structure.faults[0].rpartition(": ")[0] if structure.faults else ""


def _noted(weights: Weights, notes: Notes | None) -> Weights:
    """Returns the weights with the facts from the notes beside the file, if they are on the same network."""
    if notes is None or weights.network is None or notes.network != weights.network.name:
        return weights
    return dataclasses.replace(
        weights,
        pool1_padding=notes.pool1_padding,
        preprocessing=notes.preprocessing,
        image_size=notes.image_size,
        labels=notes.labels if notes.labels and len(notes.labels) == weights.num_classes else None,
        assumed=notes.assumed,
    )


def _checked(weights: Weights, shapes: Shapes) -> Weights:
    """Returns weights from another framework with the builder's options that their names and shapes tell.

    Raises:
      CheckpointError: if they do not have the shapes of their network.
    """
    found = structures_in(shapes)
    if len(found) != 1 or found[0].network is not weights.network or (found[0].faults and not found[0].lacking):
        reason = _cause(found[0]) or "its widths are others" if found else "nothing fits"
        raise CheckpointError(
            f"{weights.path} has the layers of {weights.network.name} in other shapes ({reason}): take another file.",
            "unknown network",
        )
    return dataclasses.replace(weights, options=found[0].options, lacking=found[0].lacking)


class _Read(NamedTuple):
    """The contents of a file: the weights, the shapes of its values, the notes beside it, and the graph in it."""

    weights: Weights
    shapes: Shapes
    notes: Notes | None
    graph: GraphFile | None = None


class _Stored(Mapping[str, np.ndarray]):
    """The values of a checkpoint, read on request."""

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


def _read_slim(path: Path) -> _Read:
    reader = open_checkpoint(path)
    return _Read(_by_name(path, "slim", _Stored(reader), reader.files()), reader.shapes, reader.notes, reader.graph)


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
        got = from_keras(file)
        pool1_padding, size = keras_pool1_padding(file, got.network), keras_image_size(file)
    size = size or got.network.image_size
    published_v2 = got.network.family == "resnet_v2" and got.num_classes == _PUBLISHED_V2_CLASSES
    if published_v2 and size == got.network.image_size:
        size = _PUBLISHED_V2_SIZE
    weights = Weights(
        path,
        "keras",
        {joined(got.network.scope, name): value for name, value in got.values.items()},
        got.network,
        got.network.scope,
        got.num_classes,
        options={},
        pool1_padding=pool1_padding,
        preprocessing=APPLICATIONS[got.network.name].preprocessing if got.channels == _COLOURS else _UNKNOWN_INPUT,
        image_size=size,
        folded=tuple(joined(got.network.scope, name) for name in got.folded),
        sha256=sha256_of([path]),
        channels=got.channels,
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
        preprocessing="torchvision" if got.channels == _COLOURS else _UNKNOWN_INPUT,
        image_size=got.network.image_size,
        folded=(),
        sha256=sha256_of([path]),
        channels=got.channels,
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
