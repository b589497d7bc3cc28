"""Files of arrays by name: NumPy's ``.npz``, safetensors, and PyTorch's state dicts."""

import importlib
import pickle
import zipfile
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from checkpoints.files import CheckpointError

__all__ = ["read_npz", "read_safetensors", "read_torch", "write_npz", "write_safetensors", "write_torch"]

Arrays = Mapping[str, np.ndarray]

# Where others than torchvision put a state dict, and what their training puts before its names.
_STATE_DICTS = ("state_dict", "model", "model_state_dict", "net")
_PARALLEL = "module."


def read_npz(path: str | Path) -> dict[str, np.ndarray]:
    """Reads NumPy's archive of arrays.

    Raises:
      CheckpointError: if it is damaged, or holds pickled objects, which are not opened.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        if "allow_pickle" in str(error):
            raise CheckpointError(
                f"{path} holds pickled objects, which could run anything and are not opened: save arrays alone.",
                "unsafe",
            ) from error
        raise _damaged(path, error) from error


def write_npz(path: Path, arrays: Arrays) -> None:
    """Writes NumPy's archive of arrays, uncompressed."""
    # Not np.savez, which takes the names for keywords, among them its own, 'file'.
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED, allowZip64=True) as archive:
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as stream:
                np.lib.format.write_array(stream, np.asanyarray(array), allow_pickle=False)


def read_safetensors(path: str | Path) -> dict[str, np.ndarray]:
    """Reads a safetensors file.

    Raises:
      CheckpointError: if it is damaged, or its header does not fit what follows.
      ImportError: without the package safetensors.
    """
    safetensors = _imported("safetensors.numpy")
    try:
        return safetensors.load_file(path)
    except (OSError, ValueError, KeyError, importlib.import_module("safetensors").SafetensorError) as error:
        raise _damaged(path, error) from error


def write_safetensors(path: Path, arrays: Arrays) -> None:
    """Writes a safetensors file; its bytes depend on the arrays alone.

    Raises:
      ImportError: without the package safetensors.
    """
    whole = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    _imported("safetensors.numpy").save_file(whole, path)


def read_torch(path: str | Path) -> dict[str, np.ndarray]:
    """Reads a state dict of PyTorch's, as tensors only: nothing that the file might run is run.

    Of what training scripts save the state dict is taken out, and the prefix 'module.' of parallel training off.

    Raises:
      CheckpointError: if it is damaged, would run code, or holds no state dict.
      ImportError: without the package torch.
    """
    torch = _imported("torch")
    try:
        loaded = torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except pickle.UnpicklingError as error:
        # PyTorch's message advises to trust the file, which is not for us to advise.
        raise CheckpointError(
            f"{path} holds more than tensors, which could run anything when opened, and is not opened: save its state "
            "dict alone, torch.save(model.state_dict(), ...).",
            "unsafe",
        ) from error
    except (OSError, RuntimeError, EOFError, ValueError, KeyError, AttributeError) as error:
        raise _damaged(path, error) from error
    state = _state_dict(loaded)
    if not state:
        raise CheckpointError(
            f"{path} holds no state dict of tensors: save one by torch.save(model.state_dict(), ...).",
            "unknown network",
        )
    if all(name.startswith(_PARALLEL) for name in state):
        state = {name.removeprefix(_PARALLEL): value for name, value in state.items()}
    # NumPy has no bfloat16 of PyTorch's.
    return {name: (value.float() if value.dtype == torch.bfloat16 else value).numpy() for name, value in state.items()}


def write_torch(path: Path, arrays: Arrays) -> None:
    """Writes a state dict, as ``torch.load`` reads it with its defaults.

    Raises:
      ImportError: without the package torch.
    """
    torch = _imported("torch")
    torch.save({name: torch.from_numpy(np.array(array)) for name, array in arrays.items()}, path)


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


def _damaged(path: str | Path, error: Exception) -> CheckpointError:
    said = next(iter(str(error).splitlines()), type(error).__name__)
    return CheckpointError(f"{path} is damaged or cut short ({said}): fetch or copy it again.")
