"""Writes checkpoints from values by name, in either of TensorFlow's formats."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import tensorflow as tf

from checkpoints.files.finding import data_files
from checkpoints.files.notes import notes_file

__all__ = ["FORMATS", "checkpoint_files", "files_called", "write_checkpoint"]

FORMATS = ("V1", "V2")

# Types that the older format can hold.
_OF_V1 = (
    *(tf.float32, tf.float64, tf.float16, tf.complex64, tf.complex128, tf.bool),
    *(tf.int8, tf.int16, tf.int32, tf.int64, tf.uint8, tf.uint16),
)

v1 = tf.compat.v1


def write_checkpoint(prefix: str | Path, values: Mapping[str, np.ndarray], format: str = "V2") -> list[Path]:
    """Writes values as a ``tf.compat.v1.train.Saver`` would, without variables.

    Args:
      prefix: the V1 file, or the V2 files' common name.
      values: values by name; at least one.
      format: 'V1' or 'V2'.

    Returns:
      The files, with the one that the others depend on last.

    Raises:
      ValueError: for another format, no values, or a name or type that the format cannot hold.
      OSError: if a file cannot be written.
    """
    if format not in FORMATS:
        raise ValueError(f"The format of a checkpoint is V1 or V2, and not {format!r}.")
    if not values:
        raise ValueError("A checkpoint needs at least one variable.")
    names = list(values)
    if strange := [text for text in (str(prefix), *names) if not _is_text(text)]:
        raise ValueError(f"TensorFlow cannot write {strange[0]!a}, which is not UTF-8: give another place or name.")
    if "" in names:
        raise ValueError("A checkpoint cannot hold a variable without a name: leave it out, exclude=[''].")
    on_cpu = v1.ConfigProto(device_count={"GPU": 0})
    with tf.Graph().as_default(), v1.Session(config=on_cpu) as session:
        feeds = {_placeholder(name, value, format): value for name, value in values.items()}
        if format == "V1":
            save = tf.raw_ops.Save(filename=str(prefix), tensor_names=names, data=list(feeds))
        else:
            slices = [""] * len(names)
            save = tf.raw_ops.SaveV2(
                prefix=str(prefix), tensor_names=names, shape_and_slices=slices, tensors=list(feeds)
            )
        try:
            session.run(save, feeds)
            session.run(tf.no_op())  # TensorFlow keeps what was fed until the next run
        except tf.errors.OpError as error:
            raise OSError(f"{Path(prefix).name} cannot be written ({_reason(error)}): is there space?") from error
    return checkpoint_files(prefix, format)


def _is_text(name: str) -> bool:
    """Returns whether a name is valid UTF-8, which a path from the file system need not be."""
    return name.encode(errors="replace").decode() == name


def _placeholder(name: str, value: np.ndarray, format: str) -> tf.Tensor:
    try:
        dtype = tf.as_dtype(value.dtype)
    except TypeError:
        dtype = None
    if dtype is None or (format == "V1" and dtype not in _OF_V1):
        raise ValueError(
            f"A checkpoint of format {format} cannot hold {name}, which is {value.dtype.name}: leave it out, "
            f"exclude=[{name!r}]{', or take V2' if dtype else ''}."
        )
    return v1.placeholder(dtype, value.shape)


def _reason(error: tf.errors.OpError) -> str:
    """Returns what went wrong, without TensorFlow's account of the place in the graph."""
    lines = [line.strip() for line in error.message.splitlines() if line.strip()]
    about = ("Graph execution", "Detected at", "File ", "[[", "Node:", "Hint:")
    told = [line for line in lines if not line.startswith(about)]
    # An error of the file system begins with the name of a temporary file.
    return told[-1].rpartition("; ")[2] if told else type(error).__name__


def checkpoint_files(prefix: str | Path, format: str) -> list[Path]:
    """Returns the files that ``write_checkpoint`` writes."""
    if format == "V1":
        return [Path(prefix)]
    return [Path(f"{prefix}.data-00000-of-00001"), Path(f"{prefix}.index")]


def files_called(path: str | Path) -> set[Path]:
    """Returns all files, existing or not, that weights of that name may use: both formats, any parts, and the notes."""
    path = Path(path)
    written = (file for format in FORMATS for file in checkpoint_files(path, format))
    return {*written, *data_files(path), notes_file(path)}
