"""Reads Keras' files of weights with h5py alone: no layer is created, and no code from a file runs.

There are three layouts: HDF5 as Keras wrote it until 2023 (``.h5``: weights, or a whole model), HDF5 as Keras 3 saves
weights (``.weights.h5``), and a zip archive of a configuration and such a file (``.keras``).
"""

import itertools
import json
import re
import tempfile
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np

from checkpoints.errors import CheckpointError, damaged
from checkpoints.frameworks.keras_applications import CONVERTIBLE

__all__ = ["KerasFile", "layers_of", "open_keras"]

# Names of the layers' variables, in the order in which Keras 3 numbers them.
_VARIABLES = {
    "Conv2D": ("kernel", "bias"),
    "Dense": ("kernel", "bias"),
    "BatchNormalization": ("gamma", "beta", "moving_mean", "moving_variance"),
}

# The end of a variable's name in files of Keras 1, such as the hosted ones of the VGGs: 'block1_conv1_W_1:0'.
_OF_KERAS_1 = re.compile(r".+_(?P<leaf>[Wb])(_\d+)?")
_LEAVES_OF_KERAS_1 = {"W": "kernel", "b": "bias"}

# The largest size of a configuration in bytes; the deepest networks here need less than a tenth.
_LARGEST_CONFIG = 20_000_000
# The largest ratio of the weights' size to the archive's; Keras does not compress weights.
_LARGEST_RATIO = 20

_CONFIG, _WEIGHTS = "config.json", "model.weights.h5"


class KerasFile(NamedTuple):
    """The contents of one of Keras' files.

    path: path of the file.
    variables: the datasets of the variables (name of the layer → name of the variable → dataset).
    layers: configurations of a model's layers, with 'class_name' and 'config', unchecked beyond that; None for a file
      of weights alone.
    """

    path: Path
    variables: dict[str, dict[str, h5py.Dataset]]
    layers: list[dict[str, Any]] | None

    def read(self, layer: str, variable: str) -> np.ndarray:
        """Reads the value of a variable.

        Raises:
          CheckpointError: if the file is damaged there.
        """
        try:
            return self.variables[layer][variable][()]
        except (OSError, RuntimeError) as error:
            raise damaged(self.path, error) from error


@contextmanager
def open_keras(path: str | Path) -> Iterator[KerasFile]:
    """Opens a file of weights or of a model that Keras wrote; values are read only on request.

    Raises:
      CheckpointError: if it is damaged, or its layers cannot be identified.
    """
    path = Path(path)
    if not zipfile.is_zipfile(path):
        with _opened(path, path) as file:
            yield _from_hdf5(path, file)
        return
    # HDF5 seeks back and forth in a file, which takes minutes inside an archive.
    with tempfile.TemporaryDirectory() as folder:
        layers = layers_of(_unpacked(path, folder), path)
        with _opened(path, Path(folder, _WEIGHTS)) as file:
            yield KerasFile(path, _numbered(path, file, layers), layers)


def _unpacked(path: Path, folder: str) -> Any:
    """Unpacks a model's weights into a folder and returns its configuration."""
    try:
        with zipfile.ZipFile(path) as archive:
            for name, largest in ((_CONFIG, _LARGEST_CONFIG), (_WEIGHTS, _LARGEST_RATIO * path.stat().st_size)):
                if archive.getinfo(name).file_size > largest:
                    raise CheckpointError(f"{path} has a {name} of more than {largest:,} bytes: take another file.")
            archive.extract(_WEIGHTS, folder)
            return _parsed(path, archive.read(_CONFIG))
    except (KeyError, zipfile.BadZipFile, EOFError, NotImplementedError, RuntimeError, zlib.error) as error:
        raise damaged(path, error) from error


@contextmanager
def _opened(path: Path, source: Path) -> Iterator[h5py.File]:
    """Opens the HDF5 file ``source``; errors name ``path``, the file that the user gave."""
    try:
        file = h5py.File(source, "r")
    except (OSError, RuntimeError) as error:
        raise damaged(path, error) from error
    with file:
        yield file


def _parsed(path: Path, text: bytes | str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError, TypeError) as error:
        raise damaged(path, error) from error


def layers_of(config: Any, path: Path) -> list[dict[str, Any]]:
    """Returns the layers of a model's configuration.

    Raises:
      CheckpointError: if it is not the configuration of a model of layers.
    """
    config = config.get("config") if isinstance(config, dict) else None
    layers = config.get("layers") if isinstance(config, dict) else None
    for layer in layers if isinstance(layers, list) else [None]:
        arguments = layer.get("config") if isinstance(layer, dict) else None
        names = (layer.get("class_name"), arguments.get("name")) if isinstance(arguments, dict) else (None,)
        if not all(isinstance(name, str) for name in names):
            raise CheckpointError(f"{path} is no model of layers with names: take a file that Keras wrote.")
    return layers


