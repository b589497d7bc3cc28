"""Determines the kind of a file to write by its name, checks that it can be written, and clears its place."""

import os
import re
from collections.abc import Collection, Sequence
from pathlib import Path

from checkpoints.files.writer import FORMATS, files_called

__all__ = ["KINDS_BY_ENDING", "check_target", "remove_older", "target_kind"]

# Ending of a file → its kind. Any other name is a checkpoint's.
KINDS_BY_ENDING = {".npz": "npz", ".safetensors": "safetensors", ".keras": "keras", ".pth": "torch", ".pt": "torch"}
_NAMES = ("slim", "torchvision")

# Endings that a checkpoint's name must not have: weights and models, archives, tables, texts, images.
_OTHERS = frozenset().union(
    ("bin", "caffemodel", "coreml", "engine", "ggml", "gguf", "jit", "joblib", "mar", "mat", "mlir", "mlmodel"),
    ("mlpackage", "msgpack", "nnef", "npy", "onnx", "ort", "params", "pb", "pbtxt", "pdparams", "pickle", "pkl"),
    ("plan", "prototxt", "pt2", "ptl", "t7", "tflite", "tfrecord", "th", "torch", "torchscript", "trt", "uff"),
    ("7z", "bz2", "gz", "rar", "tar", "tgz", "xz", "zip", "zst"),
    ("arrow", "csv", "feather", "html", "json", "jsonl", "log", "md", "parquet", "toml", "tsv", "txt", "xml", "yaml"),
    ("bmp", "gif", "jpeg", "jpg", "png", "tif", "tiff", "webp", "yml"),
)
# Keras' files until 2023: slimnets reads them, and does not write them.
_HDF5 = frozenset(("h5", "hdf", "hdf5"))
# Names of formats, refused if the target's name is nothing else.
_FORMATS = frozenset().union(
    *(_OTHERS, _HDF5, (ending.removeprefix(".") for ending in KINDS_BY_ENDING)),
    ("frozen", "graph", "graphdef", "numpy", "openvino", "pytorch", "tensorrt", "tfjs", "torchvision"),
)
# Names and endings of models, which are written by exporting.
_MODELS = frozenset(("frozen", "graph", "graphdef", "onnx", "openvino", "pb", "tflite", "xml"))
# Refused at the end of a name: a SavedModel is a folder, and a frozen graph may lack the ending .pb.
_FOLDERS_AND_GRAPHS = re.compile(r"(saved_?model|frozen_?(inference_?)?graph(_?def)?)$")


def target_kind(target: str | Path, format: str | None, names: str | None) -> str:
    """Returns the kind of file that a target's name stands for, one of ``checkpoints.frameworks.read.KINDS``.

    Args:
      target: the target as the user gave it.
      format, names: as for ``convert``.

    Raises:
      ValueError: for the name of a file that cannot be written, or arguments that do not apply to it.
    """
    path = Path(target)
    suffix = path.suffix.lower().rstrip()
    _check_name(target, path, suffix)
    kind = KINDS_BY_ENDING.get(suffix, "slim")
    if format is not None and kind != "slim":
        raise ValueError(
            f"format={format!r} applies only to checkpoints, and {path} is not one by its ending: omit it."
        )
    if format not in (None, *FORMATS):
        raise ValueError(f"format must be one of {', '.join(FORMATS)}, but is {format!r}.")
    if names not in (None, *_NAMES):
        raise ValueError(f"names must be one of {', '.join(_NAMES)}, but is {names!r}.")
    if names is not None and kind != "safetensors":
        raise ValueError(f"names={names!r} applies only to .safetensors files, and {path} is not one: omit it.")
    return "torch" if names == "torchvision" else kind


def _check_name(target: str | Path, path: Path, suffix: str) -> None:
    """Raises ValueError for the name of a folder, or of a kind of file that slimnets does not write."""
    if not str(target).strip():
        raise ValueError("The target's name is empty: give the name of a file, such as name.ckpt.")
    if str(target).endswith(("/", os.sep)):
        raise ValueError(f"{target} is the name of a folder: give the name of a file in it, such as {path}/model.ckpt.")
    if "\0" in str(target):
        raise ValueError(f"The target {str(target)!r} has a zero byte in its name: give another name.")
    ending, name = suffix.removeprefix("."), path.name.lower().strip(". ")
    if path.name != path.name.strip():
        raise ValueError(f"The target {str(target)!r} begins or ends in a space: give a name without it.")
    if ending in _HDF5:
        raise ValueError(f"{path} would be one of Keras' files until 2023: call it {path.stem}.keras.")
    if suffix == ".index" or suffix == ".meta" or ".data-" in path.name:
        raise ValueError(
            f"{path} is the name of one of a checkpoint's files: give the part that all their names share."
        )
    if ending in _OTHERS or name in _FORMATS or name == "checkpoint" or _FOLDERS_AND_GRAPHS.search(name):
        is_model = {ending, name} & _MODELS or _FOLDERS_AND_GRAPHS.search(name)
        export = "; `slimnets export` writes .pb, .tflite, .onnx, .xml and SavedModels" if is_model else ""
        raise ValueError(
            f"{path} is a name for another kind of file: give a name that ends in "
            f"{', '.join(KINDS_BY_ENDING)}, or {_as_checkpoint(path)} for a checkpoint{export}."
        )


def _as_checkpoint(path: Path) -> str:
    """Returns a similar name for a checkpoint."""
    stem = path.stem.strip(". ")
    return f"{stem if stem and stem.lower() != 'checkpoint' else 'model'}.ckpt"


def check_target(target: Path, files: Sequence[Path], overwrite: bool) -> None:
    """Raises OSError if the files of a target cannot be created, or would replace others."""
    folder = target.absolute().parent
    try:
        if not folder.is_dir():
            raise FileNotFoundError(f"There is no folder {folder} for {target.name}: create it.")
        if target.is_dir():
            raise FileExistsError(f"{target} is a folder: give the name of a file in it.")
        # A checkpoint of the other format would be read in place of this one, or the reverse.
        others = files_called(target) - {*files}
        there = [file for file in (*files, *sorted(others)) if os.path.lexists(file)]
    except OSError as error:
        if error.errno is None:
            raise  # one of the errors above
        raise OSError(f"{target} cannot be written ({error.strerror}): give another place or name.") from error
    if there and not overwrite:
        raise FileExistsError(f"{there[0]} exists: give another name, or overwrite=True.")
    if strange := [file for file in there if file.is_symlink() or not file.is_file()]:
        raise FileExistsError(f"{strange[0]} is not a plain file, and is not replaced: give another name.")


def remove_older(target: Path, written: Collection[Path]) -> None:
    """Removes the rest of an overwritten target: a checkpoint of the other format or with more parts, and notes.

    Args:
      target: path of the new weights.
      written: the new files, notes included.
    """
    for file in files_called(target) - {*written}:
        file.unlink(missing_ok=True)
