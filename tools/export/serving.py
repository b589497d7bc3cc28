"""Builds the graph that an export writes: from images to named outputs, with the preprocessing inside."""

from collections.abc import Sequence
from typing import NamedTuple

import tensorflow as tf

from nets.preprocessing import preprocess
from tools.engines.tensors import TensorInfo
from tools.errors import InputError
from tools.export.description import CLASSES, PREDICTIONS
from tools.features import FeatureExtractor
from tools.runtime.freezing import import_unchanged

__all__ = ["ServingGraph", "serving_graph"]

v1 = tf.compat.v1

# Number of most probable classes.
_TOP = 5


class ServingGraph(NamedTuple):
    """A graph with the weights as constants.

    graph_def: the graph.
    images: its input.
    outputs: its outputs.
    """

    graph_def: v1.GraphDef
    images: TensorInfo
    outputs: tuple[TensorInfo, ...]


def serving_graph(
    extractor: FeatureExtractor,
    points: Sequence[str],
    input: str,
    batch: int | None,
    labels: Sequence[str] | None,
    portable: bool,
) -> ServingGraph:
    """Builds the graph.

    Args:
      extractor: computes the end points, and 'predictions' if ``points`` has 'classes'.
      points: names or aliases of end points; 'classes' stands for the outputs 'classes', 'probabilities' and, with
        ``labels``, 'labels', each [N, 5] for the five most probable classes.
      input: 'pixels' for uint8 [N, height, width, 3], 'encoded' for bytes of files [N], 'network' for the network's
        input.
      batch: number of images; None for any.
      labels: names of the classes, for the output 'labels'.
      portable: whether the preprocessing must do with ops that other runtimes have.

    Raises:
      InputError: if there is no way from pixels to the network's input.
      ValueError: if a graph cannot hold the weights.
    """
    frozen = extractor.frozen()
    with tf.Graph().as_default() as graph:
        images, batched = _input(extractor, input, batch, portable)
        tensors = import_unchanged(frozen.graph_def, {frozen.images.name: batched}, list(frozen.outputs.values()))
        computed = dict(zip(frozen.outputs, tensors, strict=True))
        outputs: dict[str, tf.Tensor] = {}
        for point in points:
            if point == CLASSES:
                outputs |= _most_probable(computed[PREDICTIONS], labels)
            else:
                outputs[extractor.end_points[point].alias] = computed[point]
        named = [TensorInfo.of_tensor(name, tf.identity(tensor, name=name)) for name, tensor in outputs.items()]
    return ServingGraph(graph.as_graph_def(), TensorInfo.of_tensor("images", images), tuple(named))


def _input(extractor: FeatureExtractor, input: str, batch: int | None, portable: bool) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns the placeholder of the images, and the network's input that is computed from it."""
    name, size = extractor.preprocessing, extractor.image_size
    if input == "network":
        shape = [batch, *extractor.input_shape]
        images = v1.placeholder(tf.float32, shape, name="images")
        return images, images
    if name == "none":
        raise InputError(
            f"input={input!r} requires a preprocessing, and these weights have none: set preprocessing, or give the "
            "network's own input with input='network'."
        )
    if input == "pixels":
        images = v1.placeholder(tf.uint8, [batch, None, None, 3], name="images")
        return images, preprocess(images, name, size, portable=portable)
    images = v1.placeholder(tf.string, [batch], name="images")

    def read(encoded: tf.Tensor) -> tf.Tensor:
        # The exact inverse transform makes the same pixels as Pillow. The op reads PNG and GIF files too.
        pixels = tf.io.decode_jpeg(encoded, channels=3, dct_method="INTEGER_ACCURATE")
        return preprocess(pixels[tf.newaxis], name, size)[0]

    return images, tf.map_fn(read, images, fn_output_signature=tf.float32)


def _most_probable(predictions: tf.Tensor, labels: Sequence[str] | None) -> dict[str, tf.Tensor]:
    """Returns the most probable classes, their probabilities and their labels, each [N, 5] or fewer columns."""
    top = tf.math.top_k(predictions, min(_TOP, predictions.shape[-1]))
    outputs = {CLASSES: top.indices, "probabilities": top.values}
    return outputs | ({} if labels is None else {"labels": tf.gather(tf.constant(list(labels)), top.indices)})
