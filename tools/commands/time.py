"""``slimnets time``: measures how long networks take on this machine, and how much that varies."""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tools.commands.arguments import add_checkpoint_dir, add_precision, count, names_in, positive
from tools.terminal.progress import progress, rate_limited
from tools.terminal.tables import print_table

if TYPE_CHECKING:
    from tools.timing.options import Options

__all__ = ["add"]

# A warning is printed if other processes use more than this share of the cores. An operation ends with the last of its
# threads, so one twentieth of the processor can delay half of them. An idle machine's daemons take one hundredth.
_BUSY = 0.05

# Number of kinds of fused and other new operations that the table lists.
_KINDS = 4


def add(commands: argparse._SubParsersAction) -> None:
    """Adds the command to the parser."""
    parser = commands.add_parser("time", help="measure how long networks take on this machine")
    parser.add_argument("nets", nargs="+", metavar="NET", help="networks that `slimnets nets` lists")
    parser.add_argument("--batch-size", type=positive, default=32, metavar="N", help="images in a batch (default 32)")
    parser.add_argument(
        "--image-size", type=positive, metavar="N", help="height and width of the images (default: the network's)"
    )
    parser.add_argument(
        "--num-classes", type=int, metavar="N", help="number of classes, 0 for no logits (default: the network's)"
    )
    parser.add_argument("--steps", type=positive, default=100, metavar="N", help="measured steps (default 100)")
    parser.add_argument(
        "--burn-in", type=count, default=10, metavar="N", help="steps before the measured ones (default 10)"
    )
    parser.add_argument(
        "--mode",
        choices=("forward", "forward-backward", "train"),
        default="forward",
        help="what a step is: inference, the gradients of a loss, or a training step (default forward)",
    )
    add_precision(parser)
    parser.add_argument("--xla", action="store_true", help="compile the network with XLA")
    parser.add_argument(
        "--freeze", action="store_true", help="make the weights constants, which TensorFlow can optimize"
    )
    parser.add_argument("--feed", action="store_true", help="feed the images in each step, and measure that too")
    parser.add_argument(
        "--end-point",
        metavar="NAME",
        help="last end point to compute, by name or alias; `slimnets nets NAME` lists them (default: the output)",
    )
    parser.add_argument("--device", metavar="DEVICE", help="cpu, gpu, gpu:1, ... (default: TensorFlow's choice)")
    parser.add_argument("--threads", type=positive, metavar="N", help="number of threads (default: one for each core)")
    parser.add_argument(
        "--checkpoint",
        metavar="PATH",
        help="weights: a file, a folder, or a key that `slimnets weights` lists (default: random weights)",
    )
    add_checkpoint_dir(parser)
    parser.add_argument(
        "--json", dest="json_file", metavar="FILE", help="write all figures and the duration of each step as JSON"
    )
    parser.add_argument("--plot", metavar="FILE", help="plot the durations to a .png, .svg or .pdf file")
    parser.add_argument(
        "--against",
        metavar="ENGINE[,ENGINE...]",
        help="compare with other engines, step by step in turn: slim, keras, torch, openvino, openvino:int8, ...",
    )
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> int:
    from tools.timing.options import Options

    options = Options(**{name: getattr(arguments, name) for name in Options._fields})
    _check(arguments, options)
    return _time(arguments, options) if arguments.against is None else _compare(arguments, options)


def _check(arguments: argparse.Namespace, options: "Options") -> None:
    """Refuses what would otherwise fail only after minutes."""
    from nets import nets_factory
    from tools.errors import InputError
    from tools.timing.options import check

    networks = [nets_factory.get_network(net) for net in arguments.nets]
    if options.checkpoint is not None and len(networks) > 1:
        raise ValueError(f"--checkpoint has the weights of one network, and {len(networks)} are named: name one.")
    check(options)
    for option, file in (("--json", arguments.json_file), ("--plot", arguments.plot)):
        if file is not None and Path(file).is_dir():
            raise InputError(f"{option} {file} is a folder: name a file in it.")
        if file is not None and not Path(file).absolute().parent.is_dir():
            raise InputError(f"{option} {file} cannot be written: there is no folder {Path(file).parent}; make it.")
    if arguments.plot is not None:
        from tools.timing.plot import check_plot

        check_plot(arguments.plot)


