"""Keras' files of weights, by h5py alone: no layer is made, and nothing that a file says is run.

Three layouts: HDF5 as Keras had it until 2023 (``.h5``: weights, or a whole model), HDF5 as Keras 3 saves weights
(``.weights.h5``), and a zip of a configuration and such a file (``.keras``).
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

__all__ = ["KerasFile", "layers_of", "open_keras"]

# What layers call their variables, in the order in which Keras 3 numbers them.
_VARIABLES = {
    "Conv2D": ("kernel", "bias"),
    "Dense": ("kernel", "bias"),
    "BatchNormalization": ("gamma", "beta", "moving_mean", "moving_variance"),
}

# Of a configuration; those of the deepest networks here take less than a tenth.
_LARGEST_CONFIG = 20_000_000
# Of weights, which Keras does not compress, to the archive that they are in.
_LARGEST_RATIO = 20

_CONFIG, _WEIGHTS = "config.json", "model.weights.h5"


class KerasFile(NamedTuple):
    """What a file of Keras holds.

    path: of the file.
    variables: from layers' names to their variables' names, in the layer's order, and where to read them.
    layers: of a model, its configuration of each, with 'class_name' and 'config', as it was read and no further; None
      for a file of weights alone.
    """

    path: Path
    variables: dict[str, dict[str, h5py.Dataset]]
    layers: list[dict[str, Any]] | None

    def read(self, layer: str, variable: str) -> np.ndarray:
        """The value of a variable that there is.

        Raises:
          CheckpointError: if the file is damaged there.
        """
        try:
            return self.variables[layer][variable][()]
        except (OSError, RuntimeError) as error:
            raise damaged(self.path, error) from error


@contextmanager
def open_keras(path: str | Path) -> Iterator[KerasFile]:
    """Opens a file of weights, or of a model, that Keras wrote; its variables are read where they are asked for.

    Raises:
      CheckpointError: if it is damaged, or its layers cannot be told apart.
    """
    path = Path(path)
    if not zipfile.is_zipfile(path):
        with _opened(path, path) as file:
            yield _from_hdf5(path, file)
        return
    # HDF5 goes back and forth in a file, which takes minutes inside of an archive.
    with tempfile.TemporaryDirectory() as folder:
        layers = layers_of(_unpacked(path, folder), path)
        with _opened(path, Path(folder, _WEIGHTS)) as file:
            yield KerasFile(path, _numbered(path, file, layers), layers)


def _unpacked(path: Path, folder: str) -> Any:
    """Puts a model's weights in a folder, and returns its configuration."""
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
    """The HDF5 file ``source``, which ``path`` is or holds."""
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
    """The layers of a model's configuration.

    Raises:
      CheckpointError: if it is none of a model of layers.
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
    """What has that name in a group, in the same file: HDF5 can have links to others."""
    for part in name.strip("/").split("/"):
        if not isinstance(group.get(part, getlink=True), h5py.HardLink):
            raise damaged(path, KeyError(f"nothing of its own is called {name}"))
        group = group[part]
    if isinstance(group, h5py.Dataset) and (group.external or group.is_virtual):
        raise CheckpointError(f"{path} has its {name} in another file, which is not opened: save it with the weights.")
    return group


def _by_name(path: Path, weights: h5py.Group) -> Iterator[tuple[str, dict[str, h5py.Dataset]]]:
    """The layers of the older layout: a group each, which says what its weights are called."""
    try:
        for layer in _names(weights, "layer_names"):
            group = _inside(path, weights, layer)
            if names := _names(group, "weight_names"):
                # The last part of 'conv1_conv/kernel:0'.
                yield layer, {name.rpartition("/")[2].removesuffix(":0"): _inside(path, group, name) for name in names}
    except CheckpointError:
        raise
    except Exception as error:  # of whatever an attribute is in the place of names
        raise damaged(path, error) from error


def _names(group: h5py.Group, key: str) -> list[str]:
    """A list of names in an attribute; Keras cuts one that is too long for HDF5 into several, numbered."""
    attributes = group.attrs
    parts = [key] if key in attributes else list(itertools.takewhile(attributes.__contains__, _numbers_of(key)))
    values = [value for part in parts for value in attributes[part]]
    return [value.decode() if isinstance(value, bytes) else str(value) for value in values]


def _numbers_of(key: str) -> Iterator[str]:
    return (f"{key}{i}" for i in itertools.count())


def _numbered(
    path: Path, file: h5py.File, configured: Iterable[Mapping[str, Any]] | None
) -> dict[str, dict[str, h5py.Dataset]]:
    """The layers of Keras 3's layout: groups called after the layers' classes, with the variables by number."""
    groups: dict[str, h5py.Group] = {}
    file.visititems(_collect_into(groups))
    names = _names_by_group(configured or ())
    layers = {}
    for place, group in groups.items():
        leaf = place.rpartition("/")[2]
        name = group.attrs.get("name") or names.get(leaf)
        if not isinstance(name, str):
            raise CheckpointError(
                f"{path} does not say which layer its {place} is of, as Keras wrote it before it kept their names: "
                "save the model as .keras, or its weights with Keras of today.",
                "unknown network",
            )
        kind = next((each for each in _VARIABLES if re.fullmatch(rf"{_snake(each)}(_\d+)?", leaf)), None)
        numbers = [str(number) for number in range(len(group))]
        if kind is None or set(group) != set(numbers) or len(group) > len(_VARIABLES[kind]):
            raise CheckpointError(
                f"{path} has weights in a layer {name!r} ({place}) that no ResNet of keras.applications has: "
                "take the weights of one that does.",
                "unknown network",
            )
        variables = zip(_VARIABLES[kind], numbers, strict=False)  # not every convolution has a bias
        layers[name] = {variable: _inside(path, group, number) for variable, number in variables}
    return layers


def _collect_into(groups: dict[str, h5py.Group]) -> Callable[[str, Any], None]:
    def visit(place: str, item: Any) -> None:
        # Not an optimizer's, which has the same layout.
        if place.endswith("/vars") and isinstance(item, h5py.Group) and len(item) and not place.startswith("optimizer"):
            groups[place.removesuffix("/vars")] = item

    return visit


def _names_by_group(layers: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    """From the groups that Keras makes of the layers' classes, counting each, to the layers' names."""
    counts: Counter[str] = Counter()
    names = {}
    for layer in layers:
        kind = _snake(layer["class_name"])
        names[f"{kind}_{counts[kind]}" if counts[kind] else kind] = layer["config"]["name"]
        counts[kind] += 1
    return names


def _snake(name: str) -> str:
    """'BatchNormalization' as 'batch_normalization', 'Conv2D' as 'conv2d'."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z][a-z])", "_", name).lower()
