"""Prepares an export, writes a format, or runs what was written, in a process of its own.

``python -m tools.export.worker prepare FOLDER`` restores the network of the request in FOLDER (see ``preparing``).
``python -m tools.export.worker write FOLDER TARGET`` writes the graph in FOLDER in the format of its description.
``python -m tools.export.worker run FOLDER TARGET`` loads it as its users do, with nothing but its runtime, and computes
the outputs for the inputs in FOLDER (see ``staging``).

The first leaves no memory behind; the second keeps a converter's memory and crashes apart; the third makes sure that
nothing of the exporting process is needed.
"""

import importlib
import pickle
import sys
import traceback
import warnings
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

import numpy as np

from tools.errors import InputError
from tools.export.description import Description
from tools.export.formats import FORMATS
from tools.export.staging import DESCRIPTION, INPUTS, NEWS, OUTPUTS, REQUEST, Request, read_batches
from tools.runtime.importing import import_tensorflow
from tools.runtime.processes import run_module

__all__ = ["main", "run_preparation", "run_worker"]


def run_preparation(request: Request, folder: Path) -> None:
    """Prepares an export, in a process of its own unless this one has TensorFlow already, or a function as the network.

    Raises:
      InputError: if the process ends before it is done.
      Exception: as ``preparing.prepare``.
    """
    if "tensorflow" in sys.modules or callable(request.options.get("net")):
        from tools.export.preparing import prepare

        prepare(request, folder)
        return
    (folder / REQUEST).write_bytes(pickle.dumps((request, sys.path)))
    said = run_module("tools.export.worker", "prepare", folder, temporary=folder)
    if said is not None:
        raise InputError(f"The network cannot be restored ({said}): check the checkpoint with `slimnets inspect`.")
    if (folder / NEWS).exists():
        import_tensorflow()  # for the classes of errors and warnings
        heard, error = pickle.loads((folder / NEWS).read_bytes())
        for message in heard:
            warnings.warn(message, stacklevel=3)
        if error is not None:
            raise error


def _prepare(folder: Path) -> None:
    """Prepares the request in a folder, and leaves warnings and the error there."""
    request, path = pickle.loads((folder / REQUEST).read_bytes())
    sys.path += [place for place in path if place not in sys.path]
    (folder / REQUEST).unlink()
    error = None
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always", UserWarning)
        try:
            import_tensorflow()
            from tools.export.preparing import prepare

            prepare(request, folder)
        except Exception as raised:
            raised.add_note(traceback.format_exc())
            error = raised
    messages = [one.message for one in heard if issubclass(one.category, UserWarning)]
    if messages or error is not None:
        (folder / NEWS).write_bytes(pickle.dumps((messages, error)))


def run_worker(task: str, folder: Path, target: Path) -> None:
    """Runs a process that writes, or runs, the network that is described in ``folder``.

    Raises:
      InputError: if it fails; its last line is quoted.
    """
    said = run_module("tools.export.worker", task, folder, target, temporary=folder)
    if said is not None:
        what = "written as" if task == "write" else "run as"
        name = Description.load(folder / DESCRIPTION).format
        raise InputError(f"The network cannot be {what} {name} ({said}): choose another format.")


def main(argv: Sequence[str]) -> int:
    """Prepares, writes or runs, and returns the exit status."""
    task, folder = argv[0], Path(argv[1])
    if task == "prepare":
        _prepare(folder)
        return 0
    target = Path(argv[2])
    description = Description.load(folder / DESCRIPTION)
    module = _module(description.format)
    if task == "write":
        module.write(folder, description, target)
        return 0
    compute = module.load(target, description)
    outputs = folder / OUTPUTS
    outputs.mkdir()
    for number, images in enumerate(read_batches(folder / INPUTS)):
        # Strings come as objects, which NumPy would pickle.
        results = {name: np.array(v.tolist()) if v.dtype == object else v for name, v in compute(images).items()}
        np.savez(outputs / f"{number:05}.npz", **results)
    return 0


def _module(name: str) -> ModuleType:
    return importlib.import_module(f"tools.export.formats.{FORMATS[name].module}")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
