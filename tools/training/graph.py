"""Builds the graph of a training: batches, network, loss, and the step that changes the weights."""

import inspect
from collections.abc import Sequence
from typing import Any, NamedTuple

import tensorflow as tf
import tf_slim as slim

from checkpoints.names import is_logits
from checkpoints.patterns import as_patterns, matching
from nets import nets_factory
from tools.training.batches import TrainingBatches
from tools.training.optimizers import make_optimizer
from tools.training.plan import Plan
from tools.training.start import Start

__all__ = ["TrainingGraph", "build_graph"]

v1 = tf.compat.v1

# The weight of the loss of auxiliary logits in research/slim, train_image_classifier.py.
_AUXILIARY = 0.4


class TrainingGraph(NamedTuple):
    """The graph of a training.

    graph: TensorFlow's graph.
    batches: makes the images of each step.
    learning_rate: placeholder of a step's learning rate.
    step: operation that does a step.
    figures: tensors that describe a step: 'cross_entropy', the mean of the batch; 'penalties', the regularization
      losses of all weights, [number of them]; 'right', how many images have the highest logit at their class.
    state: variables to save.
    begin_averages: operation that gives the moving averages the values of the weights.
    """

    graph: tf.Graph
    batches: TrainingBatches
    learning_rate: tf.Tensor
    step: tf.Operation
    figures: dict[str, tf.Tensor]
    state: list[tf.Variable]
    begin_averages: tf.Operation


def build_graph(start: Start, plan: Plan) -> TrainingGraph:
    """Returns the graph of a training.

    Raises:
      ValueError: if a pattern of ``trainable`` fits no variable, or the network cannot be built.
    """
    settings = plan.settings
    with tf.Graph().as_default() as graph:
        v1.set_random_seed(settings.seed)
        batches = TrainingBatches(
            start.preprocessing,
            start.image_size,
            settings.batch_size,
            augmentation=plan.augmentation,
            flip=settings.flip,
            color=settings.color,
            seed=settings.seed,
            threads=settings.threads,
        )
        global_step = v1.train.get_or_create_global_step()
        learning_rate = v1.placeholder(tf.float32, [], name="learning_rate")
        logits, end_points = _build_network(start, plan, batches.images, global_step)
        targets = tf.one_hot(batches.classes, logits.shape[-1])
        smoothing = settings.label_smoothing
        cross_entropy = v1.losses.softmax_cross_entropy(targets, logits, label_smoothing=smoothing)
        if (auxiliary := end_points.get("AuxLogits")) is not None:
            v1.losses.softmax_cross_entropy(targets, auxiliary, weights=_AUXILIARY, label_smoothing=smoothing)
        penalties = v1.losses.get_regularization_losses()
        trained = _trained(settings.trainable)
        optimizer = make_optimizer(settings.optimizer, learning_rate, vars(settings))
        with tf.control_dependencies(v1.get_collection(v1.GraphKeys.UPDATE_OPS)):
            step = optimizer.minimize(v1.losses.get_total_loss(), global_step, trained)
        begin_averages = tf.no_op()
        if settings.ema is not None:
            averages = v1.train.ExponentialMovingAverage(settings.ema, global_step)
            weights = slim.get_model_variables()
            with tf.control_dependencies([step]):
                step = averages.apply(weights)
            begin_averages = tf.group([averages.average(weight).assign(weight) for weight in weights])
        hits = tf.equal(tf.argmax(logits, axis=-1), batches.classes)
        figures = {
            "cross_entropy": cross_entropy,
            "penalties": tf.stack(penalties) if penalties else tf.zeros([0]),
            "right": tf.reduce_sum(tf.cast(hits, tf.int64)),
        }
        return TrainingGraph(graph, batches, learning_rate, step, figures, v1.global_variables(), begin_averages)


def _build_network(
    start: Start, plan: Plan, images: tf.Tensor, global_step: tf.Variable
) -> tuple[tf.Tensor, dict[str, tf.Tensor]]:
    """Returns the logits, [batch, classes], and the end points."""
    arg_scope: dict[str, Any] = {} if plan.batch_norm_decay is None else {"batch_norm_decay": plan.batch_norm_decay}
    build = nets_factory.get_network_fn(
        start.network.name,
        len(start.labelled.names),
        plan.weight_decay,
        is_training=not plan.freeze_batch_norm,
        **arg_scope,
    )
    options = dict(start.options)
    if "dropout_seed" in inspect.signature(start.network.builder).parameters:
        # So that a training that was stopped drops the same logits.
        options["dropout_seed"] = tf.stack([tf.constant(plan.settings.seed, tf.int64), global_step])
    return build(images, **options)


def _trained(trainable: str | Sequence[str]) -> list[tf.Variable]:
    """Returns the variables that the optimizer changes."""
    variables = v1.trainable_variables()
    chosen = _trainable_names([variable.op.name for variable in variables], trainable)
    return [variable for variable in variables if variable.op.name in chosen]


def _trainable_names(names: Sequence[str], trainable: str | Sequence[str]) -> set[str]:
    """Returns the names that 'all', 'head' or patterns choose.

    Raises:
      ValueError: if a pattern fits none of the names.
    """
    if trainable == "all":
        return set(names)
    if trainable == "head":
        return {name for name in names if is_logits(name)}
    return matching(names, as_patterns(trainable, "trainable"), argument="trainable", of="the network")
