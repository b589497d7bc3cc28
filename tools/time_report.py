"""The table of ``slimnets time``."""

from typing import Any

from tools import machine
from tools.tables import print_table

__all__ = ["print_report"]

# Kinds of fused and other new operations that are listed.
_KINDS = 4


def print_report(record: dict[str, Any]) -> None:
    """Prints the table: a row a figure, a column a network.

    Args:
      record: as ``slimnets time --json`` writes it.
    """
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
    """What a step is, in a line."""
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
    """From labels to values, as they are printed."""
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
