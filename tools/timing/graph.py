"""Builds the graphs that ``slimnets time`` times: a network, its gradients or its training step, on random images."""

import contextlib
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from checkpoints import open_checkpoint, restore
from nets import endpoint_info, guards, nets_factory
from nets.nets_factory import Network
from tools.runtime.freezing import freeze, import_frozen, worth_splitting
from tools.runtime.machine import available_memory
from tools.runtime.on_device import resident_variable
from tools.runtime.random_weights import assign_random_weights, random_images
from tools.runtime.sessions import has_gpu, open_session, session_config, without_deprecation_notices
from tools.timing.costs import flops, least_memory
from tools.timing.options import Options

__all__ = ["TimedGraph", "timed_graph"]

v1 = tf.compat.v1

# As in the paper's training (arXiv:1512.03385), except for its learning rate of 0.1. Without a warm-up that one may
# overflow before the steps are done.
_WEIGHT_DECAY, _MOMENTUM, _LEARNING_RATE = 1e-4, 0.9, 0.01

_SEED = 0


class TimedGraph(NamedTuple):
    """A graph that is ready to run, in a session of its own.

    session: session whose variables have values.
    target: the operation to run. Running an operation copies nothing out of TensorFlow.
    feed_dict: the images, if they are fed.
    shape: shape of the images.
    num_classes: number of classes of the network's logits.
    seconds: seconds to 'build' the graph, to 'initialize' or 'restore' it, and to 'freeze' it.
    operations: number of the running operations by type, before TensorFlow optimizes the graph.
    flops: floating point operations for one image; see ``flops``.
    """

    session: v1.Session
    target: tf.Operation
    feed_dict: dict[tf.Tensor, np.ndarray] | None
    shape: tuple[int, int, int, int]
    num_classes: int
    seconds: dict[str, float]
    operations: Counter[str]
    flops: float

    def step(self) -> None:
        self.session.run(self.target, self.feed_dict)


@contextmanager
def timed_graph(
    name: str,
    options: Options,
    *,
    dtype: tf.DType = tf.float32,
    make_network: Callable[..., Callable[[tf.Tensor], tuple[tf.Tensor, Mapping]]] = nets_factory.get_network_fn,
) -> Iterator[TimedGraph]:
    """Builds a network for the options, with the checkpoint's weights or random ones from a fixed seed.

    The images, and in training the labels, are random with a fixed seed too.

    Args:
      name: name of the network.
      options: options that ``options.check`` accepts.
      dtype: type that the network's layers are built in. Unlike ``options.precision`` it leaves nothing to TensorFlow's
        optimizer, and so it holds under XLA too. Variables, the statistics of batch norms, the loss and the training
        step stay in float32. A lower type requires ``options.precision='float32'``.
      make_network: function with the arguments of ``nets_factory.get_network_fn``, which returns the network to time.

    Yields:
      The graph.

    Raises:
      CheckpointError: if the checkpoint cannot be read, or does not fit the network.
      MemoryError: if the machine has less memory than a batch requires at least.
      ValueError: for an unknown network or end point.
    """
    network = nets_factory.get_network(name)
    size = options.image_size or network.image_size
    num_classes = network.num_classes if options.num_classes is None else options.num_classes
    shape = (options.batch_size, size, size, network.channels)
    seconds: dict[str, float] = {}
    build = _builder(network, num_classes, options, dtype, make_network)
    if options.freeze:
        build = _frozen(build, network, shape, options, seconds)

    def uniform_images() -> tf.Tensor:
        return tf.random.stateless_uniform(shape, [_SEED, 0], -1.0, 1.0)

    with tf.Graph().as_default() as graph, _device(options), _measured(seconds, "build"):
        v1.set_random_seed(_SEED)
        if options.feed:
            images, initial_images = v1.placeholder(tf.float32, shape), uniform_images()
        else:
            images = resident_variable("timed/images", uniform_images).read_value()
        target = _target(_compiled(build, images) if options.xla else build(images), options.mode)
    needed = guards.ancestors([target])
    ops = [op for op in graph.get_operations() if op in needed]
    _check_memory(least_memory(ops) + images.shape.num_elements() * images.dtype.size, name, options)
    with open_session(graph, _config(options, frozen=options.freeze and not options.xla)) as session:
        _fill(session, options, seconds)
        feed_dict = {images: session.run(initial_images)} if options.feed else None
        operations = Counter(op.type for op in ops)
        yield TimedGraph(
            session, target, feed_dict, shape, num_classes, seconds, operations, flops(ops) / options.batch_size
        )


def _builder(
    network: Network, num_classes: int, options: Options, dtype: tf.DType, make_network: Callable
) -> Callable[[tf.Tensor], list]:
    """Returns a function from the images to the outputs of a step: a tensor, all gradients, or the training step."""
    training = options.mode != "forward"

    def build(images: tf.Tensor) -> list[tf.Tensor | tf.Operation]:
        # The regularizers would see kernels of the lower type.
        weight_decay = _WEIGHT_DECAY if dtype == tf.float32 else 0.0
        network_fn = make_network(network.name, num_classes, weight_decay, is_training=training)
        with _float32_variables(dtype):
            net, end_points = network_fn(tf.cast(images, dtype))
        if not training:
            output = net if options.end_point is None else endpoint_info.resolve(options.end_point, end_points)[1]
            return [tf.cast(output, tf.float32)]
        if dtype != tf.float32:
            _regularize_kernels()
        labels = resident_variable(
            "timed/labels",
            lambda: tf.random.stateless_uniform([options.batch_size], [_SEED, 1], 0, num_classes, tf.int64),
        ).read_value()
        v1.losses.sparse_softmax_cross_entropy(labels, tf.cast(net, tf.float32))
        loss = v1.losses.get_total_loss()  # with the regularization losses
        if options.mode == "forward-backward":
            return [gradient for gradient in tf.gradients(loss, v1.trainable_variables()) if gradient is not None]
        step = v1.train.get_or_create_global_step()
        with tf.control_dependencies(v1.get_collection(v1.GraphKeys.UPDATE_OPS)):
            return [v1.train.MomentumOptimizer(_LEARNING_RATE, _MOMENTUM).minimize(loss, global_step=step)]

    return build


