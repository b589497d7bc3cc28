"""The network in Keras' layers, called by a ``tf.function``: Keras' fastest way without special settings."""

import numpy as np

from tools.errors import PeerError
from tools.peers.problem import Prepared, Problem
from tools.runtime.importing import import_tensorflow

import_tensorflow()

import keras  # noqa: E402
import tensorflow as tf  # noqa: E402
from keras import KerasTensor, layers  # noqa: E402

from tools.peers.layer_list import Layer, layers_of, same_padding  # noqa: E402

__all__ = ["build_model", "prepare"]


def prepare(problem: Problem, name: str) -> Prepared:
    """Builds the network in Keras, on TensorFlow's devices.

    Raises:
      PeerError: if Keras uses another backend, or a layer of the network is not translated.
    """
    if keras.backend.backend() != "tensorflow":
        raise PeerError(
            f"Keras uses {keras.backend.backend()}, but is compared on TensorFlow: set KERAS_BACKEND=tensorflow."
        )
    tf.config.threading.set_intra_op_parallelism_threads(problem.threads)
    tf.config.threading.set_inter_op_parallelism_threads(problem.threads)
    model = build_model(layers_of(problem.graph_def(), problem.images_name, problem.output_name))
    images = tf.constant(problem.images())
    # The images are an argument, so that the function cannot compute with them when it is traced.
    compute = tf.function(lambda given: model(given, training=False))

    def step() -> np.ndarray:
        return compute(images).numpy()

    return Prepared(step, step(), f"{keras.__version__}, TensorFlow {tf.__version__}")


def build_model(listed: list[Layer]) -> keras.Model:
    """Returns a functional model of the layers and their weights, from images to the last layer's outputs."""
    tensors: dict[str, KerasTensor] = {}
    for layer in listed:
        tensors[layer.name] = _apply(layer, [tensors[name] for name in layer.inputs])
    return keras.Model(tensors[listed[0].name], tensors[listed[-1].name])


def _apply(layer: Layer, inputs: list[KerasTensor]) -> KerasTensor:
    attributes, weights = layer.attributes, layer.weights
    match layer.kind:
        case "input":
            return keras.Input(batch_shape=attributes["shape"])
        case "add":
            return layers.Add()(inputs)
        case "conv" | "max_pool":
            return _windowed(layer, *inputs)
        case "pad":
            return _padded(*inputs, attributes["padding"], attributes["channels"])
        case "batch_norm":
            made = layers.BatchNormalization(epsilon=attributes["epsilon"])
            return _with_weights(made, [weights[key] for key in ("gamma", "beta", "mean", "variance")], *inputs)
        case "dense":
            made = layers.Dense(weights["kernel"].shape[-1], use_bias="bias" in weights)
            return _with_weights(made, list(weights.values()), *inputs)
    made = {
        "average_pool": lambda: layers.AveragePooling2D(attributes["size"], attributes["strides"]),
        "flatten": layers.Flatten,
        "global_mean": lambda: layers.GlobalAveragePooling2D(keepdims=attributes["keep_dims"]),
        "leaky_relu": lambda: layers.LeakyReLU(negative_slope=attributes["slope"]),
        "relu": layers.ReLU,
        "sigmoid": lambda: layers.Activation("sigmoid"),
        "softmax": layers.Softmax,
    }
    if layer.kind not in made:
        raise PeerError(f"{layer.name} is a layer {layer.kind!r}, which is not translated to Keras.")
    return made[layer.kind]()(*inputs)


def _windowed(layer: Layer, inputs: KerasTensor) -> KerasTensor:
    """Applies a convolution or max pooling, after a padding layer if Keras has no name for its padding."""
    attributes, kernel = layer.attributes, layer.weights.get("kernel")
    size, strides, padding = attributes.get("size"), attributes["strides"], attributes["padding"]
    size = kernel.shape[:2] if size is None else size
    same = tuple(same_padding(*axis) for axis in zip(inputs.shape[1:3], size, strides, strict=True))
    word = "valid" if not any(map(any, padding)) else "same" if padding == same else None
    if layer.kind == "max_pool":
        if word is None:
            inputs = keras.ops.pad(inputs, [[0, 0], *padding, [0, 0]], constant_values=-np.inf)
        return layers.MaxPooling2D(size, strides, padding=word or "valid")(inputs)
    if word is None:
        inputs = layers.ZeroPadding2D(padding)(inputs)
    made = layers.Conv2D(kernel.shape[-1], size, strides, padding=word or "valid", use_bias="bias" in layer.weights)
    return _with_weights(made, list(layer.weights.values()), inputs)


def _padded(inputs: KerasTensor, padding: tuple[tuple[int, int], ...], channels: tuple[int, int]) -> KerasTensor:
    """Pads with zeros: height and width by a layer of Keras, channels by an op, because Keras has no layer for them."""
    if any(map(any, padding)):
        inputs = layers.ZeroPadding2D(padding)(inputs)
    return keras.ops.pad(inputs, [[0, 0], [0, 0], [0, 0], channels]) if any(channels) else inputs


def _with_weights(made: keras.Layer, weights: list[np.ndarray], inputs: KerasTensor) -> KerasTensor:
    outputs = made(inputs)
    made.set_weights(weights)
    return outputs
