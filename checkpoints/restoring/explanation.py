"""Sentences on why a graph and a checkpoint do not fit, with the argument that repairs it."""

import re
from collections.abc import Sequence

from checkpoints.background_class import class_conversion
from checkpoints.diagnosis import Structure, diagnose, sort_names, structures_in
from checkpoints.errors import shortened
from checkpoints.names import SHADOW, is_logits, joined
from checkpoints.restoring.first_kernel import FIRST_KERNELS, is_first_kernel
from checkpoints.restoring.mismatch import Mismatch
from checkpoints.restoring.scopes import kind_of, moved_scopes, offered_scopes, places_in, under_scope

__all__ = ["explain"]

# Names of the variables that an optimizer, a training loop and a moving average add to a graph.
_OF_TRAINING = re.compile(
    rf"/({SHADOW}|Momentum|Adam|RMSProp|Adagrad|Adadelta|Ftrl)(_\d+)?$|(^|/)(global_step|beta\d_power)"
)
# Causes that speak of excluding variables, which the message then names.
_EXCLUDING = re.compile(r"exclude (these|what it lacks)")


def explain(mismatch: Mismatch) -> str:
    """Returns the likely cause and what to do, followed by the names of the variables."""
    cause = _cause(mismatch)
    parts = [f"{mismatch.reader.path} does not fit the graph: {cause}"]
    if mismatch.missing:
        names = shortened(mismatch.missing)
        parts.append(f"{len(mismatch.missing)} of {len(mismatch.shapes)} variables are not in the file: {names}.")
    if mismatch.mismatched:
        shapes = [
            f"{name} {list(here)} here, {list(there)} in the file"
            for name, (here, there) in mismatch.mismatched.items()
        ]
        parts.append(f"{len(mismatch.mismatched)} have another shape: {shortened(shapes)}.")
    if mismatch.superfluous:
        number, names = len(mismatch.superfluous), shortened(mismatch.superfluous)
        without = _without_superfluous(mismatch)
        parts.append(f"{number} variables of the file have no place in the graph's blocks{without}: {names}.")
    if _EXCLUDING.search(cause) and (exclude := mismatch.excluding(mismatch.failing)):
        parts.append(f"What to exclude: {exclude}.")
    return " ".join(parts)


def _without_superfluous(mismatch: Mismatch) -> str:
    if mismatch.failing:
        return ""
    everything = "slim.get_model_variables()" if mismatch.has_model_variables else "tf.compat.v1.global_variables()"
    return f" (variables={everything} restores the graph's without them)"


def _cause(mismatch: Mismatch) -> str:
    """Returns the likely cause and what to do, in one sentence without its beginning."""
    for cause in (
        _only_averages,
        _slots,
        _other_scope,
        _other_channels,
        _other_classes,
        _other_arg_scope,
        _no_aux_logits,
        _moved,
        _no_logits,
    ):
        if sentence := cause(mismatch):
            return sentence
    return _another_network(mismatch)


def _only_averages(mismatch: Mismatch) -> str | None:
    """Explains that the file has moving averages of all, some or none of the variables."""
    contents = sort_names(mismatch.reader.shapes)
    stored = mismatch.places.stored
    if mismatch.ema and not contents.shadows:
        return "the file has no moving averages of the variables; leave ema=True out."
    if not mismatch.ema and any(stored[name] in contents.shadows for name in mismatch.missing):
        without = mismatch.failing_with(ema=True)
        also = mismatch.excluding(without) if len(without) < len(mismatch.failing) else ""
        return (
            "the file has only the moving averages of these variables; give ema=True"
            f"{f', and {also} for those without an average' if without and also else ''}."
        )
    averaged = set(contents.shadows.values())
    unfound = any(stored[name].endswith(f"/{SHADOW}") for name in mismatch.missing)
    if mismatch.ema and unfound and averaged & set(stored.values()):
        exclude = "exclude these" if mismatch.excluding(mismatch.failing) else "take another file"
        leave = "" if mismatch.failing_with(ema=False) else "leave ema=True out, or "
        return f"the file has the moving averages of only some variables; {leave}{exclude}."
    return None


def _slots(mismatch: Mismatch) -> str | None:
    """Explains that only variables of an optimizer or a training loop are missing."""
    missing = mismatch.missing
    if not missing or mismatch.mismatched or not all(_OF_TRAINING.search(name) for name in missing):
        return None
    if mismatch.ema:
        return None  # the names looked up then are those of averages
    repair = mismatch.excluding(mismatch.failing) or "the variables of the network"
    if mismatch.has_model_variables:
        repair = "variables=slim.get_model_variables() for the network's"
    return (
        "the missing variables belong to the optimizer or the training loop, and were not saved; give "
        f"{repair}, and run the initializers of the rest."
    )