def _time(arguments: argparse.Namespace, options: "Options") -> int:
    """Times the networks one after the other and reports. Returns the exit status."""
    from tools.runtime import machine
    from tools.timing.measuring import measure

    steps, burn_in = arguments.steps, arguments.burn_in
    record = {
        "machine": machine.describe(),
        "options": {**options._asdict(), "steps": steps, "burn_in": burn_in},
        "interrupted": False,
        "nets": [],
    }
    stopped = None
    try:
        for net in arguments.nets:
            with progress(net, burn_in + steps, "steps") as advance:
                limited = rate_limited(advance, burn_in + steps)
                record["nets"].append(measure(net, options, steps, burn_in, limited))
            if record["nets"][-1]["interrupted"]:
                break
    except (KeyboardInterrupt, MemoryError, ValueError) as error:
        if not record["nets"]:
            raise
        # The figures of the networks before this one are reported first.
        stopped = error
    record["interrupted"] = stopped is not None or record["nets"][-1]["interrupted"]
    _print_networks(record)
    for result in record["nets"]:
        _warn_if_busy(result)
    status = _finish(arguments, record, record["nets"])
    if stopped is not None and not isinstance(stopped, KeyboardInterrupt):
        raise stopped
    return status


def _compare(arguments: argparse.Namespace, options: "Options") -> int:
    """Times a network in several engines and reports. Returns the exit status."""
    from tools.timing.against import compare_engines

    nets, steps, burn_in = arguments.nets, arguments.steps, arguments.burn_in
    engines = names_in(arguments.against)
    with progress(nets[0], burn_in + steps, "rounds") as advance:
        record = compare_engines(nets, options, engines, steps, burn_in, advance=advance, on_setup=_report_setup)
    _print_engines(record)
    return _finish(arguments, record, record["engines"])


def _warn_if_busy(result: dict[str, Any]) -> None:
    from tools.runtime import machine

    cores, others = machine.cores(), result["other_load"]
    if others is not None and others > _BUSY * cores:
        print(
            f"slimnets: warning: While {result['net']} was timed, other processes used {others:.1f} of {cores} cores: "
            "repeat the measurement on an idle machine.",
            file=sys.stderr,
        )


def _finish(arguments: argparse.Namespace, record: dict[str, Any], timed: Sequence[dict[str, Any]]) -> int:
    """Writes the JSON file and the plot, and returns the exit status."""
    from tools.runtime import machine

    if arguments.json_file is not None:
        Path(arguments.json_file).write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    series = [(one.get("net") or one["name"], one["durations"]) for one in timed if one["durations"]]
    if arguments.plot is not None and series:
        from tools.timing.plot import draw

        draw(arguments.plot, series, subtitle=machine.one_line(), interrupted=record["interrupted"])
    if record["interrupted"]:
        print("slimnets: interrupted; the figures are of the steps until then", file=sys.stderr)
    return 1 if record["interrupted"] else 0


def _print_networks(record: dict[str, Any]) -> None:
    """Prints a table with a row for each figure and a column for each network; ``record`` is the JSON file's."""
    from tools.runtime import machine

    results, options = record["nets"], record["options"]
    print(machine.one_line())
    print(_what(options))
    columns = [_figures(result, len(results) > 1) for result in results]
    labels = list(dict.fromkeys(label for column in columns for label in column))
    widths = [
        max(len(result["net"]), *map(len, column.values())) for result, column in zip(results, columns, strict=True)
    ]
    header = ["", *(result["net"].rjust(width) for result, width in zip(results, widths, strict=True))]
    rows = (
        [label, *(column.get(label, "-").rjust(width) for column, width in zip(columns, widths, strict=True))]
        for label in labels
    )
    print_table(header, rows)


