"""Sessions for networks: precision, compilation, threads, and the graph optimizer."""

import functools
import logging
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager

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


# Settings of the environment that can keep TensorFlow from using the whole processor → whether a value does. TensorFlow
# reads them when it is imported.
ONEDNN_SETTINGS = {
    "TF_ENABLE_ONEDNN_OPTS": lambda value: value in ("0", "false"),
    "ONEDNN_MAX_CPU_ISA": lambda value: value not in ("ALL", "DEFAULT"),
    "DNNL_MAX_CPU_ISA": lambda value: value not in ("ALL", "DEFAULT"),
}


# A variable of the environment; see ``open_session``.
_OWN_THREADS = "TF_OVERRIDE_GLOBAL_THREADPOOL"


# The optimizer's useful passes if weights are constants and batch norms are folded: they cast constants to the lower
# precision, and fuse a convolution with the ops behind it. On a processor the other passes find nothing, but take two
# thirds of the time, and 0.5 GB for the weights of a ResNet-50.
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
      precision: precision of convolutions and matrix products: 'float32'; 'bfloat16' on a processor, in practice one
        with AVX-512; 'float16' on a GPU. Variables and fetched values stay float32.
      optimize_graph: whether TensorFlow optimizes the graph first. The lower precisions require it.
      frozen: whether the graph comes from ``freezing.import_frozen``.
      threads: number of threads between ops, and inside of an op; None for one a core.
      training: whether gradients are computed too.
      use_gpu: whether the session may use a GPU.

    Raises:
      ValueError: for an unknown precision, one that TensorFlow does not compute here, or a lower one without
        ``optimize_graph``.
    """
    if precision not in PRECISIONS:
        raise ValueError(f"precision must be one of {', '.join(PRECISIONS)}, but is {precision!r}.")
    config = v1.ConfigProto()
    # Several processes may share a GPU. By default TensorFlow takes all of its memory for the first one.
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
        raise ValueError(f"precision={precision!r} requires the graph optimizer: leave optimize_graph at True.")
    if precision == "float16":
        if not (use_gpu and has_gpu()):
            raise ValueError("precision='float16' requires a GPU, and TensorFlow finds none: use bfloat16 or float32.")
        rewrites.auto_mixed_precision = rewrites.ON
    else:
        rewrites.auto_mixed_precision_onednn_bfloat16 = rewrites.ON
    if not computes(precision, config, training=training):
        raise ValueError(_refusal(precision, on_gpu=use_gpu and has_gpu()))
    return config


def open_session(graph: tf.Graph, config: v1.ConfigProto) -> v1.Session:
    """Returns a session with the number of threads in its configuration, whatever earlier sessions had.

    Otherwise all sessions of a process share the threads of the first one. For each new session TensorFlow reads from
    the environment whether it gets threads of its own for the inside of ops.
    """
    if not config.use_per_session_threads or _OWN_THREADS in os.environ:
        return v1.Session(graph=graph, config=config)
    os.environ[_OWN_THREADS] = "1"
    try:
        return v1.Session(graph=graph, config=config)
    finally:
        del os.environ[_OWN_THREADS]


def has_gpu() -> bool:
    """Returns whether TensorFlow finds a GPU."""
    return bool(tf.config.list_physical_devices("GPU"))


def computes(precision: str, config: v1.ConfigProto, *, training: bool = False) -> bool:
    """Returns whether TensorFlow computes convolutions in a lower precision under this configuration.

    A network of two convolutions finds it out, once and in about 30 ms. The processor alone does not tell, because the
    environment, TensorFlow's build and other devices also decide.

    Args:
      precision: 'bfloat16' or 'float16'.
      config: configuration of a session, with the precision turned on.
      training: whether gradients must be computed in the precision too.
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
        return False  # oneDNN has no such convolution for the allowed instructions
    convolutions = [node for part in metadata.partition_graphs for node in part.node if "Conv2D" in node.op]
    dtype = tf.as_dtype(precision).as_datatype_enum
    return bool(convolutions) and all(node.attr["T"].type == dtype for node in convolutions)


def _tiny_network(images: tf.Tensor, training: bool) -> tf.Tensor:
    """Returns the output of layers that all networks have, or in training the sum of their gradients."""
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
    # Not the gradients themselves, because fetched tensors stay in float32.
    return tf.add_n([tf.reduce_sum(gradient) for gradient in tf.gradients(output, [images, *kernels])])


def _refusal(precision: str, *, on_gpu: bool) -> str:
    """Returns the sentence for a precision that TensorFlow does not compute."""
    if on_gpu:
        other = "float16 or float32" if precision == "bfloat16" else "float32"
        return f"TensorFlow does not compute precision={precision!r} on this machine's GPU: use {other}."
    settings = [
        f"{name}={value}" for name, off in ONEDNN_SETTINGS.items() if (value := os.environ.get(name)) and off(value)
    ]
    unset = f", or try without {' and '.join(settings)}" if settings else ""
    return (
        f"precision={precision!r} requires TensorFlow's oneDNN and a processor with AVX-512, and TensorFlow computes "
        f"no {precision} here: use float32{unset}."
    )


def assign(session: v1.Session, variables: Iterable[tf.Variable], values: Mapping[str, np.ndarray]) -> None:
    """Assigns values to a session's variables by name, and adds no op to the graph."""
    assign_values(session, [(variable, values[variable.op.name]) for variable in variables])


@contextmanager
def without_deprecation_notices() -> Iterator[None]:
    """Hides TensorFlow's advice, on functions for the graphs of sessions, to use another kind of graph."""
    logger = logging.getLogger("tensorflow")
    with ExitStack() as stack:
        stack.callback(logger.setLevel, logger.level)
        logger.setLevel(logging.ERROR)
        yield