def _other_scope(mismatch: Mismatch) -> str | None:
    """Explains that the file has the networks under other scopes."""
    reader, shapes = mismatch.reader, mismatch.shapes
    scopes = offered_scopes(reader, shapes, mismatch.places.renamed)
    if not scopes or not (mismatch.missing or mismatch.superfluous):
        return None
    here, there = structures_in(shapes), structures_in(reader.shapes)
    in_parts = bool(set(scopes) - {ours.scope for ours in here})
    scope = scopes if in_parts or len(here) > 1 else next(iter(scopes.values()))
    if in_parts:
        return f"the file has the network in parts, each under a scope of its own; give scope={scope!r}."
    left = places_in(reader, shapes, scope, mismatch.ema).failing(reader, shapes) - mismatch.excluded
    # Variables of the graph's networks that the file does not have.
    absent = {name for name in left if not any(name.startswith(f"{s}/") or not s for s in scopes)}
    also = mismatch.excluding(absent) if absent and absent == left else ""
    found = ", ".join(repr(each) for each in dict.fromkeys(scopes.values()))
    ours = ", ".join(repr(each) for each in scopes)
    several = "networks" if len(set(scopes.values())) > 1 else "network"
    if len(here) == 1 and len(there) > 1:
        holds = ", ".join(f"{_described(each)} under {each.scope!r}" for each in there)
        return (
            f"the file holds several networks, {holds}: choose one by its scope, scope={scope!r}"
            f"{f', and give {also}' if also else ''}."
        )
    return (
        f"the file has the {several} under the scope {found}, and the graph under {ours}; give scope={scope!r}"
        f"{f', and {also} for what it does not have' if also else ''}."
    )


def _moved(mismatch: Mismatch) -> str | None:
    """Explains that the file has the variables under other scopes, where they make up no network or parts of one."""
    if not mismatch.missing or mismatch.mismatched or mismatch.ema:
        return None
    moved = moved_scopes(mismatch.reader, mismatch.shapes, set(mismatch.shapes) - mismatch.excluded)
    if moved is None:
        return None
    return f"the file has these variables under other scopes; give scope={moved!r}."


def _other_channels(mismatch: Mismatch) -> str | None:
    """Explains that the file is for images of another number of channels."""
    for name, (here, there) in mismatch.mismatched.items():
        if not is_first_kernel(name) or len(here) != len(there) or len(here) != 4 or here[2] == there[2]:
            continue
        grey = ", which preprocessing='grayscale' makes" if there[2] == 1 else ""
        channels = "1 channel" if there[2] == 1 else f"{there[2]} channels"
        kernels = " or ".join(f"first_kernel={way!r}" for way in FIRST_KERNELS)
        exclude = mismatch.excluding({each for each in mismatch.mismatched if is_first_kernel(each)})
        train = f", or {exclude} to train one of your own" if exclude else ""
        return (
            f"the file is for images of {channels}, and the graph has {here[2]}; build the network on such "
            f"images{grey}, or give {kernels}, which convert the first kernel{train}."
        )
    return None


def _other_classes(mismatch: Mismatch) -> str | None:
    """Explains that the logits have another number of classes."""
    mismatched = mismatch.mismatched
    if mismatch.missing or not mismatched or not all(map(is_logits, mismatched)):
        return None
    if any(len(here) != len(there) for here, there in mismatched.values()) or _shares_scope(mismatch, set(mismatched)):
        return None  # the file's logits have another rank, or their weights and biases do not agree
    here, there = ({shapes[side][-1] for shapes in mismatched.values()} for side in (0, 1))
    if len(there) > 1 and len(structures_in(mismatch.shapes)) < 2:
        return None
    classes, stored = (" and ".join(map(str, sorted(numbers))) for numbers in (here, there))
    exclude = mismatch.excluding(mismatch.failing)
    repairs = [f"build the network with num_classes={stored}"] if len(there) == 1 else []
    if len(here) == len(there) == 1 and (found := class_conversion(*there, *here)):
        repairs.append(f"give num_classes={classes}, which {found.effect}")
    elif exclude:
        repairs.append(f"give {exclude} to train logits of your own")
    return f"the graph has {classes} classes and the file {stored}; {', or '.join(repairs)}."


def _no_logits(mismatch: Mismatch) -> str | None:
    """Explains that the file has neither weights nor biases of the logits."""
    missing = mismatch.missing
    if not missing or mismatch.mismatched or not all(map(is_logits, missing)) or _shares_scope(mismatch, set(missing)):
        return None
    exclude = mismatch.excluding(mismatch.failing)
    train = f", or give {exclude} and train them" if exclude else ""
    return f"the file has no logits; build with num_classes=None{train}."


def _shares_scope(mismatch: Mismatch, names: set[str]) -> bool:
    """Returns whether other variables, which fit, lie in the scopes of these."""
    scopes = {name.rpartition("/")[0] for name in names}
    return any(name.rpartition("/")[0] in scopes for name in set(mismatch.shapes) - names - mismatch.excluded)


