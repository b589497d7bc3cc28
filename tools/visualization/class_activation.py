"""The places of an image that speak for a class: Grad-CAM, and CAM.

Grad-CAM: Selvaraju et al., Grad-CAM: Visual Explanations from Deep Networks via Gradient-based Localization, ICCV 2017.
CAM: Zhou et al., Learning Deep Features for Discriminative Localization, CVPR 2016.
"""

import threading
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from nets.endpoint_info import UnknownEndPointError
from tools.errors import InputError
from tools.features import FeatureExtractor
from tools.images.given import arrays_or_inputs
from tools.visualization.inputs import input_batches

__all__ = ["ClassActivation", "ClassActivations", "cam", "grad_cam"]

v1 = tf.compat.v1

# Ops between a map and the logits that change no value, and that reduce height and width.
_UNCHANGED = {"Identity", "Reshape", "Squeeze"}
_POOLINGS = {"AvgPool", "Max", "MaxPool", "Mean"}

# Threads may share an extractor: only one of them adds the operations.
_ADDING = threading.Lock()


class ClassActivation(NamedTuple):
    """Where images speak for classes.

    heatmaps: float32 [N, rows, columns], of the size of the end point.
    inputs: float32 [N, height, width, channels], the network's input. A heat map covers the whole input.
    """

    heatmaps: np.ndarray
    inputs: np.ndarray


def grad_cam(
    extractor: FeatureExtractor,
    images: Any,
    classes: int | Sequence[int] | None = None,
    *,
    end_point: str | None = None,
) -> ClassActivation:
    """Computes Grad-CAM: ReLU(Σ_k a_k A^k), where a_k is the mean of the gradient of the class's logit by A^k.

    Args:
      extractor: any extractor of a network with logits that is not frozen, whatever its end points. The first call adds
        operations to its graph.
      images: as for a call of the extractor.
      classes: the class of all images, or one for each; None for the most probable one of each image.
      end_point: the activations A, by name or alias; None for the last map before the logits, as is usual.

    Returns:
      (heat maps, inputs). The heat maps are those of the formula, at least 0 and not scaled to 1.

    Raises:
      ImageError: if a file cannot be decoded.
      InputError: if there is no such class, the network has no logits, or the end point has no height and width or does
        not affect the logits.
      RuntimeError: if the extractor is closed.
      UnknownEndPointError: for an unknown end point.
      ValueError: if the network is frozen or a variable that it needs was excluded, or for anything but images.
    """
    return ClassActivations(extractor, end_point).of(images, classes)


def cam(extractor: FeatureExtractor, images: Any, classes: int | Sequence[int] | None = None) -> ClassActivation:
    """Computes CAM: Σ_k w_k A^k, where w_k are the class's weights of the logits on the pooled last map.

    For such a network, Grad-CAM is ReLU(CAM) divided by the number of places.

    Args:
      extractor, images, classes: as for ``grad_cam``.

    Returns:
      (heat maps, inputs). The heat maps may be negative where the image speaks against the class.

    Raises:
      InputError: as for ``grad_cam``, and if the logits are not a linear layer on the mean of a map.
      ImageError, RuntimeError, ValueError: as for ``grad_cam``.
    """
    return ClassActivations(extractor, None, weighted=True).of(images, classes)


