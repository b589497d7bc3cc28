"""Exports a checkpoint's network to a file for another runtime, and proves the file before it takes its place.

One process after the other restores the network, writes the file and runs it. This one imports no TensorFlow for that,
so that its memory does not add to theirs.
"""

import tempfile
from collections.abc import Callable, Sequence
from numbers import Integral
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Unpack

import numpy as np

from checkpoints.files import notes_file
from tools.engines.tensors import TensorInfo
from tools.errors import InputError
from tools.export.calibration import Calibration
from tools.export.description import Description
from tools.export.formats import Format, format_of, missing_packages
from tools.export.proof import MIN_COSINE, Agreement, check_file, default_tolerance
from tools.export.staging import DESCRIPTION, Request
from tools.export.targets import appearing, check_target, described_file, files_of, weights_file
from tools.export.worker import run_preparation, run_worker
from tools.runtime.machine import release_memory

if TYPE_CHECKING:
    from tools.features.network_choice import ExtractorOptions

__all__ = ["Export", "export"]

_INPUTS = ("pixels", "encoded", "network")
_DTYPES = ("float32", "float16", "int8")

# The arguments of ``FeatureExtractor`` that determine only how it computes.
_UNUSED = {"engine", "engine_dir", "engine_model", "freeze", "precision"}


class Export(NamedTuple):
    """The result of an export.

    target: path of the file or folder.
    files: all files that belong to it, relative to its folder, with their sizes in bytes.
    description: input, outputs, and where the weights come from.
    agreements: how well each output agrees with our network.
    tolerance: upper bound of the differences; None for int8.
    min_cosine: lower bound of the cosines; None unless for int8.
    usage: lines of Python that load and call it.
    """

    target: str
    files: dict[str, int]
    description: Description
    agreements: tuple[Agreement, ...]
    tolerance: float | None
    min_cosine: float | None
    usage: str

    def record(self) -> dict[str, Any]:
        """Returns the result for JSON."""
        return self._asdict() | {
            "description": self.description.record(),
            "agreements": [agreement._asdict() for agreement in self.agreements],
        }


def export(
    checkpoint: str | Path,
    target: str | Path,
    *,
    format: str | None = None,
    end_points: str | Sequence[str] | None = None,
    input: str | None = None,
    batch: int | None = None,
    dtype: str = "float32",
    calibrate: Any = None,
    tolerance: float | None = None,
    min_cosine: float | None = None,
    labels: str | Path | None = None,
    overwrite: bool = False,
    advance: Callable[[int], None] = lambda count: None,
    **options: "Unpack[ExtractorOptions]",
) -> Export:
    """Writes a network as a file that its own runtime computes with, without slimnets.

    The file is written under another name, run by its runtime in another process on eight real pictures, and compared
    with our network from pixels to outputs. It appears only if all outputs agree.

    Args:
      checkpoint: a path or a key, as for ``FeatureExtractor``.
      target: a ``.pb``, ``.tflite``, ``.onnx``, ``.xml`` or ``.keras`` file, or a folder for a SavedModel.
      format: 'saved_model', 'pb', 'tflite', 'onnx', 'openvino' or 'keras'; None for the one of the target's ending.
      end_points: names or aliases of the outputs; 'classes' for the five most probable classes, their probabilities
        and, in a SavedModel or a frozen graph, their labels. None for 'global_pool' and 'predictions', as far as the
        network has them.
      input: 'pixels' for uint8 [N, height, width, 3] of any size; 'encoded' for the bytes of JPEG, PNG and GIF files
        [N]; 'network' for the network's input, which the caller preprocesses. None for 'pixels', or 'network' for a
        Keras model.
      batch: number of images in a batch; None for any, and for one with OpenVINO's int8.
      dtype: 'float32'; 'float16' for weights of half the size; 'int8' for weights and activations of a quarter.
      calibrate: images from which int8 ranges are taken, as for ``tools.images.open_inputs``.
      tolerance: for float32 and float16, upper bound of the largest difference in an output, relative to its largest
        value; None for 1e-4 and 0.01, and 1e-3 with torchvision's preprocessing outside of TensorFlow.
      min_cosine: for int8, lower bound of the mean cosine between each output and the network's own, after the mean
        over the images has been taken from both; None for 0.95.
      labels: file with the names of the classes, one a line; None for those of the checkpoint's notes, or ImageNet's.
      overwrite: whether to replace an existing target.
      advance: called with 1 after each of three steps: the network is restored, written, and proved.
      **options: the other arguments of ``FeatureExtractor`` that determine the network and its input.

    Raises:
      CheckpointError: if the checkpoint cannot be read, or does not fit the network.
      InputError: for arguments that cannot be honoured, or a file that does not compute the network's outputs.
      ModuleNotFoundError: if a package that the format requires is not installed.
      OSError: if the target exists, or cannot be written.
      UnknownEndPointError: for an end point that the network does not have.
      ValueError: for arguments of ``FeatureExtractor`` that cannot be honoured.
    """
    if unused := sorted(_UNUSED & options.keys()):
        raise ValueError(f"{unused[0]} does not apply to an export, which holds the network itself: omit it.")
    made = format_of(target, format)
    input = input or made.inputs[0]
    _check(made, input, batch, dtype, calibrate)
    if dtype == "int8" and batch is None:
        batch = made.int8_batch
    tolerance, min_cosine = _bounds(dtype, tolerance, min_cosine)
    target = Path(target)
    check_target(made, target, overwrite)
    calibration = Calibration.of(calibrate) if dtype == "int8" else None
    request = Request(checkpoint, end_points, made.name, input, batch, dtype, calibration, labels, options)
    with tempfile.TemporaryDirectory() as folder:
        staged = Path(folder)
        run_preparation(request, staged)
        del request, calibration
        release_memory()  # for the other processes
        description = Description.load(staged / DESCRIPTION)
        if tolerance is None and min_cosine is None:
            tolerance = default_tolerance(description, portable=made.portable)
        advance(1)
        with appearing(made, target, overwrite) as written:
            run_worker("write", staged, written)
            advance(1)
            agreements = check_file(description, staged, written, tolerance, min_cosine)
            advance(1)
            description.save(notes_file(described_file(made, written)), weights_file(made, written))
    return Export(
        target=str(target),
        files={str(file.relative_to(target.parent)): file.stat().st_size for file in files_of(made, target)},
        description=description,
        agreements=tuple(agreements),
        tolerance=tolerance,
        min_cosine=min_cosine,
        usage=_usage(made, target, description),
    )