@contextmanager
def _float32_variables(dtype: tf.DType) -> Iterator[None]:
    """Enters a scope in which variables of a lower type are float32 variables with a cast."""
    if dtype == tf.float32:
        yield
        return

    def cast(getter: Callable, name: str, *args: Any, dtype: tf.DType, **kwargs: Any) -> tf.Tensor:
        asked_for = tf.as_dtype(dtype)
        if asked_for not in (tf.float16, tf.bfloat16):
            return getter(name, *args, dtype=dtype, **kwargs)
        return tf.cast(getter(name, *args, dtype=tf.float32, **kwargs), asked_for)

    with v1.variable_scope("", custom_getter=cast):
        yield


def _regularize_kernels() -> None:
    for variable in v1.trainable_variables():
        if variable.shape.rank > 1:
            loss = _WEIGHT_DECAY * tf.nn.l2_loss(variable)
            v1.add_to_collection(v1.GraphKeys.REGULARIZATION_LOSSES, loss)


def _frozen(
    builder: Callable[[tf.Tensor], list],
    network: Network,
    shape: Sequence[int],
    options: Options,
    seconds: dict[str, float],
) -> Callable[[tf.Tensor], list]:
    """Returns such a function with the weights as constants, which are filled and frozen in another graph."""
    with tf.Graph().as_default() as graph, _device(options), _measured(seconds, "build"):
        v1.set_random_seed(_SEED)
        images = v1.placeholder(tf.float32, shape, name="images")
        (output,) = builder(images)
    with open_session(graph, _config(options)) as session:
        if options.checkpoint is None:
            # The optimizer would remove constants of 0 and 1, such as initial values.
            with _measured(seconds, "initialize"):
                assign_random_weights(session, images, output, random_images(shape, network.preprocessing))
        else:
            _fill(session, options, seconds)
        with _measured(seconds, "freeze"):
            graph_def = freeze(session, [output])
    # XLA compiles the whole batch as one.
    split = not options.xla and worth_splitting(options.batch_size, options.threads)
    return lambda images: import_frozen(graph_def, {"images:0": images}, [output.name], split=split)


def _compiled(build: Callable[[tf.Tensor], list], images: tf.Tensor) -> list:
    """Returns the outputs of ``build``, compiled by XLA as one operation, XlaLaunch.

    In a session's graph ``tf.function(jit_compile=True)`` cannot create variables, ``jit_scope`` makes a cluster of
    almost every op, and ``global_jit_level`` does nothing on a processor. The operation includes all changes of
    variables: even if only gradients are fetched, the moving averages move.
    """
    with without_deprecation_notices():
        outputs = tf.xla.experimental.compile(build, [images])
    return outputs if isinstance(outputs, list) else [outputs]


def _target(outputs: list[tf.Tensor | tf.Operation], mode: str) -> tf.Operation:
    """Returns one operation that depends on all outputs.

    Fetching many outputs takes Python longer, and the optimizer removes operations before a ``tf.group``.
    """
    if mode == "forward-backward":
        outputs = tf.identity_n(outputs)
    return outputs[0] if isinstance(outputs[0], tf.Operation) else outputs[0].op


def _device(options: Options) -> contextlib.AbstractContextManager:
    if options.device is None:
        return contextlib.nullcontext()
    kind, _, number = options.device.partition(":")
    return tf.device(f"/device:{kind.upper()}:{number or 0}")


def _config(options: Options, *, frozen: bool = False) -> v1.ConfigProto:
    config = session_config(
        options.precision,
        frozen=frozen,
        threads=options.threads,
        training=options.mode != "forward",
        use_gpu=not (options.device or "").startswith("cpu"),
    )
    # A few ops on integers and seeds have no kernel for a GPU.
    config.allow_soft_placement = True
    return config


def _fill(session: v1.Session, options: Options, seconds: dict[str, float]) -> None:
    """Gives the variables their values. Those missing from the checkpoint, such as an optimizer's, are initialized."""
    with session.graph.as_default():
        session.run(v1.local_variables_initializer())
        variables = v1.global_variables()
        if not variables:  # a frozen graph
            return
        if options.checkpoint is None:
            with _measured(seconds, "initialize"):
                session.run(v1.variables_initializer(variables))
            return
        with _measured(seconds, "restore"):
            reader = open_checkpoint(options.checkpoint, checkpoint_dir=options.checkpoint_dir)
            restored = set(restore(session, reader).loaded)
            others = [variable for variable in variables if variable.op.name not in restored]
            session.run([variable.initializer for variable in others])


@contextmanager
def _measured(seconds: dict[str, float], name: str) -> Iterator[None]:
    start = time.perf_counter()
    yield
    seconds[name] = seconds.get(name, 0.0) + time.perf_counter() - start


def _check_memory(needed: int, name: str, options: Options) -> None:
    """Raises MemoryError before Linux kills the process. For a GPU, TensorFlow itself reports missing memory."""
    if has_gpu() and not (options.device or "").startswith("cpu"):
        return
    available = available_memory()
    if available is not None and needed > available:
        raise MemoryError(
            f"{name} requires at least {needed / 1e9:,.1f} GB for {options.batch_size:,} images at a time, but only "
            f"{available / 1e9:,.1f} GB are free"
        )
