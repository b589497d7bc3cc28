"""Finds the batch norms of a graph in training mode, and the statistics of the batch that each one computes.

    logits, _ = nets_factory.get_network_fn("resnet_v2_50", 1001, is_training=True)(images)
    for norm in batch_norms(tf.get_default_graph()):
        print(norm.scope, norm.mean, norm.variance)  # two tensors [channels]

The moving statistics that training stores are averages of these, except that a fused op averages the variance of the
sample. Here every variance is that of the population.
"""

from typing import NamedTuple

import tensorflow as tf

__all__ = ["BatchNorm", "batch_norms"]

v1 = tf.compat.v1

_SUBTRACTIONS = ("AssignSub", "AssignSubVariableOp")
_MEAN, _VARIANCE = "moving_mean", "moving_variance"
# Type of the last operation of tf.nn.moments, which removes the axes of size 1.
_MOMENTS = "Squeeze"


class BatchNorm(NamedTuple):
    """One batch norm in training mode.

    moving_mean, moving_variance: names of the variables that inference normalizes by.
    mean, variance: mean and variance of the layer's input over the batch and all positions, float32 [channels]. The
      variance is that of the population: the mean square of the deviations.
    """

    moving_mean: str
    moving_variance: str
    mean: tf.Tensor
    variance: tf.Tensor

    @property
    def scope(self) -> str:
        """The variable scope of the layer."""
        return self.moving_mean.rpartition("/")[0]


def batch_norms(graph: tf.Graph) -> list[BatchNorm]:
    """Returns the batch norms in training mode whose updates are in the collection UPDATE_OPS, in graph order.

    They may come from ``nets`` or from tf_slim, fused or of separate ops, under any scope. A fused one gets a few ops
    that correct its variance.

    Raises:
      ValueError: for a batch norm whose mode is a tensor.
    """
    averages = [found for update in graph.get_collection(v1.GraphKeys.UPDATE_OPS) if (found := _average(update))]
    # Every batch norm adds its two updates one after the other.
    pairs = zip(averages[::2], averages[1::2], strict=True)
    with graph.as_default(), v1.name_scope("batch_statistics"):
        return [_batch_norm(*mean, *variance) for mean, variance in pairs]


def _average(update: tf.Operation | tf.Tensor) -> tuple[str, tf.Tensor] | None:
    """Returns the name of a moving statistic and the value that an update averages into it; None for other updates.

    The update is ``moving -= (moving - value) * (1 - decay)``.
    """
    op = update if isinstance(update, tf.Operation) else update.op
    if op.type not in _SUBTRACTIONS:
        return None
    variable, change = op.inputs
    name = variable.op.name
    if name.rpartition("/")[2] not in (_MEAN, _VARIANCE) or change.op.type != "Mul":
        return None
    difference = change.op.inputs[0].op
    return (name, difference.inputs[1]) if difference.type == "Sub" else None


def _batch_norm(moving_mean: str, mean: tf.Tensor, moving_variance: str, variance: tf.Tensor) -> BatchNorm:
    source = variance.op
    if source.type.startswith("FusedBatchNorm"):
        variance = variance * _population_share(source.inputs[0])
    elif source.type != _MOMENTS:
        raise ValueError(
            f"The mode of the batch norm of {moving_mean} is a tensor: build the network with is_training=True."
        )
    return BatchNorm(moving_mean, moving_variance, mean, variance)


def _population_share(images: tf.Tensor) -> tf.Tensor:
    """Returns the variance of the population divided by the one that the fused op returns for ``images``.

    The op divides the sum of n squares by n - 1 instead of n, or by 1 if n is 1.
    """
    count = tf.cast(tf.reduce_prod(tf.shape(images)[:3]), tf.float32)
    return tf.maximum(count - 1, 1) / count
