"""Writes a format, or runs what was written, in a process of its own.

``python -m tools.export.worker write FOLDER TARGET`` writes the graph in FOLDER in the format of its description.
``python -m tools.export.worker run FOLDER TARGET`` loads it as its users do, with nothing but its runtime, and computes
the outputs for the inputs in FOLDER (see ``staging``).

The first keeps a converter's memory and crashes apart; the second makes sure that nothing of the exporting process is
needed.
"""

import importlib
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

import numpy as np

from tools.errors import InputError
from tools.export.description import Description
from tools.export.formats import FORMATS
from tools.export.staging import DESCRIPTION, INPUTS, OUTPUTS, read_batches
from tools.runtime.processes import run_module

__all__ = ["main", "run_worker"]


def run_worker(task: str, folder: Path, target: Path) -> None:
    """Runs a process that writes, or runs, the network that is described in ``folder``.

    Raises:
      InputError: if it fails; its last line is quoted.
    """
    said = run_module("tools.export.worker", task, folder, target)
    if said is not None:
        what = "written as" if task == "write" else "run as"
        name = Description.load(folder / DESCRIPTION).format
        raise InputError(f"The network cannot be {what} {name} ({said}): choose another format.")


def main(argv: Sequence[str]) -> int:
    """Writes or runs, and returns the exit status."""
    task, folder, target = argv[0], Path(argv[1]), Path(argv[2])
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
