"""The names of the end points that an extractor computes, and the tensors that it computes for them."""

import collections
from collections.abc import Sequence

import tensorflow as tf

__all__ = ["POOLS", "checked", "reduced"]

# How the height and width of an end point are reduced.
POOLS = {"none": None, "mean": tf.reduce_mean, "max": tf.reduce_max}


def checked(end_points: str | Sequence[str] | None, batch_size: int, pool: str) -> list[str]:
    """Returns the names of the end points, none for None. Raises ValueError for arguments that cannot be honoured."""
    names = [end_points] if isinstance(end_points, str) else list(end_points or [])
    if not names and end_points is not None:
        raise ValueError(f"end_points must be a list of at least one name, and is {names!r}.")
    if repeated := [name for name, count in collections.Counter(names).items() if count > 1]:
        raise ValueError(f"end_points names {repeated[0]!r} more than once.")
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, and is {batch_size}.")
    if pool not in POOLS:
        raise ValueError(f"pool must be one of {', '.join(POOLS)}, and is {pool!r}.")
    return names


def reduced(tensor: tf.Tensor, pool: str) -> tf.Tensor:
    """Returns an end point as float32, pooled, and without axes of size 1x1."""
    if tensor.shape.rank == 4:
        if POOLS[pool] is not None:
            # Pooled in float32, whatever the precision of the network.
            tensor = POOLS[pool](tf.cast(tensor, tf.float32), axis=[1, 2])
        elif tensor.shape.as_list()[1:3] == [1, 1]:
            tensor = tf.squeeze(tensor, [1, 2])
    return tf.cast(tensor, tf.float32)
