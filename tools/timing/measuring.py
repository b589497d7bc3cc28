"""Times one network: building, restoring, first run and steady steps."""

import time
from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

from tools.runtime import machine
from tools.runtime.sessions import has_gpu
from tools.timing.costs import new_kinds
from tools.timing.graph import TimedGraph, timed_graph
from tools.timing.options import Options
from tools.timing.steps import Timing, TimingInterrupted, time_steps

__all__ = ["first_run", "measure", "statistics"]

v1 = tf.compat.v1


def measure(
    net: str, options: Options, steps: int, burn_in: int, advance: Callable[[int], None] = lambda count: None
) -> dict[str, Any]:
    """Times one network, in a graph and a session of its own.

    Args:
      net: name of the network.
      options: options of the network and its run.
      steps, burn_in: number of counted steps, and of steps before them.
      advance: called with 0 when the steps begin, and with 1 after each.

    Returns:
      The report, ready for JSON, with times in seconds and memory in bytes. If Ctrl-C came after some steps,
      ``interrupted`` is True, and the report covers these steps.

    Raises:
      KeyboardInterrupt: if no step was done.
      MemoryError: if the batch does not fit into memory.
      Exception: any error of ``timed_graph``.
    """
    device = options.device or ("gpu" if has_gpu() else "cpu")
    machine.reset_device_peak(device)
    try:
        with timed_graph(net, options) as timed:
            first_run_seconds, partition_graphs = first_run(timed, options)
            timing, other_load, interrupted = _steady(timed, steps, burn_in, advance)
    except tf.errors.ResourceExhaustedError:
        raise MemoryError(f"{options.batch_size:,} images at a time do not fit for {net}") from None
    operations, kinds = new_kinds(timed.operations, partition_graphs)
    gflop = timed.flops / 1e9
    return {
        "net": net,
        "shape": list(timed.shape),
        "num_classes": timed.num_classes,
        "seconds": {**timed.seconds, "first_run": first_run_seconds},
        "steps": {"count": len(timing.durations), "asked_for": steps, "burn_in": burn_in, **statistics(timing)},
        "images_per_second": options.batch_size / timing.median,
        "gflop_per_image": gflop,
        "gflop_per_second": gflop * options.batch_size / timing.median,
        "memory": {"process_peak": machine.process_peak(), "device_peak": machine.device_peak(device)},
        "operations": {"before": timed.operations.total(), "after": operations, "new_kinds": dict(kinds.most_common())},
        "other_load": other_load,
        "interrupted": interrupted,
        "durations": list(timing.durations),
    }


def statistics(timing: Timing) -> dict[str, float]:
    """Returns the reported figures of durations, in seconds, with the percentiles of ``Timing.percentile``."""
    names = ("mean", "median", "p5", "p95", "p99", "minimum", "standard_deviation")
    return {name: getattr(timing, name) for name in names}


def first_run(timed: TimedGraph, options: Options) -> tuple[float, Sequence[v1.GraphDef]]:
    """Returns the seconds of the first run, in which TensorFlow optimizes and compiles, and the graphs that it made.

    Later steps run the same graphs: a session does not compile again because a run asked for its graphs.
    """
    metadata = v1.RunMetadata()
    start = time.perf_counter()
    timed.session.run(
        timed.target, timed.feed_dict, options=v1.RunOptions(output_partition_graphs=True), run_metadata=metadata
    )
    seconds = time.perf_counter() - start
    if options.xla and not any(node.op == "XlaLaunch" for graph in metadata.partition_graphs for node in graph.node):
        raise ValueError("xla=True had no effect: TensorFlow ran the network without compiling it. Omit it.")
    return seconds, metadata.partition_graphs


def _steady(
    timed: TimedGraph, steps: int, burn_in: int, advance: Callable[[int], None]
) -> tuple[Timing, float | None, bool]:
    """Returns the steps' durations, the cores that other processes used meanwhile, and whether Ctrl-C ended them."""
    load = machine.OtherLoad()
    interrupted = False

    def on_step(i: int, duration: float) -> None:
        nonlocal load
        advance(1)
        if i == -1:
            load = machine.OtherLoad()

    advance(0)
    try:
        timing = time_steps(timed.step, steps, burn_in, on_step=on_step)
    except TimingInterrupted as stopped:
        timing, interrupted = stopped.timing, True
    return timing, load.cores(), interrupted