def _from_hdf5(path: Path, file: h5py.File) -> KerasFile:
    layers = None
    if "model_config" in file.attrs:
        layers = layers_of(_parsed(path, file.attrs["model_config"]), path)
    weights = _inside(path, file, "model_weights") if "model_weights" in file else file
    if "layer_names" in weights.attrs or "layer_names0" in weights.attrs:
        return KerasFile(path, dict(_by_name(path, weights)), layers)
    return KerasFile(path, _numbered(path, file, layers), layers)


def _inside(path: Path, group: h5py.Group, name: str) -> Any:
    """Returns the group or dataset of that name; refuses HDF5's links to other files."""
    for part in name.strip("/").split("/"):
        if not isinstance(group.get(part, getlink=True), h5py.HardLink):
            raise damaged(path, KeyError(f"nothing of its own is called {name}"))
        group = group[part]
    if isinstance(group, h5py.Dataset) and (group.external or group.is_virtual):
        raise CheckpointError(f"{path} has its {name} in another file, which is not opened: save it with the weights.")
    return group


def _by_name(path: Path, weights: h5py.Group) -> Iterator[tuple[str, dict[str, h5py.Dataset]]]:
    """Yields the layers of the older layout: each is a group that lists the names of its weights."""
    try:
        for layer in _names(weights, "layer_names"):
            group = _inside(path, weights, layer)
            if names := _names(group, "weight_names"):
                yield layer, {_leaf(name): _inside(path, group, name) for name in names}
    except CheckpointError:
        raise
    except Exception as error:  # an attribute may hold anything in place of names
        raise damaged(path, error) from error


def _leaf(name: str) -> str:
    """Returns a variable's own name, which is the last part of 'conv1_conv/kernel:0'."""
    leaf = name.rpartition("/")[2].removesuffix(":0")
    match = _OF_KERAS_1.fullmatch(leaf)
    return _LEAVES_OF_KERAS_1[match["leaf"]] if match else leaf


def _names(group: h5py.Group, key: str) -> list[str]:
    """Returns a list of names from an attribute; Keras splits one too long for HDF5 into several numbered ones."""
    attributes = group.attrs
    parts = [key] if key in attributes else list(itertools.takewhile(attributes.__contains__, _numbers_of(key)))
    values = [value for part in parts for value in attributes[part]]
    return [value.decode() if isinstance(value, bytes) else str(value) for value in values]


def _numbers_of(key: str) -> Iterator[str]:
    return (f"{key}{i}" for i in itertools.count())


def _numbered(
    path: Path, file: h5py.File, configured: Iterable[Mapping[str, Any]] | None
) -> dict[str, dict[str, h5py.Dataset]]:
    """Returns the layers of Keras 3's layout: groups named after the layers' classes, with numbered variables."""
    groups: dict[str, h5py.Group] = {}
    file.visititems(_collect_into(groups))
    names = _names_by_group(configured or ())
    layers = {}
    for place, group in groups.items():
        leaf = place.rpartition("/")[2]
        name = group.attrs.get("name") or names.get(leaf)
        if not isinstance(name, str):
            raise CheckpointError(
                f"{path} does not say which layer its {place} belongs to, as an early Keras 3 wrote no names: "
                "save the model as .keras, or its weights with a current version.",
                "unknown network",
            )
        kind = next((each for each in _VARIABLES if re.fullmatch(rf"{_snake(each)}(_\d+)?", leaf)), None)
        numbers = [str(number) for number in range(len(group))]
        if kind is None or set(group) != set(numbers) or len(group) > len(_VARIABLES[kind]):
            raise CheckpointError(
                f"{path} has weights in a layer {name!r} ({place}) that no network has which can be "
                f"converted: take the weights of one of {CONVERTIBLE}.",
                "unknown network",
            )
        variables = _VARIABLES[kind]
        if kind == "BatchNormalization" and len(group) < len(variables):
            variables = variables[1:]  # without scale
        # Not every convolution has a bias.
        layers[name] = {leaf: _inside(path, group, number) for leaf, number in zip(variables, numbers, strict=False)}
    return layers


def _collect_into(groups: dict[str, h5py.Group]) -> Callable[[str, Any], None]:
    def visit(place: str, item: Any) -> None:
        # An optimizer's groups have the same layout, and are left out.
        if place.endswith("/vars") and isinstance(item, h5py.Group) and len(item) and not place.startswith("optimizer"):
            groups[place.removesuffix("/vars")] = item

    return visit


def _names_by_group(layers: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    """Returns the layers' names by the groups that Keras names after their classes and numbers (group → layer)."""
    counts: Counter[str] = Counter()
    names = {}
    for layer in layers:
        kind = _snake(layer["class_name"])
        names[f"{kind}_{counts[kind]}" if counts[kind] else kind] = layer["config"]["name"]
        counts[kind] += 1
    return names


def _snake(name: str) -> str:
    """Returns a class's name as Keras writes it in groups: 'batch_normalization', 'conv2d'."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z][a-z])", "_", name).lower()
