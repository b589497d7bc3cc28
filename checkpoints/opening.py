"""Opens checkpoints: turns a path, a folder or a key of the catalog into a reader."""

import os
from pathlib import Path

from checkpoints.files import CheckpointReader, find_checkpoint
from checkpoints.published import resolve
from checkpoints.published.store import entry_at

__all__ = ["open_checkpoint", "reader_of"]


def open_checkpoint(path: str | os.PathLike[str], *, checkpoint_dir: str | Path | None = None) -> CheckpointReader:
    """Opens a checkpoint.

    Args:
      path: a V1 file; a V2 bundle's common name, or one of its files; a folder with a ``checkpoint`` file or with one
        checkpoint in it; a frozen graph, whose constants have the variables' names; a SavedModel's folder; or a key of
        the catalog of published weights. An existing path takes precedence over a key.
      checkpoint_dir: folder of the downloaded checkpoints; see ``checkpoints.published.store_folder``.

    Raises:
      CheckpointError: if there is no checkpoint, it is damaged, or it is a key whose weights are not downloaded.
      ValueError: if ``path`` is not a path.
    """
    if path is None:
        raise ValueError(
            "The checkpoint is None, which tf.train.latest_checkpoint returns for a folder without one: give a path."
        )
    if not isinstance(path, str | os.PathLike):
        raise ValueError(f"The checkpoint must be a path or a key of the catalog, and is {path!r}: give a string.")
    found = resolve(path, checkpoint_dir)
    # Downloads of earlier versions have no notes beside them.
    entry = entry_at(found, checkpoint_dir)
    return CheckpointReader(found, *find_checkpoint(found), entry.notes if entry else None)


def reader_of(checkpoint: str | os.PathLike[str] | CheckpointReader) -> CheckpointReader:
    """Returns a reader itself, and opens anything else as ``open_checkpoint`` does."""
    return checkpoint if isinstance(checkpoint, CheckpointReader) else open_checkpoint(checkpoint)
