"""Sessions as networks are run in: precision, compilation, threads, and what TensorFlow makes of the graph."""

import functools
import logging
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager

import numpy as np
import tensorflow as tf

from checkpoints.restoring.assignment import assign as assign_values

__all__ = [
    "ONEDNN_SETTINGS",
    "PRECISIONS",
    "assign",
    "computes",
    "has_gpu",
    "open_session",
    "session_config",
    "without_deprecation_notices",
]

v1 = tf.compat.v1

PRECISIONS = ("float32", "bfloat16", "float16")


# Settings of the environment, read when TensorFlow is imported, by which it computes less than the processor could; and
# whether a value is one of those.
ONEDNN_SETTINGS = {
    "TF_ENABLE_ONEDNN_OPTS": lambda value: value in ("0", "false"),
    "ONEDNN_MAX_CPU_ISA": lambda value: value not in ("ALL", "DEFAULT"),
    "DNNL_MAX_CPU_ISA": lambda value: value not in ("ALL", "DEFAULT"),
}


# Of the environment; see ``open_session``.
_OWN_THREADS = "TF_OVERRIDE_GLOBAL_THREADPOOL"


# What is left for the optimizer where weights are constants and batch norms folded: to make constants of what the lower
# precision casts, and one op of a convolution and what follows it. The other passes find nothing on a processor, and
# take two thirds of the time and 0.5 GB for the weights of a ResNet-50.
_PASSES_WHEN_FROZEN = {
    "float32": ("pruning", "constfold", "remap"),
    "bfloat16": ("pruning", "auto_mixed_precision_onednn_bfloat16", "constfold", "remap"),
}


def session_config(
    precision: str = "float32",
    *,
    optimize_graph: bool = True,
    frozen: bool = False,
    threads: int | None = None,
    training: bool = False,
    use_gpu: bool = True,
) -> v1.ConfigProto:
    """Returns the configuration of a session.

    Args:
      precision: of convolutions and matrix products: 'float32'; 'bfloat16' on a processor, in practice one with
        AVX-512; 'float16' on a GPU. Variables and what is fetched stay float32.
      optimize_graph: whether TensorFlow optimizes the graph first; the lower precisions are its work.
      frozen: whether the graph is one of ``freezing.import_frozen``.
      threads: for the ops of a graph, and inside of an op; None for one a core.
      training: whether gradients are computed too.
      use_gpu: whether the session may see a GPU.

    Raises:
      ValueError: for an unknown precision, one that TensorFlow does not compute here, or that needs
        ``optimize_graph``.
    """
    if precision not in PRECISIONS:
        raise ValueError(f"precision must be one of {', '.join(PRECISIONS)}, and is {precision!r}.")
    config = v1.ConfigProto()
    # Several processes may share a GPU; TensorFlow would take all of its memory for the first one.
    config.gpu_options.allow_growth = True
    if threads is not None:
        config.intra_op_parallelism_threads = config.inter_op_parallelism_threads = threads
        config.use_per_session_threads = True
    if not use_gpu:
        config.device_count["GPU"] = 0
    rewrites = config.graph_options.rewrite_options
    # A second pass finds nothing more in these graphs, and takes a tenth of a second.
    rewrites.meta_optimizer_iterations = rewrites.ONE
    rewrites.disable_meta_optimizer = not optimize_graph
    if frozen and not has_gpu():
        rewrites.optimizers.extend(_PASSES_WHEN_FROZEN.get(precision, ()))
    if precision == "float32":
        return config
    if not optimize_graph:
        raise ValueError(f"precision={precision!r} is the graph optimizer's work: leave optimize_graph at True.")
    if precision == "float16":
        if not (use_gpu and has_gpu()):
            raise ValueError("precision='float16' needs a GPU, and TensorFlow finds none: use bfloat16 or float32.")
        rewrites.auto_mixed_precision = rewrites.ON
    else:
        rewrites.auto_mixed_precision_onednn_bfloat16 = rewrites.ON
    if not computes(precision, config, training=training):
        raise ValueError(_refusal(precision, on_gpu=use_gpu and has_gpu()))
    return config


