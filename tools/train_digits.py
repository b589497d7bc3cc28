"""Trains the small network that ships with the repository: handwritten digits, in a few minutes on a CPU.

    python -m tools.train_digits --output checkpoints                 # what was published: five seeds, the median ships
    python -m tools.train_digits --output /tmp/digits --validation    # to choose the settings by

The data are the 1,797 scans of 8x8 pixels that scikit-learn packages: "Optical Recognition of Handwritten Digits",
E. Alpaydin and C. Kaynak, UCI Machine Learning Repository, CC BY 4.0. They come ordered by writer. The first 1,437
are for training and for choosing; the last 360, by other people, are only read to report on what was chosen.

Two classifiers are counted: the network's own, and a nearest neighbour on its features, the end point
``global_pool``, which knows the training pictures by heart.
"""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import scipy.ndimage
import tensorflow as tf
import tf_slim as slim
from sklearn import datasets

from nets import nets_factory, preprocessing

v1 = tf.compat.v1

NETWORK = nets_factory.get_network("resnet_v2_tiny")
CHECKPOINT_NAME = f"{NETWORK.name}_digits.ckpt"

TRAINING_PICTURES = 1437
# The end of the training pictures, as many as there are in a fifth: writers that the front part does not have.
VALIDATION_PICTURES = 287
SHEET_COLUMNS = 38


class Settings(NamedTuple):
    """How a network is trained; chosen on the validation pictures.

    epochs, batch_size: a remainder of an epoch that fills no batch is left out.
    learning_rate: at the start of a cosine decay to zero, which ``warmup_epochs`` of linear increase come before.
    momentum: Nesterov's.
    weight_decay, batch_norm_decay: of the network's arg scope.
    label_smoothing: share of the target that is spread over all classes.
    rotation, shear, scale, shift: largest random change: radians, tangent, share of the size, pixels.
    elastic: standard deviation of the random displacement of single pixels, in pixels.
    contrast: largest logarithm of the random exponent of the grey values, which makes strokes thicker or thinner.
    """

    epochs: int = 100
    batch_size: int = 64
    learning_rate: float = 0.1
    warmup_epochs: int = 5
    momentum: float = 0.9
    weight_decay: float = 5e-4
    batch_norm_decay: float = 0.97
    label_smoothing: float = 0.1
    rotation: float = 0.2
    shear: float = 0.2
    scale: float = 0.15
    shift: float = 0.8
    elastic: float = 0.3
    contrast: float = 0.3


class Pictures(NamedTuple):
    """Grey pictures, uint8 [count, 8, 8], and their digits, int64 [count]."""

    images: np.ndarray
    labels: np.ndarray


class Errors(NamedTuple):
    """How many pictures each classifier names wrongly."""

    nearest_neighbour: int
    network: int


def load_pictures() -> Pictures:
    """All 1,797 scans in the order of the file; their values 0 to 16 are spread over 0 to 255."""
    digits = datasets.load_digits()
    return Pictures(np.rint(digits.images * (255 / 16)).astype(np.uint8), digits.target.astype(np.int64))


def select(pictures: Pictures, start: int, stop: int) -> Pictures:
    """The pictures of the rows ``start`` up to ``stop``."""
    return Pictures(pictures.images[start:stop], pictures.labels[start:stop])


def distort(image: np.ndarray, settings: Settings, rng: np.random.Generator) -> np.ndarray:
    """A random affine and elastic distortion of one picture, and a random contrast.

    Args:
      image: uint8 [8, 8].
      settings: the largest changes.
      rng: the source of the random numbers.

    Returns:
      uint8 [8, 8].
    """
    uniform = rng.uniform
    angle, shear = uniform(-1, 1, 2) * (settings.rotation, settings.shear)
    scale = np.exp(uniform(-1, 1, 2) * settings.scale)
    rotation = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    matrix = rotation @ np.array([[1, 0], [shear, 1]]) @ np.diag(scale)
    centre = (np.array(image.shape) - 1) / 2
    grid = np.indices(image.shape) - centre[:, None, None]
    places = np.tensordot(matrix, grid, 1) + (centre + uniform(-1, 1, 2) * settings.shift)[:, None, None]
    # Displacements of 3x3 points, interpolated, so that neighbouring pixels move alike.
    coarse = rng.normal(0, settings.elastic, (2, 3, 3))
    places += scipy.ndimage.zoom(coarse, (1, image.shape[0] / 3, image.shape[1] / 3), order=1)
    # Cubic, since linear interpolation would blur strokes that are one pixel wide.
    moved = scipy.ndimage.map_coordinates(image / 255.0, places, order=3, mode="constant")
    exponent = np.exp(uniform(-1, 1) * settings.contrast)
    return np.rint(255 * np.clip(moved, 0, 1) ** exponent).astype(np.uint8)