def _other_arg_scope(mismatch: Mismatch) -> str | None:
    """Explains that one side has biases in the place of the other side's batch norms."""
    in_file = mismatch.reader.shapes
    stored = [mismatch.places.renamed[name] for name in mismatch.missing]
    biases = [name for name in stored if name.endswith("/biases")]
    if any(name.removesuffix("biases") + "BatchNorm/beta" in in_file for name in biases):
        scope = _arg_scope_of(biases)
        return f"the graph was built without its arg scope; build it under slim.arg_scope({scope}())."
    norms = [name for name in stored if name.endswith("/BatchNorm/beta")]
    if any(name.removesuffix("BatchNorm/beta") + "biases" in in_file for name in norms):
        return (
            "the file's network has no batch norm; build it under "
            f"slim.arg_scope({_arg_scope_of(norms)}(use_batch_norm=False))."
        )
    return None


def _arg_scope_of(names: Sequence[str]) -> str:
    """Returns the name of the function that makes the arg scope of a network with such variables."""
    return "inception_arg_scope" if any(re.search(r"(^|/)Mixed_\d", name) for name in names) else "resnet_arg_scope"


def _no_aux_logits(mismatch: Mismatch) -> str | None:
    """Explains that the file has no auxiliary logits, or those of images of another size."""
    missing = mismatch.missing
    if not missing or mismatch.mismatched or not all("AuxLogits/" in name for name in missing):
        return None
    stored = [name for name in mismatch.reader.shapes if "AuxLogits/" in name]
    exclude = mismatch.excluding({name for name in mismatch.shapes if "AuxLogits/" in name})
    train = f", or give {exclude} and train them" if exclude else ""
    lack = "the file has no auxiliary logits"
    if stored:
        lack = "the file's auxiliary logits have kernels for images of another size"
    return f"{lack}; build with create_aux_logits=False{train}."


def _another_network(mismatch: Mismatch) -> str:
    """Says which network the file holds, and which one the graph."""
    in_file = diagnose(mismatch.reader)
    here = structures_in(mismatch.shapes)
    if not in_file.structures or (in_file.graph and in_file.problems):
        return "the file " + in_file.problems[0].sentence.removeprefix(f"{mismatch.reader.path} ")
    built = ", ".join(_described(ours) for ours in here) or "none of the known networks"
    if in_file.structure is None and not (same := _same_place(mismatch, here, in_file.structures)):
        held = ", ".join(f"{_described(theirs)} under {theirs.scope!r}" for theirs in in_file.structures)
        return f"the file holds {held}, and the graph {built}; build what is in the file."
    theirs = in_file.structure or same[1]
    same = [ours for ours in here if kind_of(ours) == kind_of(theirs)]
    classes = f"{theirs.num_classes} classes" if theirs.num_classes else "no logits"
    if not same:
        held = f"{_described(theirs)} with {classes}"
        return f"the file holds a {held}, and the graph {built}; build what is in the file."
    if theirs.faults:
        return f"the file holds a {_described(theirs)}, but {_fault(mismatch, same[0], theirs)}."
    can_exclude = mismatch.excluding(mismatch.failing) and not mismatch.superfluous
    if mismatch.mismatched and not mismatch.missing:
        exclude = ", or exclude these" if can_exclude else ""
        return f"the file's {_described(theirs)} has kernels of other shapes; take the original file{exclude}."
    options = "".join(f", {name}={value!r}" for name, value in theirs.options.items())
    exclude = ", or exclude what it lacks" if can_exclude else ""
    return f"the file holds a {_described(theirs)} with {classes}{options}; build that network{exclude}."


def _same_place(
    mismatch: Mismatch, here: Sequence[Structure], there: Sequence[Structure]
) -> tuple[Structure, Structure] | None:
    """Returns a network of the graph with failing variables, and the file's network in which they were looked up."""
    for ours in here:
        inside = [name for name in mismatch.shapes if name.startswith(joined(ours.scope, ""))]
        if not any(name in mismatch.failing for name in inside) and not mismatch.superfluous:
            continue
        for theirs in there:
            place = joined(theirs.scope, "")
            if kind_of(ours) == kind_of(theirs) and all(
                mismatch.places.renamed[name].startswith(place) for name in inside
            ):
                return ours, theirs
    return None


def _fault(mismatch: Mismatch, ours: Structure, theirs: Structure) -> str:
    """Returns the first fault of the file's network, in terms of the graph's names."""
    prefix = joined(theirs.scope, "")
    named = {
        under_scope(name, theirs.scope, ours.scope): shape
        for name, shape in mismatch.reader.shapes.items()
        if name.startswith(prefix)
    }
    faults = [found.faults for found in structures_in(named) if found.scope == ours.scope and found.faults]
    return faults[0][0] if faults else theirs.faults[0]


def _described(structure: Structure) -> str:
    if structure.network is not None:
        return structure.network.name
    if structure.unit_scope is None:
        return f"network of the family {structure.family}"
    return f"{structure.family} of {' '.join(map(str, structure.units))} units"