def _check(made: Format, input: str, batch: int | None, dtype: str, calibrate: Any) -> None:
    """Raises an error for arguments that the format cannot honour."""
    if input not in _INPUTS:
        raise InputError(f"input must be one of {', '.join(_INPUTS)}, but is {input!r}.")
    if input not in made.inputs:
        raise InputError(
            f"The format {made.name} cannot have input={input!r}: use {' or '.join(map(repr, made.inputs))}."
        )
    if dtype not in _DTYPES:
        raise InputError(f"dtype must be one of {', '.join(_DTYPES)}, but is {dtype!r}.")
    if dtype not in made.dtypes:
        raise InputError(
            f"The format {made.name} cannot have dtype={dtype!r}: use {' or '.join(map(repr, made.dtypes))}."
        )
    if dtype == "int8" and calibrate is None:
        raise InputError("dtype='int8' requires images to take the ranges of values from: give calibrate=IMAGES.")
    if dtype != "int8" and calibrate is not None:
        raise InputError(f"calibrate applies only to dtype='int8', and dtype is {dtype!r}: omit it.")
    if batch is not None and (not isinstance(batch, Integral) or batch < 1):
        raise InputError(f"batch must be a whole number of at least 1, or None for any, but is {batch!r}.")
    if missing := missing_packages(made, dtype):
        raise ModuleNotFoundError(
            f"The format {made.name} requires {', '.join(missing)}: pip install 'slimnets[export]'.", name=missing[0]
        )


def _bounds(dtype: str, tolerance: float | None, min_cosine: float | None) -> tuple[float | None, float | None]:
    """Returns both bounds, of which int8 has the second and all others have the first; it may be None."""
    if dtype == "int8":
        if tolerance is not None:
            raise InputError("tolerance applies only to float32 and float16: give min_cosine=N for dtype='int8'.")
        if min_cosine is not None and not -1 <= min_cosine <= 1:
            raise InputError(f"min_cosine must be from -1 to 1, but is {min_cosine}.")
        return None, MIN_COSINE if min_cosine is None else min_cosine
    if min_cosine is not None:
        raise InputError(f"min_cosine applies only to dtype='int8': give tolerance=N for dtype={dtype!r}.")
    if tolerance is not None and not 0 < tolerance < np.inf:
        raise InputError(f"tolerance must be a positive number, but is {tolerance}.")
    return tolerance, None


def _usage(made: Format, target: Path, description: Description) -> str:
    outputs: Sequence[TensorInfo] = description.outputs
    return made.usage.format(
        target=str(target),
        images=description.images.name,
        tensor=description.images.tensor,
        tensors={output.name: output.tensor for output in outputs},
        names=[output.name for output in outputs],
    )
