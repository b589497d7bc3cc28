"""Trains the small network that ships with the repository: handwritten digits, in a few minutes on a CPU.

    python -m tools.digits.train --output checkpoints                 # as published: five seeds, the median ships
    python -m tools.digits.train --output /tmp/digits --validation    # to choose the settings

The data are the 1,797 scans of 8x8 pixels that scikit-learn packages: "Optical Recognition of Handwritten Digits",
E. Alpaydin and C. Kaynak, UCI Machine Learning Repository, CC BY 4.0. They are ordered by writer. The first 1,437
are for training and for choosing settings. The last 360, by other people, are only used to report the results.

The script counts the errors of two classifiers: the network's own, and the nearest neighbour among the training images
by the features of the end point ``global_pool``.
"""

import argparse
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import tensorflow as tf
import tf_slim as slim
from PIL import Image

from checkpoints import note
from nets import guards, nets_factory, preprocessing
from tools.digits import errors, nearest

v1 = tf.compat.v1

NETWORK = nets_factory.get_network("resnet_v2_tiny")
CHECKPOINT_NAME = f"{NETWORK.name}_digits.ckpt"

TRAINING_IMAGES = 1437
# The last fifth of the training images, by writers of whom the rest has none.
VALIDATION_IMAGES = 287
SHEET_COLUMNS = 38


class Settings(NamedTuple):
    """The settings of the training, chosen on the validation images.

    epochs, batch_size: the rest of an epoch that does not fill a batch is dropped.
    learning_rate: at the start of a cosine decay to zero, after ``warmup_epochs`` of linear increase.
    momentum: Nesterov's.
    weight_decay, batch_norm_decay: of the network's arg scope.
    label_smoothing: share of the target that is spread over all classes.
    rotation, shear, scale, shift: largest random change, in radians, as a tangent, as a share of the size, in pixels.
    elastic: standard deviation of the random displacement of single pixels, in pixels.
    contrast: largest logarithm of the random exponent of the grey values, which makes strokes thicker or thinner.
    noise: standard deviation of the noise on grey values from 0 to 1.
    mixup: parameter of the Beta distribution of the shares of two mixed images (arXiv:1710.09412).
    """

    epochs: int = 150
    batch_size: int = 64
    learning_rate: float = 0.1
    warmup_epochs: int = 5
    momentum: float = 0.9
    weight_decay: float = 5e-3
    batch_norm_decay: float = 0.97
    label_smoothing: float = 0.1
    rotation: float = 0.1
    shear: float = 0.1
    scale: float = 0.1
    shift: float = 0.5
    elastic: float = 0.3
    contrast: float = 0.3
    noise: float = 0.05
    mixup: float = 0.2


class Scans(NamedTuple):
    """Grey images, uint8 [count, 8, 8], and their digits, int64 [count]."""

    images: np.ndarray
    labels: np.ndarray


class Errors(NamedTuple):
    """The number of errors of each classifier."""

    nearest_neighbour: int
    network: int


def load_scans() -> Scans:
    """Returns all 1,797 scans in the order of the file, with their values of 0 to 16 scaled to 0 to 255."""
    try:
        import scipy.ndimage  # noqa: F401
        from sklearn import datasets
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(f"{error.name} is not installed: pip install 'slimnets[train]'.") from None
    digits = datasets.load_digits()
    return Scans(np.rint(digits.images * (255 / 16)).astype(np.uint8), digits.target.astype(np.int64))


def select(scans: Scans, start: int, stop: int) -> Scans:
    """Returns the rows from ``start`` to ``stop``."""
    return Scans(scans.images[start:stop], scans.labels[start:stop])


def distort(image: np.ndarray, settings: Settings, rng: np.random.Generator) -> np.ndarray:
    """Returns an image with a random affine and elastic distortion, a random contrast, and noise.

    Args:
      image: uint8 [8, 8].
      settings: the largest changes.
      rng: the source of the random numbers.

    Returns:
      uint8 [8, 8].
    """
    import scipy.ndimage

    uniform = rng.uniform
    angle, shear = uniform(-1, 1, 2) * (settings.rotation, settings.shear)
    scale = np.exp(uniform(-1, 1, 2) * settings.scale)
    rotation = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    matrix = rotation @ np.array([[1, 0], [shear, 1]]) @ np.diag(scale)
    centre = (np.array(image.shape) - 1) / 2
    grid = np.indices(image.shape) - centre[:, None, None]
    places = np.tensordot(matrix, grid, 1) + (centre + uniform(-1, 1, 2) * settings.shift)[:, None, None]
    # Interpolated from 3x3 points, so that neighbouring pixels move together.
    coarse = rng.normal(0, settings.elastic, (2, 3, 3))
    places += scipy.ndimage.zoom(coarse, (1, image.shape[0] / 3, image.shape[1] / 3), order=1)
    # Cubic, because linear interpolation would blur strokes that are one pixel wide.
    moved = scipy.ndimage.map_coordinates(image / 255.0, places, order=3, mode="constant")
    exponent = np.exp(uniform(-1, 1) * settings.contrast)
    noisy = np.clip(moved, 0, 1) ** exponent + rng.normal(0, settings.noise, moved.shape)
    return np.rint(255 * np.clip(noisy, 0, 1)).astype(np.uint8)


