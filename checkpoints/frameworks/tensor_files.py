"""Reads and writes files of arrays by name: NumPy's ``.npz``, safetensors, and PyTorch's state dicts."""

import importlib
import pickle
import warnings
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from checkpoints.errors import CheckpointError, damaged, first_line

__all__ = ["read_npz", "read_safetensors", "read_torch", "write_npz", "write_safetensors", "write_torch", "writing"]

Arrays = Mapping[str, np.ndarray]

# Keys under which training scripts store a state dict.
_STATE_DICTS = ("state_dict", "model", "model_state_dict", "net")

# A name that safetensors reserves.
_METADATA = "__metadata__"


def read_npz(path: str | Path) -> dict[str, np.ndarray]:
    """Reads NumPy's archive of arrays.

    Raises:
      CheckpointError: if it is damaged, or holds pickled objects, which are not opened.
    """
    with _reading(path):
        try:
            with np.load(path, allow_pickle=False) as file:
                if len(set(file.files)) < len(file.files):
                    raise ValueError("several arrays have the same name")
                values = {name: file[name] for name in file.files}
        except ValueError as error:
            if not str(error).startswith("Object arrays cannot be loaded"):
                raise
            raise CheckpointError(
                f"{path} holds pickled objects, which could run anything and are not opened: save arrays alone.",
                "unsafe",
            ) from error
        if strange := [name for name, value in values.items() if not isinstance(value, np.ndarray)]:
            raise ValueError(f"{strange[0]!r} is not an array")
        return values


def write_npz(path: Path, arrays: Arrays) -> None:
    """Writes NumPy's archive of arrays, uncompressed.

    Raises:
      ValueError: for values that are not numbers of NumPy's.
    """
    # np.savez takes the names as keywords, and cannot store an array called 'file'.
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED, allowZip64=True) as archive:
        for name, array in arrays.items():
            _check_numbers(name, array, "biufc", "NumPy's archives")
            with archive.open(f"{name}.npy", "w", force_zip64=True) as stream:
                np.lib.format.write_array(stream, np.asanyarray(array), allow_pickle=False)


def read_safetensors(path: str | Path) -> dict[str, np.ndarray]:
    """Reads a safetensors file.

    Raises:
      CheckpointError: if it is damaged, or its header does not fit what follows.
      ImportError: without the package safetensors.
    """
    safetensors = _imported("safetensors.numpy")
    with _reading(path):
        return safetensors.load_file(path)


def write_safetensors(path: Path, arrays: Arrays) -> None:
    """Writes a safetensors file; its bytes depend on the arrays alone.

    Raises:
      ImportError: without the package safetensors.
      OSError: if it cannot be written.
      ValueError: for values that the format has no type for.
    """
    safetensors = _imported("safetensors.numpy")
    whole = {}
    for name, array in arrays.items():
        if name == _METADATA:
            raise ValueError(f"safetensors cannot hold a variable called {name}, which it reserves: leave it out.")
        _check_numbers(name, array, "biuf" if np.dtype(array.dtype).itemsize <= 8 else "", "safetensors")
        whole[name] = np.asarray(array, order="C")
    with writing(path):
        safetensors.save_file(whole, path)


def read_torch(path: str | Path) -> dict[str, np.ndarray]:
    """Reads a state dict of PyTorch, alone or inside what a training script saved; no code from the file runs.

    Raises:
      CheckpointError: if it is damaged, would run code, or holds no state dict.
      ImportError: without the package torch.
    """
    torch = _imported("torch")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # PyTorch warns of TorchScript archives, and then refuses them
            loaded = torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except (pickle.UnpicklingError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and "weights_only" not in str(error):
            raise damaged(path, error) from error
        # PyTorch's own message advises the user to trust the file, which would be unsafe.
        raise CheckpointError(
            f"{path} holds more than tensors, which could run anything when opened, and is not opened: save its state "
            "dict alone, torch.save(model.state_dict(), ...).",
            "unsafe",
        ) from error
    except Exception as error:  # depends on the module of PyTorch that finds the damage
        raise damaged(path, error) from error
    state = _state_dict(loaded)
    if not state:
        raise CheckpointError(
            f"{path} holds no state dict of tensors: save one by torch.save(model.state_dict(), ...).",
            "unknown network",
        )
    with _reading(path):
        # NumPy has no bfloat16.
        return {
            name: (value.float() if value.dtype == torch.bfloat16 else value).numpy() for name, value in state.items()
        }


def write_torch(path: Path, arrays: Arrays) -> None:
    """Writes a state dict that ``torch.load`` reads with its defaults.

    Raises:
      ImportError: without the package torch.
      OSError: if it cannot be written.
    """
    torch = _imported("torch")
    # PyTorch does not take TensorFlow's bfloat16.
    plain = {name: array.astype(np.float32) if array.dtype.kind == "V" else array for name, array in arrays.items()}
    state = {name: torch.from_numpy(np.array(array)) for name, array in plain.items()}
    with writing(path):
        torch.save(state, path)


@contextmanager
def _reading(path: str | Path) -> Iterator[None]:
    """Raises CheckpointError for any error that a package raises while it reads a file."""
    try:
        yield
    except (CheckpointError, MemoryError):
        raise
    except Exception as error:
        raise damaged(path, error) from error


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Raises OSError for errors that packages in other languages raise, for example if the disk is full."""
    try:
        yield
    except (MemoryError, OSError):
        raise
    except Exception as error:
        raise OSError(f"{path.name} cannot be written ({first_line(error)}): is there space?") from error


def _check_numbers(name: str, array: np.ndarray, kinds: str, where: str) -> None:
    dtype = np.dtype(array.dtype)
    known = dtype.kind in kinds or (where == "safetensors" and dtype.name == "bfloat16")
    if not known:
        raise ValueError(f"{where} cannot hold {name}, which is {dtype.name}: leave it out, exclude=[{name!r}].")


def _state_dict(loaded: Any) -> dict[str, Any]:
    if not isinstance(loaded, Mapping):
        return {}
    inner = next((loaded[key] for key in _STATE_DICTS if isinstance(loaded.get(key), Mapping)), loaded)
    state = {name: value.detach() for name, value in inner.items() if hasattr(value, "detach")}
    return state if all(isinstance(name, str) for name in state) else {}


def _imported(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ImportError(
            f"This needs the package {name.partition('.')[0]} ({error}): pip install 'slimnets[convert]'."
        ) from error
