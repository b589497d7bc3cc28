"""``slimnets time``: how long networks take on this machine, and how sure that is."""

import json
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import tensorflow as tf

from nets import nets_factory
from tools import machine
from tools.graph_costs import new_kinds
from tools.inputs import InputError
from tools.progress import Advance, progress
from tools.sessions import has_gpu
from tools.time_options import Options, check
from tools.time_report import print_report
from tools.timed_graph import TimedGraph, timed_graph
from tools.timing import Timing, TimingInterrupted, time_steps

__all__ = ["measure", "rate_limited", "run", "statistics"]

v1 = tf.compat.v1

# Share of the cores that others may have before it is said: an operation ends with the last of its threads, so what
# takes a twentieth of the processor can put off half of them; timers and daemons of a quiet machine take a hundredth.
_BUSY = 0.05

# Seconds between two reports of progress, which are made between steps.
_INTERVAL = 0.1


def run(
    nets: Sequence[str],
    *,
    steps: int = 100,
    burn_in: int = 10,
    json_file: str | None = None,
    plot: str | None = None,
    against: Sequence[str] = (),
    **options: Any,
) -> int:
    """The command: times the networks one after the other, reports, and returns the exit status; see ``Options``.

    Raises:
      CheckpointError: if the checkpoint cannot be read, or does not fit the network.
      ImportError: if the picture is asked for, and matplotlib is not installed.
      KeyboardInterrupt: for Ctrl-C before there is anything to report.
      MemoryError: for a batch that does not fit, after a report of the networks that did.
      ValueError: for what cannot be honoured, likewise.
    """
    chosen = Options(**options)
    _check(nets, chosen, json_file, plot)
    if against:
        from tools.time_against import compare_engines

        record = compare_engines(nets, chosen, against, steps, burn_in)
        return _finish(record, json_file, plot, "engines")
    record = {
        "machine": machine.describe(),
        "options": {**chosen._asdict(), "steps": steps, "burn_in": burn_in},
        "interrupted": False,
        "nets": [],
    }
    stopped = None
    try:
        for net in nets:
            record["nets"].append(measure(net, chosen, steps, burn_in))
            if record["nets"][-1]["interrupted"]:
                break
    except (KeyboardInterrupt, MemoryError, ValueError) as error:
        if not record["nets"]:
            raise
        # The networks before took their time.
        stopped = error
    record["interrupted"] = stopped is not None or record["nets"][-1]["interrupted"]
    print_report(record)
    for result in record["nets"]:
        _warn_if_busy(result)
    status = _finish(record, json_file, plot, "nets")
    if stopped is not None and not isinstance(stopped, KeyboardInterrupt):
        raise stopped
    return status


def _check(nets: Sequence[str], options: Options, json_file: str | None, plot: str | None) -> None:
    """Refuses what would come to light only after minutes."""
    networks = [nets_factory.get_network(net) for net in nets]
    if options.checkpoint is not None and len(networks) > 1:
        raise ValueError(f"--checkpoint has the weights of one network, and {len(networks)} are named: give one.")
    check(options)
    for option, file in (("--json", json_file), ("--plot", plot)):
        if file is not None and Path(file).is_dir():
            raise InputError(f"{option} {file} is a folder: name a file in it.")
        if file is not None and not Path(file).absolute().parent.is_dir():
            raise InputError(f"{option} {file} cannot be written: there is no folder {Path(file).parent}; make it.")
    if plot is not None:
        from tools.time_plot import check_plot

        check_plot(plot)


