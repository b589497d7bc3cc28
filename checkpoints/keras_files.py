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
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np

from checkpoints.files import CheckpointError

__all__ = ["KerasFile", "open_keras"]

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
    config: the model's, as it was read and no further; None for a file of weights alone.
    """

    path: Path
    variables: dict[str, dict[str, h5py.Dataset]]
    config: dict[str, Any] | None

    def read(self, layer: str, variable: str) -> np.ndarray:
        """The value of a variable that there is.

        Raises:
          CheckpointError: if the file is damaged there.
        """
        try:
            return self.variables[layer][variable][()]
        except (OSError, RuntimeError) as error:
            raise _damaged(self.path, error) from error


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
        config = _unpacked(path, folder)
        with _opened(path, Path(folder, _WEIGHTS)) as file:
            yield KerasFile(path, _numbered(path, file, config), config)


def _unpacked(path: Path, folder: str) -> dict[str, Any]:
    """Puts a model's weights in a folder, and returns its configuration."""
    try:
        with zipfile.ZipFile(path) as archive:
            for name, largest in ((_CONFIG, _LARGEST_CONFIG), (_WEIGHTS, _LARGEST_RATIO * path.stat().st_size)):
                if archive.getinfo(name).file_size > largest:
                    raise CheckpointError(f"{path} has a {name} of more than {largest:,} bytes: take another file.")
            archive.extract(_WEIGHTS, folder)
            return _parsed(path, archive.read(_CONFIG))
    except (KeyError, zipfile.BadZipFile, EOFError, NotImplementedError, RuntimeError, zlib.error) as error:
        raise _damaged(path, error) from error


@contextmanager
def _opened(path: Path, source: Path) -> Iterator[h5py.File]:
    """The HDF5 file ``source``, which ``path`` is or holds."""
    try:
        file = h5py.File(source, "r")
    except (OSError, RuntimeError) as error:
        raise _damaged(path, error) from error
    with file:
        yield file


def _damaged(path: Path, error: Exception) -> CheckpointError:
    return CheckpointError(
        f"{path} is damaged or cut short ({str(error).splitlines()[0]}): fetch or copy it again.", "damaged"
    )


def _parsed(path: Path, text: bytes | str) -> dict[str, Any]:
    try:
        config = json.loads(text)
    except ValueError as error:
        raise _damaged(path, error) from error
    if not isinstance(config, dict):
        raise _damaged(path, ValueError("the model's configuration is none"))
    return config


def _from_hdf5(path: Path, file: h5py.File) -> KerasFile:
    config = _parsed(path, file.attrs["model_config"]) if "model_config" in file.attrs else None
    weights = file.get("model_weights", file)
    if "layer_names" in weights.attrs or "layer_names0" in weights.attrs:
        return KerasFile(path, dict(_by_name(path, weights)), config)
    return KerasFile(path, _numbered(path, file, config), config)


def _by_name(path: Path, weights: h5py.Group) -> Iterator[tuple[str, dict[str, h5py.Dataset]]]:
    """The layers of the older layout: a group each, which says what its weights are called."""
    try:
        for layer in _names(weights, "layer_names"):
            if names := _names(weights[layer], "weight_names"):
                # The last part of 'conv1_conv/kernel:0'.
                yield layer, {name.rpartition("/")[2].removesuffix(":0"): weights[layer][name] for name in names}
    except (KeyError, OSError, RuntimeError) as error:
        raise _damaged(path, error) from error


def _names(group: h5py.Group, key: str) -> list[str]:
    """A list of names in an attribute; Keras cuts one that is too long for HDF5 into several, numbered."""
    attributes = group.attrs
    parts = [key] if key in attributes else list(itertools.takewhile(attributes.__contains__, _numbers_of(key)))
    values = [value for part in parts for value in attributes[part]]
    return [value.decode() if isinstance(value, bytes) else str(value) for value in values]


def _numbers_of(key: str) -> Iterator[str]:
    return (f"{key}{i}" for i in itertools.count())


def _numbered(path: Path, file: h5py.File, config: Mapping[str, Any] | None) -> dict[str, dict[str, h5py.Dataset]]:
    """The layers of Keras 3's layout: groups called after the layers' classes, with the variables by number."""
    groups: dict[str, h5py.Group] = {}
    file.visititems(_collect_into(groups))
    names = _names_by_group(config)
    layers = {}
    for place, group in groups.items():
        name = group.attrs.get("name") or names.get(place.rpartition("/")[2])
        if not name:
            raise CheckpointError(
                f"{path} does not say which layer its {place} is of, as Keras wrote it before it kept their names: "
                "save the model as .keras, or its weights with Keras of today.",
                "unknown network",
            )
        kind = next((each for each in _VARIABLES if re.fullmatch(rf"{_snake(each)}(_\d+)?", _leaf(place))), None)
        if kind is None:
            raise CheckpointError(
                f"{path} has weights in a layer {name!r} ({place}) that no ResNet of keras.applications has: "
                "take the weights of one that does.",
                "unknown network",
            )
        order = sorted(group, key=int)
        layers[str(name)] = {variable: group[number] for variable, number in zip(_VARIABLES[kind], order, strict=False)}
    return layers


def _collect_into(groups: dict[str, h5py.Group]) -> Callable[[str, Any], None]:
    def visit(place: str, item: Any) -> None:
        # Not an optimizer's, which has the same layout.
        if place.endswith("/vars") and len(item) and not place.startswith("optimizer"):
            groups[place.removesuffix("/vars")] = item

    return visit


def _leaf(place: str) -> str:
    return place.rpartition("/")[2]


def _names_by_group(config: Mapping[str, Any] | None) -> dict[str, str]:
    """From the groups that Keras makes of the layers' classes, counting each, to the layers' names."""
    counts: Counter[str] = Counter()
    names = {}
    for layer in (config or {}).get("config", {}).get("layers", []):
        kind = _snake(str(layer.get("class_name")))
        names[f"{kind}_{counts[kind]}" if counts[kind] else kind] = layer.get("config", {}).get("name")
        counts[kind] += 1
    return names


def _snake(name: str) -> str:
    """'BatchNormalization' as 'batch_normalization', 'Conv2D' as 'conv2d'."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z][a-z])", "_", name).lower()
