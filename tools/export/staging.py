"""The folder from which a process writes a format: the frozen graph, its description, the images to calibrate with.

| file | content |
|---|---|
| `request.pickle` | what was asked for, if another process prepares all others |
| `news.pickle` | the warnings and the error of that process, if there were any |
| `graph.pb` | the frozen graph, from the images to the outputs |
| `slimnets.json` | its description |
| `calibration/*.npy` | for int8: one batch of the input each |
| `inputs/*.npy` | for the proof: one batch of the input each; of encoded files, a folder with one array a file |
| `expected.npz` | for the proof: what our network computes for the inputs |
| `outputs/*.npz` | what the exported network computes for each of the inputs |
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from tools.export.calibration import Calibration

if TYPE_CHECKING:
    from tools.features.network_choice import ExtractorOptions

__all__ = [
    "CALIBRATION",
    "DESCRIPTION",
    "EXPECTED",
    "GRAPH",
    "INPUTS",
    "NEWS",
    "OUTPUTS",
    "REQUEST",
    "Request",
    "joined",
    "read_batches",
    "write_batches",
]

# The names in the folder, as the table lists them.
REQUEST, NEWS = "request.pickle", "news.pickle"
GRAPH, DESCRIPTION, EXPECTED = "graph.pb", "slimnets.json", "expected.npz"
CALIBRATION, INPUTS, OUTPUTS = "calibration", "inputs", "outputs"


class Request(NamedTuple):
    """The arguments of ``export``, checked as far as is possible without the network."""

    checkpoint: str | Path
    end_points: str | Sequence[str] | None
    format: str
    input: str
    batch: int | None
    dtype: str
    calibration: Calibration | None
    labels: str | Path | None
    options: "ExtractorOptions"


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


def joined(batches: Sequence[Mapping[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """Returns the rows of all batches, by the names of the outputs."""
    return {name: np.concatenate([batch[name] for batch in batches]) for name in batches[0]}
