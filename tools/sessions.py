"""Sessions as networks are run in: precision, compilation, threads, and what TensorFlow makes of the graph."""

import logging
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import tensorflow as tf

from checkpoints.assignment import assign as assign_values

__all__ = ["PRECISIONS", "assign", "has_gpu", "session_config", "supports_bfloat16", "without_deprecation_notices"]

v1 = tf.compat.v1

PRECISIONS = ("float32", "bfloat16", "float16")


# What is left for the optimizer where weights are constants and batch norms folded: to make constants of what the lower
# precision casts, and one op of a convolution and what follows it. The other passes find nothing on a processor, and
# take two thirds of the time and 0.5 GB for the weights of a ResNet-50.
_PASSES_WHEN_FROZEN = {
    "float32": ("pruning", "constfold", "remap"),
    "bfloat16": ("pruning", "auto_mixed_precision_onednn_bfloat16", "constfold", "remap"),
}


def session_config(
    precision: str = "float32", *, optimize_graph: bool = True, frozen: bool = False, threads: int | None = None
) -> v1.ConfigProto:
    """The configuration of a session.

    Args:
      precision: of convolutions and matrix products: 'float32'; 'bfloat16' on a processor with AVX-512;
        'float16' on a GPU. Variables and what is fetched stay float32.
      optimize_graph: whether TensorFlow optimizes the graph first; the lower precisions are its work.
      frozen: whether the graph is one of ``freezing.import_frozen``.
      threads: for the ops of a graph, and inside of an op; None for one a core.

    Raises:
      ValueError: for an unknown precision, one that this machine has no use for, or that needs ``optimize_graph``.
    """
    if precision not in PRECISIONS:
        raise ValueError(f"precision must be one of {', '.join(PRECISIONS)}, and is {precision!r}.")
    config = v1.ConfigProto()
    # Several processes may share a GPU; TensorFlow would take all of its memory for the first one.
    config.gpu_options.allow_growth = True
    if threads is not None:
        config.intra_op_parallelism_threads = config.inter_op_parallelism_threads = threads
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
        if not has_gpu():
            raise ValueError("precision='float16' needs a GPU, and TensorFlow finds none: use bfloat16 or float32.")
        rewrites.auto_mixed_precision = rewrites.ON
    else:
        if not supports_bfloat16():
            raise ValueError("precision='bfloat16' needs a processor with AVX-512, and this one has none: use float32.")
        rewrites.auto_mixed_precision_onednn_bfloat16 = rewrites.ON
    return config


def has_gpu() -> bool:
    """Whether TensorFlow finds a GPU."""
    return bool(tf.config.list_physical_devices("GPU"))


def supports_bfloat16() -> bool:
    """Whether TensorFlow's oneDNN computes bfloat16 on this processor (on Linux; elsewhere it does not)."""
    cpuinfo = Path("/proc/cpuinfo")
    return cpuinfo.exists() and "avx512f" in cpuinfo.read_text()


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
