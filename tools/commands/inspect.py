"""``slimnets inspect``: prints which network a checkpoint holds, and what is wrong with it."""

import argparse
import json
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from tools.commands.arguments import add_checkpoint_dir
from tools.terminal.network_input import described_input
from tools.terminal.option_names import as_options
from tools.terminal.progress import progress
from tools.terminal.tables import print_table
from tools.terminal.visible import visible

if TYPE_CHECKING:
    from checkpoints import Diagnosis

__all__ = ["add", "record"]


def add(commands: argparse._SubParsersAction) -> None:
    """Adds the command to the parser."""
    parser = commands.add_parser("inspect", help="show which network a checkpoint holds, and what is wrong with it")
    parser.add_argument(
        "path", metavar="PATH", help="checkpoint: a file, a folder, or a key that `slimnets weights` lists"
    )
    parser.add_argument("--net", metavar="NAME", help="network that you expect in the file")
    parser.add_argument("--num-classes", type=int, metavar="N", help="number of classes that you expect")
    parser.add_argument(
        "--scope", metavar="SCOPE", help="variable scope of the network to inspect, if the file has several"
    )
    parser.add_argument("--variables", action="store_true", help="list the names, shapes and dtypes of the variables")
    parser.add_argument("--check", action="store_true", help="read all values and look for damage")
    parser.add_argument("--json", action="store_true", dest="as_json", help="print JSON")
    add_checkpoint_dir(parser)
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> int:
    wanted = {name: getattr(arguments, name) for name in ("net", "num_classes", "scope")}
    found = _diagnosed(arguments.path, arguments.checkpoint_dir, arguments.check, **wanted)
    if arguments.as_json:
        print(json.dumps(record(found, arguments.check, arguments.variables), indent=2))
    else:
        _print(found, arguments.check, arguments.variables)
    return 0 if found.usable else 1


def _diagnosed(path: str, checkpoint_dir: str | None, check: bool, **wanted: Any) -> "Diagnosis":
    from checkpoints import CheckpointError, diagnose, open_checkpoint
    from checkpoints.published import resolve

    try:
        reader = open_checkpoint(path, checkpoint_dir=checkpoint_dir)
    except CheckpointError:
        return diagnose(resolve(path, checkpoint_dir), **wanted)  # which tells what the file is instead
    if not check:
        return diagnose(reader, **wanted)
    with progress("check", len(reader.shapes), "variables") as advance:
        return diagnose(reader, check=True, advance=advance, **wanted)


def record(found: "Diagnosis", checked: bool, variables: bool) -> dict[str, Any]:
    """Returns what ``slimnets inspect --json`` prints. ``variables=True`` adds names, shapes and dtypes."""
    structure = found.structure
    result = {
        "path": str(found.path),
        "usable": found.usable,
        "format": found.format,
        "object_based": found.object_based,
        "net": found.network.name if found.network else None,
        "family": structure.family if structure else None,
        "units": structure.units if structure else None,
        "base_depths": structure.base_depths if structure else None,
        "scope": found.scope,
        "num_classes": found.num_classes,
        "background_class": found.background_class,
        "channels": structure.channels if structure else None,
        "preprocessing": found.preprocessing,
        "image_size": found.image_size,
        "input_known": found.input_known,
        "labels": found.labels,
        "options": found.options,
        "converted_from": found.notes.source if found.notes else None,
        "networks": {each.scope: each.network.name if each.network else each.family for each in found.structures},
        "parameters": _parameters(found),
        "extras": {label: len(names) for label, names in found.contents.extras.items()},
        "moving_averages": len(found.contents.shadows),
        "other_variables": len(_others(found)),
        "graph": _graph_record(found),
        "checked": checked,
        "problems": [{"kind": kind, "sentence": as_options(sentence)} for kind, sentence in found.problems],
    }
    if variables:
        result["variables"] = [
            {"name": name, "shape": shape, "dtype": found.dtypes[name]} for name, shape in found.shapes.items()
        ]
    return result


def _graph_record(found: "Diagnosis") -> dict[str, Any] | None:
    """Returns the inputs of a graph and its end points; None for a checkpoint."""
    if found.graph is None:
        return None
    end_points = _end_points(found)
    return {
        "nodes": len(found.graph.nodes),
        "inputs": [each._asdict() for each in found.graph.inputs],
        "end_points": {alias: node for alias, node in end_points.items() if node},
        "end_points_not_in_it": [alias for alias, node in end_points.items() if not node],
    }


