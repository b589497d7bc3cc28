"""Makes a model: ``python -m tools.engines.making STAGED FOLDER``, with the files in STAGED that ``models`` writes.

A process of its own keeps a converter's memory and crashes apart.
"""

import json
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tools.engines import engine_module, model_file
from tools.engines.models import CALIBRATION, GRAPH, SPECIFICATION
from tools.engines.tensors import TensorInfo

__all__ = ["main"]

# Number of images in a batch to calibrate with, if the network takes any number.
_BATCH = 8


def main(argv: Sequence[str]) -> int:
    """Makes the model, and returns the exit status."""
    staged, target = map(Path, argv)
    specification = json.loads((staged / SPECIFICATION).read_text(encoding="utf-8"))
    engine, dtype = specification["engine"], specification["dtype"]
    images, *outputs = map(TensorInfo.of, (specification["images"], *specification["outputs"]))
    batches: list[np.ndarray] = []
    if dtype == "int8":
        values, size = np.load(staged / CALIBRATION), images.shape[0] or _BATCH
        batches = [values[start : start + size] for start in range(0, len(values), size)]
    engine_module(engine).write(
        staged / GRAPH, images, outputs, model_file(engine, target), dtype=dtype, calibration=batches
    )
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
