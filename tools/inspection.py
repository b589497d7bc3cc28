"""``slimnets inspect``: what a checkpoint is, and what is wrong with it."""

import json
import math
from typing import Any

from checkpoints import Diagnosis, diagnose, open_checkpoint
from checkpoints.files import CheckpointError
from checkpoints.naming import joined
from checkpoints.store import resolve
from checkpoints.structure import model_shapes
from tools.options import as_options
from tools.progress import progress
from tools.tables import print_table

__all__ = ["inspect", "record"]


def inspect(
    path: str,
    *,
    net: str | None = None,
    num_classes: int | None = None,
    scope: str | None = None,
    variables: bool = False,
    check: bool = False,
    as_json: bool = False,
    checkpoint_dir: str | None = None,
) -> int:
    """The command: prints what is known of a file, and returns 0 if it can be used as it is, otherwise 1."""
    found = _diagnosed(str(resolve(path, checkpoint_dir)), check, net=net, num_classes=num_classes, scope=scope)
    if as_json:
        print(json.dumps(record(found, check, variables), indent=2))
    else:
        _print(found, check, variables)
    return 0 if found.usable else 1


def _diagnosed(path: str, check: bool, **wanted: Any) -> Diagnosis:
    if not check:
        return diagnose(path, **wanted)
    try:
        reader = open_checkpoint(path)
    except CheckpointError:
        return diagnose(path, **wanted)
    with progress("check", len(reader.shapes), "variables") as advance:
        return diagnose(reader, check=True, advance=advance, **wanted)


def record(found: Diagnosis, checked: bool, variables: bool) -> dict[str, Any]:
    """What ``slimnets inspect --json`` prints; ``variables`` adds the stored names, shapes and dtypes."""
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
        "options": found.options,
        "converted_from": found.notes.source if found.notes else None,
        "networks": {each.scope: each.network.name if each.network else each.family for each in found.structures},
        "parameters": _parameters(found),
        "extras": {label: len(names) for label, names in found.contents.extras.items()},
        "moving_averages": len(found.contents.shadows),
        "other_variables": len(_others(found)),
        "checked": checked,
        "problems": [{"kind": kind, "sentence": as_options(sentence)} for kind, sentence in found.problems],
    }
    if variables:
        result["variables"] = [
            {"name": name, "shape": shape, "dtype": found.dtypes[name]} for name, shape in found.shapes.items()
        ]
    return result


def _parameters(found: Diagnosis) -> int | None:
    """Of the network, with moving statistics."""
    if found.structure is None:
        return None
    prefix = joined(found.structure.scope, "")
    return sum(math.prod(shape) for name, shape in model_shapes(found.shapes).items() if name.startswith(prefix))


def _others(found: Diagnosis) -> list[str]:
    """Variables outside of the networks."""
    prefixes = tuple(joined(structure.scope, "") for structure in found.structures)
    return [name for name in found.contents.variables if not prefixes or not name.startswith(prefixes)]


def _print(found: Diagnosis, checked: bool, variables: bool) -> None:
    for label, value in _facts(found):
        print(f"{label:<14}{value}")
    for problem in found.problems:
        print(f"{'problem':<14}{as_options(problem.sentence)}")
    if found.usable:
        damage = "without damage" if checked else "not looked for damage; --check does"
        print(f"{'usable':<14}as it is ({damage})")
    if variables and found.shapes:
        print()
        rows = [
            (name, "x".join(map(str, shape)) or "scalar", found.dtypes[name]) for name, shape in found.shapes.items()
        ]
        print_table(("name", "shape", "dtype"), rows)


def _facts(found: Diagnosis) -> list[tuple[str, str]]:
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
        if found.network:
            colours = "" if structure.channels in (None, 3) else f", images of {structure.channels} channels"
            facts.append(("input", f"preprocessing {found.preprocessing} at {found.image_size}{colours}"))
        facts.append(("parameters", f"{_parameters(found):,}, moving statistics included"))
    if found.notes:
        facts.append(("converted", f"from {found.notes.source['file']} ({found.notes.source['kind']})"))
    if extras := [f"{label} ({len(names)})" for label, names in found.contents.extras.items()]:
        facts.append(("besides", ", ".join(extras)))
    if found.contents.shadows:
        facts.append(("averages", f"of {len(found.contents.shadows)} variables, which --ema restores"))
    if others := _others(found):
        facts.append(("others", f"{len(others)} variables outside of the network, such as {others[0]}"))
    return facts