def _end_points(found: "Diagnosis") -> dict[str, str | None]:
    """Returns the aliases of the network's end points, each with the graph's node; None for one not in the graph."""
    from nets.node_names import find_end_points

    if found.network is None:
        return {}
    channels = found.structure.channels
    return find_end_points(found.network, found.graph.nodes, channels=channels, **found.builder_arguments)


def _graph_facts(found: "Diagnosis") -> list[tuple[str, str]]:
    """Returns the lines on a graph: its inputs, and its end points, of which those inside of blocks are counted."""
    shapes = [
        f"{each.name}, {each.dtype}" + ("" if each.shape is None else f" {_sizes(each.shape)}")
        for each in found.graph.inputs
    ]
    facts = [("placeholder", "; ".join(shapes) or "none")]
    if end_points := _end_points(found):
        there = [alias for alias, node in end_points.items() if node]
        outer = [alias for alias in there if "/" not in alias]
        gone = [alias for alias, node in end_points.items() if not node and "/" not in alias]
        lacks = f"; not {', '.join(gone)}" if gone else ""
        facts.append(("end points", f"{len(there)} of {len(end_points)}: {', '.join(outer) or 'none'}{lacks}"))
    return facts


def _sizes(shape: Sequence[int | None]) -> str:
    return f"[{', '.join('?' if size is None else str(size) for size in shape)}]"


def _parameters(found: "Diagnosis") -> int | None:
    """Returns the number of parameters of the network, including moving statistics."""
    if found.structure is None:
        return None
    from checkpoints.diagnosis import model_shapes
    from checkpoints.names import joined

    prefix = joined(found.structure.scope, "")
    return sum(math.prod(shape) for name, shape in model_shapes(found.shapes).items() if name.startswith(prefix))


def _others(found: "Diagnosis") -> list[str]:
    """Returns the names of variables outside of the networks."""
    from checkpoints.names import joined

    prefixes = tuple(joined(structure.scope, "") for structure in found.structures)
    return [name for name in found.contents.variables if not prefixes or not name.startswith(prefixes)]


def _print(found: "Diagnosis", checked: bool, variables: bool) -> None:
    for label, value in _facts(found):
        print(visible(f"{label:<14}{value}"))
    for problem in found.problems:
        print(visible(f"{'problem':<14}{as_options(problem.sentence)}"))
    if found.usable:
        damage = "without damage" if checked else "not looked for damage; --check does"
        print(f"{'usable':<14}as it is ({damage})")
    if variables and found.shapes:
        print()
        rows = [
            (name, "x".join(map(str, shape)) or "scalar", found.dtypes[name]) for name, shape in found.shapes.items()
        ]
        print_table(("name", "shape", "dtype"), rows)


def _facts(found: "Diagnosis") -> list[tuple[str, str]]:
    from checkpoints.errors import shortened

    kind = f"{found.format or 'unknown'}{', object-based' if found.object_based else ''}"
    facts = [("file", str(found.path)), ("format", kind)]
    structure = found.structure
    if structure:
        name = found.network.name if found.network else f"a {structure.family} that is not in the table"
        options = "".join(f", {option}={value!r}" for option, value in found.options.items())
        facts.append(("network", f"{name}{options}"))
        facts.append(("scope", found.scope or "none"))
        background = {True: ", class 0 is the background", False: ", without a background", None: ""}
        classes = f"{found.num_classes:,}{background[found.background_class]}" if found.num_classes else "no logits"
        facts.append(("classes", classes))
        if found.labels:
            facts.append(("labels", shortened(found.labels)))
        if found.network:
            colours = "" if structure.channels in (None, 3) else f", images of {structure.channels} channels"
            facts.append(("input", f"{described_input(found)}{colours}"))
        facts.append(("parameters", f"{_parameters(found):,}, moving statistics included"))
    if found.graph:
        facts += _graph_facts(found)
    if found.notes and found.notes.source:
        facts.append(("converted", f"from {found.notes.source['file']} ({found.notes.source['kind']})"))
    if extras := [f"{label} ({len(names)})" for label, names in found.contents.extras.items()]:
        facts.append(("besides", ", ".join(extras)))
    if found.contents.shadows:
        facts.append(("averages", f"of {len(found.contents.shadows)} variables, which --ema restores"))
    if others := _others(found):
        facts.append(("others", f"{len(others)} variables outside of the network, such as {others[0]}"))
    return facts
