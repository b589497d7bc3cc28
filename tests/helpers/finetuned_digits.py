"""The complaint heard most about slim: good while training, at chance in evaluation.

The shipped network for digits is fine-tuned on four of them for 200 steps, as a script of slim does it, under the decay
of slim's arg scope, 0.997. After so few steps the moving statistics are still mostly those of the old weights.
"""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import tensorflow as tf
import tf_slim as slim

from nets import resnet_v2
from nets.preprocessing import preprocess
from tests.helpers.digit_folders import held_out_digits, training_digits
from tools.digits import CHECKPOINT, digits

__all__ = ["FinetunedDigits", "finetuned_digits"]

v1 = tf.compat.v1

CLASSES = 4
STEPS = 200
BATCH_SIZE = 16


class FinetunedDigits(NamedTuple):
    """A fine-tuned checkpoint, and two folders of images that hold a folder for each class: '0', '1', '2', '3'.

    checkpoint: a V2 bundle with the optimizer's slots and the global step.
    train: the images that it was trained on.
    held_out: images by other writers.
    """

    checkpoint: Path
    train: Path
    held_out: Path


def finetuned_digits(folder: Path, batch_norm_decay: float = 0.997) -> FinetunedDigits:
    """Makes the checkpoint and its images in a folder, in some seconds."""
    images, labels = digits()
    images, labels = images[labels < CLASSES], labels[labels < CLASSES]
    wanted = "".join(map(str, range(CLASSES)))
    train, held_out = training_digits(folder / "train", wanted), held_out_digits(folder / "held_out", wanted)
    checkpoint = _train(folder / "model.ckpt", images, labels, batch_norm_decay)
    return FinetunedDigits(checkpoint, train, held_out)


def _train(checkpoint, images, labels, batch_norm_decay):
    with tf.Graph().as_default(), v1.Session() as session:
        v1.set_random_seed(0)
        fed = v1.placeholder(tf.uint8, [None, 8, 8, 3])
        classes = v1.placeholder(tf.int64, [None])
        inputs = preprocess(fed, "inception", 32)
        with slim.arg_scope(resnet_v2.resnet_arg_scope(batch_norm_decay=batch_norm_decay)):
            logits, _ = resnet_v2.resnet_v2_tiny(inputs, CLASSES, is_training=True)
        v1.losses.sparse_softmax_cross_entropy(classes, logits)
        optimizer = v1.train.MomentumOptimizer(0.03, 0.9)
        train_op = slim.learning.create_train_op(v1.losses.get_total_loss(), optimizer)
        session.run(v1.global_variables_initializer())
        restored = [each for each in slim.get_model_variables() if "/logits/" not in each.op.name]
        v1.train.Saver(restored).restore(session, str(CHECKPOINT))
        generator = np.random.default_rng(0)
        for _ in range(STEPS):
            rows = generator.integers(len(labels), size=BATCH_SIZE)
            session.run(train_op, {fed: images[rows], classes: labels[rows]})
        v1.train.Saver().save(session, str(checkpoint), write_meta_graph=False, write_state=False)
    return checkpoint
