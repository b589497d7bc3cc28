"""The folder from which a process writes a format: the frozen graph, its description, the images to calibrate with.

| file | content |
|---|---|
| `graph.pb` | the frozen graph, from the images to the outputs |
| `slimnets.json` | its description |
| `calibration/*.npy` | for int8: one batch of the input each |
| `inputs/*.npy` | for the proof: one batch of the input each; of encoded files, a folder with one array a file |
| `outputs/*.npz` | what the exported network computes for each of the inputs |
"""

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

__all__ = ["CALIBRATION", "DESCRIPTION", "GRAPH", "INPUTS", "OUTPUTS", "read_batches", "write_batches"]

# The names in the folder, as the table lists them.
GRAPH, DESCRIPTION = "graph.pb", "slimnets.json"
CALIBRATION, INPUTS, OUTPUTS = "calibration", "inputs", "outputs"


def write_batches(folder: Path, batches: Iterable[np.ndarray]) -> None:
    """Writes batches of an input to a folder; those of encoded files are arrays of bytes, dtype object."""
    folder.mkdir()
    for number, batch in enumerate(batches):
        if batch.dtype != object:
            np.save(folder / f"{number:05}.npy", batch)
            continue
        (folder / f"{number:05}").mkdir()
        for place, encoded in enumerate(batch):
            (folder / f"{number:05}" / f"{place:05}").write_bytes(encoded)


def read_batches(folder: Path) -> Iterator[np.ndarray]:
    """Yields the batches that ``write_batches`` wrote, in their order."""
    for entry in sorted(folder.iterdir()):
        if entry.is_dir():
            files = [file.read_bytes() for file in sorted(entry.iterdir())]
            batch = np.empty(len(files), object)
            batch[:] = files
            yield batch
        else:
            yield np.load(entry)