def batches(pictures: Pictures, settings: Settings, rng: np.random.Generator) -> Iterator[Pictures]:
    """One epoch: batches of distorted pictures in random order."""
    order = rng.permutation(len(pictures.labels))
    for start in range(0, len(order) - settings.batch_size + 1, settings.batch_size):
        rows = order[start : start + settings.batch_size]
        images = np.stack([distort(image, settings, rng) for image in pictures.images[rows]])
        yield Pictures(images, pictures.labels[rows])


def network_inputs(images: tf.Tensor) -> tf.Tensor:
    """Grey pictures, uint8 [batch, 8, 8], as inputs of the network, float32 [batch, size, size, 3]."""
    colour = tf.repeat(images[..., None], 3, axis=3)
    return preprocessing.preprocess(colour, NETWORK.preprocessing, NETWORK.image_size)


def learning_rate(step: tf.Tensor, steps_per_epoch: int, settings: Settings) -> tf.Tensor:
    """The learning rate of a step: a linear warm-up, then a cosine to zero (arXiv:1608.03983)."""
    warmup = settings.warmup_epochs * steps_per_epoch
    total = settings.epochs * steps_per_epoch
    step = tf.cast(step, tf.float32)
    cosine = 0.5 * (1 + tf.cos(np.pi * (step - warmup) / (total - warmup)))
    return settings.learning_rate * tf.where(step < warmup, (step + 1) / warmup, cosine)


class TrainingGraph(NamedTuple):
    """What a training step feeds and fetches, and what is saved after the last."""

    images: tf.Tensor
    labels: tf.Tensor
    train: tf.Operation
    loss: tf.Tensor
    saver: v1.train.Saver


def build_training(steps_per_epoch: int, settings: Settings) -> TrainingGraph:
    """Builds the network in training mode, its loss and its optimizer in the current graph."""
    images = v1.placeholder(tf.uint8, [None, 8, 8], "images")
    labels = v1.placeholder(tf.int64, [None], "labels")
    scope = NETWORK.arg_scope(weight_decay=settings.weight_decay, batch_norm_decay=settings.batch_norm_decay)
    with slim.arg_scope(scope):
        logits, _ = NETWORK.builder(network_inputs(images), NETWORK.num_classes, is_training=True)
    targets = tf.one_hot(labels, NETWORK.num_classes)
    v1.losses.softmax_cross_entropy(targets, logits, label_smoothing=settings.label_smoothing)
    loss = v1.losses.get_total_loss()  # with the regularization losses
    step = v1.train.get_or_create_global_step()
    optimizer = v1.train.MomentumOptimizer(
        learning_rate(step, steps_per_epoch, settings), settings.momentum, use_nesterov=True
    )
    # The moving statistics of the batch norms are updated by no gradient.
    with tf.control_dependencies(v1.get_collection(v1.GraphKeys.UPDATE_OPS)):
        train = optimizer.minimize(loss, global_step=step)
    return TrainingGraph(images, labels, train, loss, v1.train.Saver(slim.get_model_variables()))


def train(pictures: Pictures, seed: int, checkpoint: Path, settings: Settings) -> None:
    """Trains a network on ``pictures`` and writes its model variables, and nothing else, to ``checkpoint``."""
    rng = np.random.default_rng(seed)
    with tf.Graph().as_default(), v1.Session() as session:
        v1.set_random_seed(seed)
        graph = build_training(len(pictures.labels) // settings.batch_size, settings)
        session.run(v1.global_variables_initializer())
        for epoch in range(1, settings.epochs + 1):
            losses = []
            for batch in batches(pictures, settings, rng):
                feed = {graph.images: batch.images, graph.labels: batch.labels}
                losses.append(session.run([graph.train, graph.loss], feed)[1])
            if epoch % 10 == 0 or epoch == settings.epochs:
                print(f"seed {seed}, epoch {epoch}: loss {np.mean(losses):.4f}", file=sys.stderr)
        graph.saver.save(session, str(checkpoint), write_meta_graph=False, write_state=False)


def predict(checkpoint: Path, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The features and logits of pictures, from a checkpoint.

    Args:
      checkpoint: as written by ``train``.
      images: uint8 [count, 8, 8].

    Returns:
      float32 [count, channels] and [count, 10].
    """
    with tf.Graph().as_default(), v1.Session() as session:
        with slim.arg_scope(NETWORK.arg_scope()):
            inputs = network_inputs(tf.constant(images))
            logits, end_points = NETWORK.builder(inputs, NETWORK.num_classes, is_training=False)
        v1.train.Saver(slim.get_model_variables()).restore(session, str(checkpoint))
        features = tf.squeeze(end_points["global_pool"], [1, 2])
        return session.run((features, logits))