def open_session(graph: tf.Graph, config: v1.ConfigProto) -> v1.Session:
    """Returns a session that has as many threads as its configuration says, whatever sessions there were before.

    All sessions of a process otherwise share the threads of the first one. TensorFlow reads from the environment, each
    time that a session is made, whether this one gets threads of its own for the inside of ops.
    """
    if not config.use_per_session_threads or _OWN_THREADS in os.environ:
        return v1.Session(graph=graph, config=config)
    os.environ[_OWN_THREADS] = "1"
    try:
        return v1.Session(graph=graph, config=config)
    finally:
        del os.environ[_OWN_THREADS]


def has_gpu() -> bool:
    """Whether TensorFlow finds a GPU."""
    return bool(tf.config.list_physical_devices("GPU"))


def computes(precision: str, config: v1.ConfigProto, *, training: bool = False) -> bool:
    """Returns whether TensorFlow computes convolutions in a lower precision under this configuration.

    It is asked by a network of two convolutions, which takes some 30 ms once: what a processor can do says little of
    what TensorFlow will do, which settings of the environment, its build and other devices decide as well.

    Args:
      precision: 'bfloat16' or 'float16'.
      config: of a session, with the precision turned on.
      training: whether the gradients are to be computed so as well.
    """
    return _computes(precision, config.SerializeToString(deterministic=True), training)


@functools.cache
def _computes(precision: str, serialized_config: bytes, training: bool) -> bool:
    config = v1.ConfigProto.FromString(serialized_config)
    config.graph_options.rewrite_options.min_graph_nodes = -1
    images = np.ones([2, 8, 8, 16], np.float32)
    with tf.Graph().as_default() as graph:
        fed = v1.placeholder(tf.float32, images.shape)
        output = _tiny_network(fed, training)
    metadata = v1.RunMetadata()
    try:
        with open_session(graph, config) as session:
            session.run(output, {fed: images}, v1.RunOptions(output_partition_graphs=True), metadata)
    except tf.errors.OpError:
        return False  # oneDNN has no such convolution for the instructions that it may use
    convolutions = [node for part in metadata.partition_graphs for node in part.node if "Conv2D" in node.op]
    dtype = tf.as_dtype(precision).as_datatype_enum
    return bool(convolutions) and all(node.attr["T"].type == dtype for node in convolutions)


def _tiny_network(images: tf.Tensor, training: bool) -> tf.Tensor:
    """Returns the output of the kinds of layers that all networks have, or in training what needs their gradients."""
    net = images
    kernels = [tf.constant(np.full([size, size, 16, 16], 0.125, np.float32)) for size in (3, 1)]
    ones = np.ones(16, np.float32)
    statistics = {} if training else {"mean": ones, "variance": ones}
    for kernel in kernels:
        net = tf.nn.conv2d(net, kernel, 1, "SAME")
        net, *_ = v1.nn.fused_batch_norm(net, ones, ones, is_training=training, **statistics)
        net = tf.nn.relu(net)
    output = tf.reduce_mean(tf.nn.max_pool2d(net, 3, 2, "SAME") + net[:, ::2, ::2])
    if not training:
        return output
    # Not the gradients themselves: what is fetched is left in float32.
    return tf.add_n([tf.reduce_sum(gradient) for gradient in tf.gradients(output, [images, *kernels])])


def _refusal(precision: str, *, on_gpu: bool) -> str:
    """The sentence for a precision that TensorFlow does not compute."""
    if on_gpu:
        other = "float16 or float32" if precision == "bfloat16" else "float32"
        return f"precision={precision!r} is not what TensorFlow computes on this machine's GPU: use {other}."
    settings = [
        f"{name}={value}" for name, off in ONEDNN_SETTINGS.items() if (value := os.environ.get(name)) and off(value)
    ]
    unset = f", or try without {' and '.join(settings)}" if settings else ""
    return (
        f"precision={precision!r} requires TensorFlow's oneDNN and a processor with AVX-512, and TensorFlow computes "
        f"no {precision} here: use float32{unset}."
    )


def assign(session: v1.Session, variables: Iterable[tf.Variable], values: Mapping[str, np.ndarray]) -> None:
    """Gives variables of a session's graph their values, by name; adds no op to the graph."""
    assign_values(session, [(variable, values[variable.op.name]) for variable in variables])


@contextmanager
def without_deprecation_notices() -> Iterator[None]:
    """For functions that TensorFlow has for the graphs of a session, and which say to use another kind of graph."""
    logger = logging.getLogger("tensorflow")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
