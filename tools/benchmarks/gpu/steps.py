"""Opens a setting in this process: the network, its session, and a function that computes a step."""

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import tensorflow as tf

from nets import nets_factory
from tools.benchmarks.folder import exhaust, folder_extractor
from tools.benchmarks.gpu.settings import MIXED, Setting
from tools.benchmarks.replicas import save_network
from tools.errors import PeerError
from tools.peers.slim_reference import tf_slim_builder, tf_slim_scope
from tools.runtime.sessions import has_gpu
from tools.timing.graph import TimedGraph, timed_graph
from tools.timing.measuring import first_run
from tools.timing.options import Options

__all__ = ["Steps", "device_of", "opened"]

v1 = tf.compat.v1

# Number of batches of files in a step.
_BATCHES_OF_FILES = 10


class Steps(NamedTuple):
    """A step that is ready to be timed.

    step: computes once, and returns when the result is complete.
    batches: number of batches that it computes.
    """

    step: Callable[[], object]
    batches: int


def device_of(setting: Setting) -> str:
    """Returns the device of a setting, such as 'gpu' or 'cpu'."""
    return setting.device or ("gpu" if has_gpu() else "cpu")


@contextmanager
def opened(setting: Setting, folder: Path) -> Iterator[Steps]:
    """Opens a setting, which has computed once when the block begins.

    Whether TF32 is on holds for the whole process.

    Args:
      setting: the setting.
      folder: folder for a checkpoint, if the setting requires one.

    Raises:
      PeerError: if TensorFlow places the network on another device, or does not compute in the precision.
      tf.errors.ResourceExhaustedError, MemoryError: if the batch does not fit into memory.
      ValueError: if TensorFlow refuses the precision.
    """
    tf.config.experimental.enable_tensor_float_32_execution(setting.precision == "TF32")
    if setting.mode == "files":
        with _opened_files(setting, folder) as steps:
            yield steps
        return
    built, precision = _precisions(setting)
    options = Options(
        batch_size=setting.batch_size,
        mode=setting.mode,
        precision=precision,
        xla=setting.xla,
        freeze=setting.mode == "forward" and setting.of == "slimnets",
        device=setting.device,
    )
    make_network = _slim_network if setting.of == "slim" else nets_factory.get_network_fn
    with timed_graph(setting.net, options, dtype=tf.as_dtype(built), make_network=make_network) as timed:
        _check(setting, first_run(timed, options)[1], built, timed)
        yield Steps(timed.step, 1)


def _precisions(setting: Setting) -> tuple[str, str]:
    """Returns the type in which the network is built, and the precision of the session."""
    if setting.precision.startswith(MIXED):
        return "float32", setting.precision.removeprefix(MIXED)
    return ("float32" if setting.precision == "TF32" else setting.precision), "float32"


def _slim_network(
    name: str, num_classes: int, weight_decay: float, *, is_training: bool
) -> Callable[[tf.Tensor], tuple[tf.Tensor, Mapping[str, tf.Tensor]]]:
    """Returns tf_slim's own network; see ``nets_factory.get_network_fn``."""

    def network_fn(images: tf.Tensor) -> tuple[tf.Tensor, Mapping[str, tf.Tensor]]:
        with tf_slim_scope(net=name, weight_decay=weight_decay):
            logits, end_points = tf_slim_builder(name)(images, num_classes, is_training=is_training)
        return tf.reshape(logits, [images.shape[0], num_classes]), end_points

    return network_fn


def _check(setting: Setting, partition_graphs: Sequence[v1.GraphDef], built: str, timed: TimedGraph) -> None:
    """Raises PeerError if the convolutions run on another device, or in another type, than the setting's."""
    kind = device_of(setting).partition(":")[0].upper()
    nodes = [node for graph in partition_graphs for node in graph.node]
    heavy = [node for node in nodes if "Conv2D" in node.op or node.op == "XlaLaunch"]
    if elsewhere := [node.name for node in heavy if f"device:{kind}:" not in node.device]:
        raise PeerError(f"TensorFlow placed {elsewhere[0]} on another device than a {kind}")
    if setting.precision.startswith(MIXED) or setting.xla:
        # The session has checked the former, and XLA shows no operations: the graph before it does.
        nodes = [op.node_def for op in timed.session.graph.get_operations()] if setting.xla else []
    wanted = tf.as_dtype(built).as_datatype_enum
    if others := [node.name for node in nodes if "Conv2D" in node.op and node.attr["T"].type != wanted]:
        raise PeerError(f"TensorFlow computed {others[0]} in another type than {built}")


@contextmanager
def _opened_files(setting: Setting, folder: Path) -> Iterator[Steps]:
    precision = _precisions(setting)[1]
    network = nets_factory.get_network(setting.net)
    checkpoint = save_network(folder, setting.net, network.num_classes)
    paths = sorted(str(path) for path in Path(setting.images).iterdir())
    with folder_extractor(checkpoint, precision, setting.batch_size) as extractor:
        # A step continues where the one before it ended.
        count = min(_BATCHES_OF_FILES * setting.batch_size, len(paths))
        parts = itertools.cycle(paths[i : i + count] for i in range(0, len(paths) - count + 1, count))

        def step() -> None:
            exhaust(extractor, next(parts))

        step()
        yield Steps(step, -(-count // setting.batch_size))