class ClassActivations:
    """The operations in an extractor's graph that compute Grad-CAM, or CAM.

    Args:
      extractor, end_point: as for ``grad_cam``.
      weighted: whether to compute CAM.

    Raises:
      InputError, RuntimeError, UnknownEndPointError, ValueError: as for ``grad_cam`` and ``cam``.
    """

    def __init__(self, extractor: FeatureExtractor, end_point: str | None = None, *, weighted: bool = False) -> None:
        self._extractor = extractor
        # Kept in the graph, so that a second call does not add the operations again.
        key = f"slimnets/class_activation/{'cam' if weighted else end_point}"
        with _ADDING:
            kept = extractor.graph.get_collection(key)
            if not kept:
                logits = _logits(extractor)
                extractor.check_restored(logits)
                with extractor.graph.as_default():
                    kept = _cam(extractor, logits) if weighted else _grad_cam(extractor, logits, end_point)
                for tensor in kept:
                    extractor.graph.add_to_collection(key, tensor)
        self._chosen, self._logits, self._heatmaps = kept
        self.num_classes: int = self._logits.shape[-1]

    def of(self, images: Any, classes: int | Sequence[int] | None = None) -> ClassActivation:
        """Returns the heat maps of images, as ``grad_cam`` does."""
        given = arrays_or_inputs(images)
        numbers = None if classes is None else self._checked(classes, len(given))
        inputs = [np.empty([0, *self._extractor.input_shape], np.float32)]
        heatmaps = [np.empty([0, *self._heatmaps.shape[1:]], np.float32)]
        done = 0
        for batch in input_batches(self._extractor, given):
            chosen = None if numbers is None else numbers[done : done + len(batch)]
            heatmaps.append(self.of_inputs(batch, chosen))
            inputs.append(batch)
            done += len(batch)
        return ClassActivation(np.concatenate(heatmaps), np.concatenate(inputs))

    def logits(self, inputs: np.ndarray) -> np.ndarray:
        """Returns the logits [N, classes] of the network's input.

        Raises:
          ValueError: if they are not finite.
        """
        logits = self._extractor.session.run(self._logits, {self._extractor.images: inputs})
        if not np.isfinite(logits).all():
            raise ValueError(
                f"The logits of {self._extractor.reader.path} are not finite: check it with `slimnets inspect --check`."
            )
        return logits

    def of_inputs(self, inputs: np.ndarray, classes: np.ndarray | None = None) -> np.ndarray:
        """Returns the heat maps [N, rows, columns] of the network's input for classes [N]."""
        numbers = self.logits(inputs).argmax(axis=1) if classes is None else classes
        chosen = np.zeros([len(inputs), self.num_classes], np.float32)
        chosen[np.arange(len(inputs)), numbers] = 1
        return self._extractor.session.run(self._heatmaps, {self._extractor.images: inputs, self._chosen: chosen})

    def _checked(self, classes: int | Sequence[int], count: int) -> np.ndarray:
        numbers = np.asarray(classes)
        if numbers.ndim > 1 or (numbers.size and not np.issubdtype(numbers.dtype, np.integer)):
            raise InputError(f"classes must be a whole number, or one for each image, and is {classes!r}.")
        if numbers.ndim and len(numbers) != count:
            raise InputError(f"There are {len(numbers)} classes for {count} images: give one for each, or one for all.")
        if wrong := [number for number in numbers.ravel().tolist() if not 0 <= number < self.num_classes]:
            raise InputError(
                f"There is no class {wrong[0]}: {self._extractor.net} has {self.num_classes}, numbered from 0."
            )
        return np.broadcast_to(numbers, [count])


def _logits(extractor: FeatureExtractor) -> tf.Tensor:
    try:
        logits = extractor.tensor("logits")
    except UnknownEndPointError:
        raise InputError(
            f"{extractor.net} has no logits, which class activation explains: give a checkpoint with its classes."
        ) from None
    if logits.shape.rank == 4 and logits.shape[1:3] != [1, 1]:
        raise InputError(f"The logits of {extractor.net} are a map themselves: look at the end point logits.")
    return logits


def is_map(tensor: tf.Tensor) -> bool:
    """Returns whether a tensor is [N, height, width, channels] with more than one place."""
    return tensor.shape.rank == 4 and tensor.shape[1:3] != [1, 1]


def _before_logits(logits: tf.Tensor) -> list[tf.Tensor]:
    """Returns the tensors from the logits back to the map that is pooled for them, or the last map, if none is."""
    tensors = [logits]
    while not is_map(tensors[-1]) and tensors[-1].op.inputs and tensors[-1].op.type not in _POOLINGS:
        tensors.append(tensors[-1].op.inputs[0])
    return [*tensors, tensors[-1].op.inputs[0]] if tensors[-1].op.type in _POOLINGS else tensors