def measure(net: str, options: Options, steps: int, burn_in: int) -> dict[str, Any]:
    """Times one network, in a graph and a session of its own.

    Returns:
      What there is to report, as JSON has it; times in seconds, memory in bytes. After an interrupt that came when
      some steps were done, ``interrupted`` is True, and the rest is about those.

    Raises:
      KeyboardInterrupt: if no step was done.
      MemoryError: for a batch that does not fit.
      Exception: as ``timed_graph``.
    """
    device = options.device or ("gpu" if has_gpu() else "cpu")
    machine.reset_device_peak(device)
    try:
        with timed_graph(net, options) as timed:
            first_run, partition_graphs = _first_run(timed, options)
            timing, other_load, interrupted = _steady(net, timed, steps, burn_in)
    except tf.errors.ResourceExhaustedError:
        raise MemoryError(f"{options.batch_size:,} images at a time do not fit for {net}") from None
    operations, kinds = new_kinds(timed.operations, partition_graphs)
    gflop = timed.flops / 1e9
    return {
        "net": net,
        "shape": list(timed.shape),
        "num_classes": timed.num_classes,
        "seconds": {**timed.seconds, "first_run": first_run},
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
    """What is reported of durations, in seconds; percentiles as ``Timing.percentile``."""
    names = ("mean", "median", "p5", "p95", "p99", "minimum", "standard_deviation")
    return {name: getattr(timing, name) for name in names}


def _first_run(timed: TimedGraph, options: Options) -> tuple[float, Sequence[v1.GraphDef]]:
    """Seconds of the first run, in which TensorFlow optimizes and compiles, and the graphs it has made.

    The steps after it run the same ones: asking for them is no part of what a session keeps its executors by.
    """
    metadata = v1.RunMetadata()
    start = time.perf_counter()
    timed.session.run(
        timed.target, timed.feed_dict, options=v1.RunOptions(output_partition_graphs=True), run_metadata=metadata
    )
    seconds = time.perf_counter() - start
    if options.xla and not any(node.op == "XlaLaunch" for graph in metadata.partition_graphs for node in graph.node):
        raise ValueError("--xla had no effect: TensorFlow ran the network without compiling it; leave it out.")
    return seconds, metadata.partition_graphs


def _steady(net: str, timed: TimedGraph, steps: int, burn_in: int) -> tuple[Timing, float | None, bool]:
    """The steps' durations, the cores that others had during those that count, and whether Ctrl-C ended them."""
    load = machine.OtherLoad()
    interrupted = False
    with progress(net, burn_in + steps, "steps") as advance:
        report = rate_limited(advance, burn_in + steps)

        def on_step(i: int, duration: float) -> None:
            nonlocal load
            report(1)
            if i == -1:
                load = machine.OtherLoad()

        try:
            timing = time_steps(timed.step, steps, burn_in, on_step=on_step)
        except TimingInterrupted as stopped:
            timing, interrupted = stopped.timing, True
        other_load = load.cores()
    return timing, other_load, interrupted


def _warn_if_busy(result: dict[str, Any]) -> None:
    cores, others = machine.cores(), result["other_load"]
    if others is not None and others > _BUSY * cores:
        print(
            f"slimnets: warning: While {result['net']} was timed, other processes had {others:.1f} of {cores} cores: "
            "the figures are of a busy machine; repeat them on a quiet one.",
            file=sys.stderr,
        )


def rate_limited(advance: Advance, total: int) -> Callable[[int], None]:
    """``advance``, called at most every tenth of a second with what has come together, and at the last item."""
    waiting = done = 0
    last = time.perf_counter()

    def report(count: int) -> None:
        nonlocal waiting, done, last
        waiting += count
        done += count
        now = time.perf_counter()
        if now - last >= _INTERVAL or done == total:
            last = now
            advance(waiting)
            waiting = 0

    return report


def _finish(record: dict[str, Any], json_file: str | None, plot: str | None, key: str) -> int:
    """Writes the files, and returns the exit status."""
    if json_file is not None:
        Path(json_file).write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    series = [(one.get("net") or one["name"], one["durations"]) for one in record[key] if one["durations"]]
    if plot is not None and series:
        from tools.time_plot import draw

        draw(plot, series, subtitle=machine.one_line(), interrupted=record["interrupted"])
    if record["interrupted"]:
        print("slimnets: interrupted; the figures are of the steps until then", file=sys.stderr)
    return 1 if record["interrupted"] else 0
