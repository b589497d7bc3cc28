"""Checkpoints from values by name, in either of TensorFlow's formats."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import tensorflow as tf

__all__ = ["FORMATS", "checkpoint_files", "write_checkpoint"]

FORMATS = ("V1", "V2")

v1 = tf.compat.v1


def write_checkpoint(prefix: str | Path, values: Mapping[str, np.ndarray], format: str = "V2") -> list[Path]:
    """Writes values as a ``tf.compat.v1.train.Saver`` would, without variables.

    Args:
      prefix: the V1 file, or the V2 files' common name.
      values: by name; at least one.
      format: 'V1' or 'V2'.

    Returns:
      The files; the one that makes a checkpoint of them last.

    Raises:
      ValueError: for another format, or no values.
      OSError: if it cannot be written.
    """
    if format not in FORMATS:
        raise ValueError(f"The format of a checkpoint is V1 or V2, and not {format!r}.")
    if not values:
        raise ValueError("A checkpoint needs at least one variable.")
    names = list(values)
    on_cpu = v1.ConfigProto(device_count={"GPU": 0})
    with tf.Graph().as_default(), v1.Session(config=on_cpu) as session:
        feeds = {v1.placeholder(value.dtype, value.shape): value for value in values.values()}
        if format == "V1":
            save = tf.raw_ops.Save(filename=str(prefix), tensor_names=names, data=list(feeds))
        else:
            slices = [""] * len(names)
            save = tf.raw_ops.SaveV2(
                prefix=str(prefix), tensor_names=names, shape_and_slices=slices, tensors=list(feeds)
            )
        try:
            session.run(save, feeds)
            session.run(tf.no_op())  # TensorFlow holds on to what was fed until the next run
        except tf.errors.OpError as error:
            raise OSError(f"{prefix} cannot be written: {error.message.splitlines()[0]}") from error
    return checkpoint_files(prefix, format)


def checkpoint_files(prefix: str | Path, format: str) -> list[Path]:
    """The files that ``write_checkpoint`` writes."""
    if format == "V1":
        return [Path(prefix)]
    return [Path(f"{prefix}.data-00000-of-00001"), Path(f"{prefix}.index")]