def _last_map(extractor: FeatureExtractor, logits: tf.Tensor) -> tf.Tensor:
    """Returns the last map that the logits depend on: the one that is pooled, unless it has a single place."""
    pooled = _before_logits(logits)[-1]
    if is_map(pooled):
        return pooled
    for tensor in reversed(extractor.tensors().values()):
        if is_map(tensor) and _cuts(tensor, extractor.images, logits):
            return tensor
    raise InputError(f"{extractor.net} has no map before its logits: give an end point with height and width.")


def _cuts(tensor: tf.Tensor, images: tf.Tensor, logits: tf.Tensor) -> bool:
    """Returns whether all paths from the images to the logits lead through a tensor."""
    waiting, seen = [logits.op], {tensor.op}
    if logits.op is tensor.op:
        return False
    while waiting:
        op = waiting.pop()
        if op in seen:
            continue
        if op is images.op:
            return False
        seen.add(op)
        waiting += [source.op for source in op.inputs]
    return True


def _grad_cam(
    extractor: FeatureExtractor, logits: tf.Tensor, end_point: str | None
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Returns the placeholder of the chosen classes, the logits [N, classes] and the heat maps."""
    maps = _last_map(extractor, logits) if end_point is None else extractor.tensor(end_point)
    if not is_map(maps):
        raise InputError(
            f"The end point {end_point} of {extractor.net} is {_shape(maps)} and has no height and width: give a map."
        )
    flat = tf.reshape(tf.cast(logits, tf.float32), [-1, logits.shape[-1]])
    chosen = v1.placeholder(tf.float32, flat.shape, name="chosen_classes")
    (gradients,) = v1.gradients(flat, maps, grad_ys=chosen)
    if gradients is None:
        raise InputError(f"The logits of {extractor.net} do not depend on {end_point}: give an end point before them.")
    weights = tf.reduce_mean(tf.cast(gradients, tf.float32), [1, 2], keepdims=True)
    return chosen, flat, tf.nn.relu(tf.reduce_sum(weights * tf.cast(maps, tf.float32), axis=-1))


def _cam(extractor: FeatureExtractor, logits: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Returns the placeholder of the chosen classes, the logits [N, classes] and the heat maps."""
    *between, maps = _before_logits(logits)
    ops = [tensor.op for tensor in between if tensor.op.type not in _UNCHANGED]
    if ops and ops[0].type in ("Add", "AddV2", "BiasAdd"):
        ops = ops[1:]
    kinds = [op.type for op in ops]
    if kinds not in (["Conv2D", "Mean"], ["MatMul", "Mean"]) or ops[0].inputs[1].shape.num_elements() != (
        maps.shape[-1] * logits.shape[-1]
    ):
        raise InputError(
            f"CAM requires logits that are a linear layer on the mean of a map, and those of {extractor.net} are not: "
            "use Grad-CAM."
        )
    if not is_map(maps):
        raise InputError(
            f"The map that {extractor.net} pools has a single place at {extractor.image_size}: use Grad-CAM, or larger "
            "images."
        )
    flat = tf.reshape(tf.cast(logits, tf.float32), [-1, logits.shape[-1]])
    chosen = v1.placeholder(tf.float32, flat.shape, name="chosen_classes")
    kernel = tf.reshape(tf.cast(ops[0].inputs[1], tf.float32), [maps.shape[-1], logits.shape[-1]])
    weights = tf.matmul(chosen, kernel, transpose_b=True)[:, tf.newaxis, tf.newaxis]
    return chosen, flat, tf.reduce_sum(weights * tf.cast(maps, tf.float32), axis=-1)


def _shape(tensor: tf.Tensor) -> str:
    return "x".join("N" if size is None else str(size) for size in tensor.shape.as_list())