def _what(options: dict[str, Any]) -> str:
    """Returns one line that says what a step is."""
    words = {"forward": "forward", "forward-backward": "forward and gradients", "train": "training step"}
    parts = [
        words[options["mode"]] + (f" to {options['end_point']}" if options["end_point"] else ""),
        f"batch {options['batch_size']:,}",
        options["precision"],
        *(["XLA"] if options["xla"] else []),
        *(["weights as constants"] if options["freeze"] else []),
        *([options["device"]] if options["device"] else []),
        *([f"{options['threads']} threads"] if options["threads"] else []),
        "images fed" if options["feed"] else "images on the device",
        "results left there",
    ]
    return ", ".join(parts)


_LABELS = {
    "build": "graph built",
    "initialize": "weights initialized",
    "restore": "weights restored",
    "freeze": "weights frozen",
    "first_run": "first run",
    "mean": "mean",
    "median": "median",
    "p5": "5th percentile",
    "p95": "95th percentile",
    "p99": "99th percentile",
    "minimum": "minimum",
    "standard_deviation": "standard deviation",
}


def _figures(result: dict[str, Any], several: bool) -> dict[str, str]:
    """Returns the column of a network: labels and values as they are printed."""
    steps, memory, operations = result["steps"], result["memory"], result["operations"]
    figures = {"images": "x".join(map(str, result["shape"])), "classes": f"{result['num_classes']:,}"}
    figures |= {_LABELS[name]: f"{seconds:.2f} s" for name, seconds in result["seconds"].items()}
    figures[f"steps, after {steps['burn_in']}"] = (
        f"{steps['count']:,} of {steps['asked_for']:,}" if result["interrupted"] else f"{steps['count']:,}"
    )
    figures |= {_LABELS[name]: f"{1000 * steps[name]:,.2f} ms" for name in _LABELS if name in steps}
    figures["images/s, of the median"] = f"{result['images_per_second']:,.1f}"
    figures["GFLOP an image, multiply-adds as 2"] = f"{result['gflop_per_image']:,.3f}"
    figures["GFLOP/s, of the median"] = f"{result['gflop_per_second']:,.1f}"
    if memory["process_peak"] is not None:
        label = "peak memory of the process so far" if several else "peak memory of the process"
        figures[label] = f"{memory['process_peak'] / 1e6:,.0f} MB"
    if memory["device_peak"] is not None:
        figures["peak memory of the device"] = f"{memory['device_peak'] / 1e6:,.0f} MB"
    figures["operations, built"] = f"{operations['before']:,}"
    figures["operations, optimized"] = f"{operations['after']:,}"
    figures |= {f"  {kind}": f"{count:,}" for kind, count in list(operations["new_kinds"].items())[:_KINDS]}
    if result["other_load"] is not None:
        figures["cores that others had"] = f"{result['other_load']:.2f}"
    return figures


def _report_setup(name: str) -> None:
    print(f"{name} is set up ...", file=sys.stderr, flush=True)


def _print_engines(record: dict[str, Any]) -> None:
    from tools.peers import OURS
    from tools.runtime import machine

    options = record["options"]
    print(machine.one_line())
    rounds = max(len(engine["durations"]) for engine in record["engines"])
    print(
        f"{record['net']}, forward, batch {options['batch_size']:,}, {options['precision']}, weights as constants, "
        f"{rounds:,} rounds in turns after {options['burn_in']:,}; ratio: time by {OURS}' time, round by round"
    )
    header = ("engine", "version", "largest difference", "images/s (median)", "ratio (median)", "quartiles")
    timed = [engine for engine in record["engines"] if "ratio" in engine]
    print_table(header, [_engine_row(engine) for engine in timed])
    for engine in record["engines"]:
        if engine["refused"]:
            print(f"{engine['name']}: not compared: {engine['refused']}")


def _engine_row(engine: dict[str, Any]) -> list[object]:
    low, high = engine["ratio"]["quartiles"]
    return [
        engine["name"],
        engine["version"],
        f"{engine['largest_difference']:.2g}",
        f"{engine['images_per_second']:,.1f}",
        f"{engine['ratio']['median']:.3f}",
        f"{low:.3f} to {high:.3f}",
    ]