def batches(scans: Scans, settings: Settings, rng: np.random.Generator) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yields one epoch in random order: batches of distorted images, each mixed with a little of another, and targets.

    Yields:
      uint8 [batch, 8, 8] and float32 [batch, 10].
    """
    order = rng.permutation(len(scans.labels))
    for start in range(0, len(order) - settings.batch_size + 1, settings.batch_size):
        rows = order[start : start + settings.batch_size]
        images = np.stack([distort(image, settings, rng) for image in scans.images[rows]])
        targets = np.eye(NETWORK.num_classes)[scans.labels[rows]]
        share = rng.beta(settings.mixup, settings.mixup, len(rows))
        share = np.maximum(share, 1 - share)[:, np.newaxis]
        other = rng.permutation(len(rows))
        images = images * share[..., np.newaxis] + images[other] * (1 - share[..., np.newaxis])
        targets = targets * share + targets[other] * (1 - share)
        yield np.rint(images).astype(np.uint8), targets.astype(np.float32)


def network_inputs(images: tf.Tensor) -> tf.Tensor:
    """Returns grey images, uint8 [batch, 8, 8], as inputs of the network, float32 [batch, size, size, 3]."""
    colour = tf.repeat(images[..., None], 3, axis=3)
    return preprocessing.preprocess(colour, NETWORK.preprocessing, NETWORK.image_size)


def learning_rate(step: tf.Tensor, steps_per_epoch: int, settings: Settings) -> tf.Tensor:
    """Returns the learning rate of a step: a linear warm-up, then a cosine to zero (arXiv:1608.03983)."""
    warmup = settings.warmup_epochs * steps_per_epoch
    total = settings.epochs * steps_per_epoch
    step = tf.cast(step, tf.float32)
    cosine = 0.5 * (1 + tf.cos(np.pi * (step - warmup) / (total - warmup)))
    return settings.learning_rate * tf.where(step < warmup, (step + 1) / warmup, cosine)


class TrainingGraph(NamedTuple):
    """The tensors that a training step feeds and fetches, and the saver of the trained variables."""

    images: tf.Tensor
    targets: tf.Tensor
    train: tf.Operation
    loss: tf.Tensor
    saver: v1.train.Saver


def build_training(steps_per_epoch: int, settings: Settings) -> TrainingGraph:
    """Builds the network in training mode, its loss and its optimizer in the current graph."""
    images = v1.placeholder(tf.uint8, [None, 8, 8], "images")
    targets = v1.placeholder(tf.float32, [None, NETWORK.num_classes], "targets")
    scope = NETWORK.arg_scope(weight_decay=settings.weight_decay, batch_norm_decay=settings.batch_norm_decay)
    with slim.arg_scope(scope):
        logits, _ = NETWORK.builder(network_inputs(images), NETWORK.num_classes, is_training=True)
    v1.losses.softmax_cross_entropy(targets, logits, label_smoothing=settings.label_smoothing)
    loss = v1.losses.get_total_loss()  # includes the regularization losses
    step = v1.train.get_or_create_global_step()
    optimizer = v1.train.MomentumOptimizer(
        learning_rate(step, steps_per_epoch, settings), settings.momentum, use_nesterov=True
    )
    # The moving statistics of the batch norms are not updated by gradients.
    with tf.control_dependencies(v1.get_collection(v1.GraphKeys.UPDATE_OPS)):
        train = optimizer.minimize(loss, global_step=step)
    guards.check_train_op(train)
    return TrainingGraph(images, targets, train, loss, v1.train.Saver(slim.get_model_variables()))


def train(scans: Scans, seed: int, checkpoint: Path, settings: Settings) -> None:
    """Trains a network on ``scans`` and writes only its model variables to ``checkpoint``."""
    rng = np.random.default_rng(seed)
    with tf.Graph().as_default(), v1.Session() as session:
        v1.set_random_seed(seed)
        graph = build_training(len(scans.labels) // settings.batch_size, settings)
        session.run(v1.global_variables_initializer())
        for epoch in range(1, settings.epochs + 1):
            losses = []
            for images, targets in batches(scans, settings, rng):
                feed = {graph.images: images, graph.targets: targets}
                losses.append(session.run([graph.train, graph.loss], feed)[1])
            if epoch % 10 == 0 or epoch == settings.epochs:
                print(f"seed {seed}, epoch {epoch}: loss {np.mean(losses):.4f}", file=sys.stderr)
        graph.saver.save(session, str(checkpoint), write_meta_graph=False, write_state=False)


def predict(checkpoint: Path, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns the features and logits of images, computed with a checkpoint.

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


def count_errors(checkpoint: Path, known: Scans, unknown: Scans) -> Errors:
    """Returns the errors on the ``unknown`` images. Nearest neighbours are searched in the ``known`` ones."""
    known_features, _ = predict(checkpoint, known.images)
    features, logits = predict(checkpoint, unknown.images)
    return Errors(
        nearest_neighbour=errors(known.labels[nearest(features, known_features)], unknown.labels),
        network=errors(np.argmax(logits, axis=1), unknown.labels),
    )


def errors_on_pixels(known: Scans, unknown: Scans) -> int:
    """Returns the errors of a nearest-neighbour classifier on raw pixels."""
    flat = [scans.images.reshape(len(scans.images), -1) for scans in (unknown, known)]
    return errors(known.labels[nearest(*flat)], unknown.labels)


def write_images(scans: Scans, folder: Path) -> None:
    """Writes the held-out images as PNG files, and the others as one sheet with a list of their digits."""
    held_out = folder / "heldout"
    held_out.mkdir(parents=True, exist_ok=True)
    for row in range(TRAINING_IMAGES, len(scans.labels)):
        Image.fromarray(scans.images[row]).save(held_out / f"{row:04d}_{scans.labels[row]}.png", optimize=True)
    known = select(scans, 0, TRAINING_IMAGES)
    height, width = known.images.shape[1:]
    rows = -(-len(known.labels) // SHEET_COLUMNS)
    tiles = np.zeros([rows * SHEET_COLUMNS, height, width], np.uint8)
    tiles[: len(known.labels)] = known.images
    sheet = tiles.reshape(rows, SHEET_COLUMNS, height, width).swapaxes(1, 2).reshape(rows * height, -1)
    Image.fromarray(sheet).save(folder / "reference.png", optimize=True)
    (folder / "reference_labels.txt").write_text("".join(f"{label}\n" for label in known.labels), encoding="utf-8")


def ship_median(reports: dict[int, Errors], output: Path) -> int:
    """Keeps the checkpoint of the median seed by both error counts, deletes the others, and returns the seed.

    Writes notes beside it on its input and classes.
    """
    ranked = sorted(reports, key=lambda seed: reports[seed])
    median = ranked[len(ranked) // 2]
    for seed in reports:
        for part in output.glob(f"seed-{seed}.ckpt.*"):
            if seed == median:
                part.rename(output / (CHECKPOINT_NAME + part.name.removeprefix(f"seed-{seed}.ckpt")))
            else:
                part.unlink()
    note(
        output / CHECKPOINT_NAME,
        preprocessing=NETWORK.preprocessing,
        image_size=NETWORK.image_size,
        labels=list("0123456789"),
    )
    return median


def main(argv: Sequence[str] | None = None) -> int:
    """Trains one network for each seed and prints the errors of each."""
    parser = argparse.ArgumentParser(prog="python -m tools.digits.train", description=__doc__.partition("\n")[0])
    parser.add_argument(
        "--output", required=True, type=Path, metavar="DIR", help="folder for the checkpoint and images"
    )
    parser.add_argument(
        "--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4], metavar="N", help="seeds to train with"
    )
    parser.add_argument("--validation", action="store_true", help="do not use the held-out images")
    arguments = parser.parse_args(argv)
    arguments.output.mkdir(parents=True, exist_ok=True)
    scans = load_scans()
    stop = TRAINING_IMAGES if arguments.validation else len(scans.labels)
    start = TRAINING_IMAGES - VALIDATION_IMAGES if arguments.validation else TRAINING_IMAGES
    known, unknown = select(scans, 0, start), select(scans, start, stop)
    print(f"{len(known.labels)} images to train on, {len(unknown.labels)} to report on")
    print(f"nearest neighbour on raw pixels: {errors_on_pixels(known, unknown)} errors")
    reports = {}
    for seed in arguments.seeds:
        checkpoint = arguments.output / f"seed-{seed}.ckpt"
        began = time.perf_counter()
        train(known, seed, checkpoint, Settings())
        seconds = time.perf_counter() - began
        reports[seed] = count_errors(checkpoint, known, unknown)
        print(
            f"seed {seed}: {reports[seed].nearest_neighbour} errors of the nearest neighbour on global_pool, "
            f"{reports[seed].network} of the network; {seconds:.0f} s",
            flush=True,
        )
    if not arguments.validation:
        write_images(scans, arguments.output / "digits")
        print(f"ships: seed {ship_median(reports, arguments.output)}, the median")
    return 0


if __name__ == "__main__":
    sys.exit(main())
