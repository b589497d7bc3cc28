"""What the names and shapes of stored variables make up: networks, and what a training run leaves beside them."""

import math
import re
from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Mapping
from typing import Any, NamedTuple

from nets.nets_factory import NETWORKS, Network

__all__ = [
    "SHADOW",
    "Contents",
    "Shapes",
    "Structure",
    "joined",
    "networks_in",
    "sort_names",
    "structures_in",
]

Shapes = Mapping[str, tuple[int, ...]]

# What tf.Variable.name ends in, and the names in a checkpoint do not.
_OUTPUT = ":0"

# The last part of the name that tf.train.ExponentialMovingAverage gives a variable's average, its shadow.
SHADOW = "ExponentialMovingAverage"

# A variable of a unit: slim's names, whose units count from 1, and those of tensorflow/models' networks for small
# images, whose units count from 0.
_UNITS = (
    (re.compile(r"^(?:(?P<scope>.+)/)?block(?P<block>\d+)/unit_(?P<unit>\d+)/(?P<unit_scope>[^/]+)/(?P<rest>.+)"), 1),
    (re.compile(r"^(?:(?P<scope>.+)/)?unit_(?P<block>\d+)_(?P<unit>\d+)/(?P<unit_scope>[^/]+)/(?P<rest>.+)"), 0),
)
# The first kernel of a block's first unit, the network's first kernel and its last normalization, where these are not
# what they are in most families.
_FIRST_KERNEL = {"sub1": "unit_{block}_0/sub1/conv1/DW"}
_ROOT = {"sub1": "init/init_conv/DW"}
_ROOT_KERNEL = {"sub1": (3, 16), "identity": (3, 64)}  # its size and outputs
_LAST_NORM = {"bottleneck_v2": "postnorm", "sub1": "unit_last/final_bn"}
# Of resnet_basic: by whether the first two units of block1, and the first of block2, have a projection.
_SHORTCUTS = {
    (False, False, False): "A",
    (False, False, True): "B",
    (True, True, True): "C",
    (True, False, True): "first_unit",
}
# The families whose logits are a 1x1 convolution, and not a matrix product.
_CONVOLUTIONAL_LOGITS = ("resnet_v1", "resnet_v2", "resnet_basic")
_LOGITS = ("logits/weights", "logit/DW")
_STATISTICS = ("moving_mean", "moving_variance")
_NORM = ("beta", "gamma", *_STATISTICS)

_BOOKKEEPING = (
    (re.compile(r"(?:^|/)global_step$"), "global_step"),
    (re.compile(r"(?:^|/)mean_rgb$"), "mean_rgb"),
    (re.compile(r"(?:^|/)beta[12]_power(?:_\d+)?$"), "beta powers (Adam)"),
)


class Contents(NamedTuple):
    """The stored names, sorted by what they are.

    variables: neither of the rest: the network's, or another part's of the same model.
    shadows: from variables' names to those of their moving averages.
    extras: from what a training run leaves besides ('global_step', 'mean_rgb', 'slots Momentum', ...) to the names.
    """

    variables: tuple[str, ...]
    shadows: dict[str, str]
    extras: dict[str, tuple[str, ...]]


class Structure(NamedTuple):
    """A residual network, as far as its variables tell.

    scope: variable scope of the network.
    unit_scope: variable scope inside of a unit's, such as 'bottleneck_v2'.
    network: of the table of networks; None for one of a known family and of other dimensions.
    family: module of ``nets`` that builds such units.
    blocks: their numbers; 1, 2, 3 and so on where the file is whole.
    units: a block.
    base_depths: channels inside the units of each block.
    num_classes: of its logits; 0 where it has none.
    channels: of its images; None where the first kernel is missing.
    options: further arguments of the network's builder.
    faults: clauses that say why a builder of ``nets`` makes other variables than these, each with what to do.
    """

    scope: str
    unit_scope: str
    network: Network | None
    family: str
    blocks: tuple[int, ...]
    units: tuple[int, ...]
    base_depths: tuple[int, ...]
    num_classes: int
    channels: int | None
    options: dict[str, Any]
    faults: tuple[str, ...]


def joined(scope: str, name: str) -> str:
    """The name under a scope, which may be none ('')."""
    return f"{scope}/{name}" if scope else name


def block_of(name: str) -> tuple[str, int] | None:
    """(scope of the network, number of the block) of a variable of this name; None for one that is in no block."""
    for pattern, _ in _UNITS:
        if match := pattern.match(name):
            return match["scope"] or "", int(match["block"])
    return None


def sort_names(names: Collection[str]) -> Contents:
    """Tells variables from what an optimizer, a moving average and a training loop keep of them."""
    present = set(names)
    variables, shadows = [], {}
    extras: dict[str, list[str]] = defaultdict(list)
    companions: dict[str, dict[str, str]] = defaultdict(dict)
    for name in sorted(present):
        parent, _, leaf = name.rpartition("/")
        leaf = re.sub(r"_\d+$", "", leaf)
        if label := next((label for pattern, label in _BOOKKEEPING if pattern.search(name)), None):
            extras[label].append(name)
        elif leaf == SHADOW:
            shadows[_owner(parent, present) or parent] = name
        elif owner := _owner(parent, present):
            companions[leaf][owner] = name
            extras[f"slots {leaf}"].append(name)
        else:
            variables.append(name)
    for leaf, owned in companions.items():
        # An optimizer has nothing to keep of moving statistics, and what corrects their bias has nothing to keep of the
        # rest; a moving average of another name has of both.
        of_statistics = {owner.endswith(_STATISTICS) for owner in owned}
        if of_statistics == {True, False}:
            shadows |= owned
            del extras[f"slots {leaf}"]
    return Contents(tuple(variables), shadows, {label: tuple(found) for label, found in extras.items()})


def _owner(name: str, present: set[str]) -> str | None:
    """The variable that a companion is kept of; an optimizer that was made under a scope repeats its name there."""
    while name and name not in present:
        name = name.partition("/")[2]
    return name or None


def networks_in(shapes: Shapes) -> dict[str, Network]:
    """From its scope to each network of the table that variables of these names and shapes make up."""
    return {found.scope: found.network for found in structures_in(shapes) if found.network is not None}


def structures_in(shapes: Shapes) -> list[Structure]:
    """The residual networks that variables of these names and shapes make up, in the order of their scopes."""
    contents = sort_names(shapes)
    # A variable's average has its shape, and may have been saved without it.
    stored = {name: shapes[shadow] for name, shadow in contents.shadows.items()}
    # Not of variable.op.name, but of variable.name.
    stored |= {name.removesuffix(_OUTPUT): shapes[name] for name in contents.variables}
    families = {network.unit_scope: network.family for network in NETWORKS.values()}
    found: dict[tuple[str, str], dict[tuple[int, int], set[str]]] = defaultdict(lambda: defaultdict(set))
    for name in stored:
        for pattern, first in _UNITS:
            if match := pattern.match(name):
                unit = int(match["block"]), int(match["unit"]) - first
                found[match["scope"] or "", match["unit_scope"]][unit].add(match["rest"])
    return [
        _structure(scope, unit_scope, families[unit_scope], units, stored)
        for (scope, unit_scope), units in sorted(found.items())
        if unit_scope in families
    ]


def _structure(
    scope: str, unit_scope: str, family: str, units: Mapping[tuple[int, int], set[str]], shapes: Shapes
) -> Structure:
    counts: Counter[int] = Counter()
    for block, unit in units:
        counts[block] = max(counts[block], unit + 1)
    first_kernel = _FIRST_KERNEL.get(unit_scope, f"block{{block}}/unit_1/{unit_scope}/conv1/weights")
    names = [joined(scope, first_kernel.format(block=block)) for block in sorted(counts)]
    kernels = [shapes.get(name, ()) for name in names]
    # The normalization of a kernel's outputs has one number for each.
    norms = [shapes.get(name.removesuffix("weights") + "BatchNorm/beta") for name in names]
    base_depths = tuple(
        norm[0] if norm else kernel[-1] if len(kernel) == 4 else 0 for norm, kernel in zip(norms, kernels, strict=True)
    )
    root = shapes.get(joined(scope, _ROOT.get(unit_scope, "conv1/weights")), ())
    logits = next((shape for name in _LOGITS if (shape := shapes.get(joined(scope, name)))), None)
    # All below the network's scope, and relative to it.
    within = {name.removeprefix(joined(scope, "")) for name in shapes if name.startswith(joined(scope, ""))}
    outer = shapes.get(joined(scope, f"block{min(counts)}/unit_1/{unit_scope}/conv3/weights"), (0,))[-1]
    plain = outer in (0, 4 * base_depths[0])  # as bottlenecks are, but for those of wide networks
    counted = tuple(counts[block] for block in sorted(counts))
    network, options = _network(unit_scope, counted, base_depths, kernels[0], root) if plain else (None, {})
    relative = {name: shapes[joined(scope, name)] for name in within}
    options |= _options(unit_scope, within)
    shape_faults = tuple(_shape_faults(relative, family, scope))
    # What is missing is not what is wrong where shapes are.
    faults = shape_faults or tuple(_faults(unit_scope, units, counts, within))
    if network is not None and not faults and not options.keys() - {"activate_before_residual"}:
        faults = tuple(_count_faults(relative, network))
    return Structure(
        scope,
        unit_scope,
        network,
        family,
        blocks=tuple(sorted(counts)),
        units=counted,
        base_depths=base_depths,
        num_classes=logits[-1] if logits else 0,
        channels=root[-2] if len(root) == 4 else None,
        options=options,
        faults=faults,
    )


def _network(
    unit_scope: str,
    units: tuple[int, ...],
    base_depths: tuple[int, ...],
    kernel: tuple[int, ...],
    root: tuple[int, ...],
) -> tuple[Network | None, dict[str, Any]]:
    """The network of these dimensions, and the builder's arguments that make it so."""
    for network in NETWORKS.values():
        variant = network.variant
        size = 1 if variant.bottleneck else 3
        if (network.unit_scope, variant.units) != (unit_scope, units) or kernel[:2] not in ((size, size), ()):
            continue
        if base_depths == variant.base_depths:
            return network, {}
        multiplier = base_depths[0] / variant.base_depths[0]
        scaled = tuple(int(depth * multiplier) for depth in variant.base_depths)
        # The multiplier is of the blocks alone.
        if network.family == "resnet_v1" and multiplier and base_depths == scaled and root[-1:] == (64,):
            return network, {"depth_multiplier": multiplier}
    return None, {}


def _options(unit_scope: str, names: set[str]) -> dict[str, Any]:
    """The builder's arguments that these names of variables, relative to its scope, call for."""
    if unit_scope == "basic":
        projected = [f"block{unit}/basic/shortcut/weights" in names for unit in ("1/unit_1", "1/unit_2", "2/unit_1")]
        return {"shortcut": _SHORTCUTS.get(tuple(projected), "B")}
    if unit_scope == "sub1":
        scopes = {name.rpartition("/init_bn/")[0] for name in names}
        shared = [bool({f"unit_{i}_0/shared_activation", f"unit_{i}_0/common_bn_relu"} & scopes) for i in (1, 2, 3)]
        return {"activate_before_residual": tuple(shared)}
    return {}


def _faults(
    unit_scope: str, units: Mapping[tuple[int, int], set[str]], counts: Mapping[int, int], names: set[str]
) -> Iterator[str]:
    """Why these names, relative to the network's scope, are not those that a builder makes."""
    yield from _norm_faults(names)
    lacking = [f"{block}/{unit + 1}" for block in counts for unit in range(counts[block]) if (block, unit) not in units]
    # Every unit has the same layers but for its shortcut; the networks for small images share some with it.
    layers = {
        key: {name for name in parts if not name.startswith("shortcut/") and not name.endswith(_NORM)}
        for key, parts in units.items()
    }
    seen = Counter(name for parts in layers.values() for name in parts)
    everywhere = {name for name, times in seen.items() if 2 * times > len(layers)} if unit_scope != "sub1" else set()
    lacking += [f"{block}/{unit + 1}" for (block, unit), parts in sorted(layers.items()) if everywhere - parts]
    if sorted(counts) != list(range(1, len(counts) + 1)):
        yield f"it has no block{min(set(range(1, max(counts))) - set(counts))}: take the whole checkpoint"
    if lacking:
        yield (
            f"it is only a part, and lacks variables of {len(lacking)} units (block/unit {', '.join(lacking[:5])}): "
            "take the whole checkpoint"
        )
    root = _ROOT.get(unit_scope, "conv1/weights")
    if root not in names:
        if "conv1_1/weights" in names:
            yield (
                "its first layer is three 3x3 convolutions (DeepLab's 'beta' variant), and slim's one of 7x7: "
                "build the root yourself, with include_root_block=False, or take the plain variant"
            )
        else:
            yield f"it lacks {root}, the first layer: take the whole checkpoint, or build with include_root_block=False"
    last = _LAST_NORM.get(unit_scope)
    if (
        last is not None
        and not _convolutions_without_norm(names)
        and not any(f"{last}/{leaf}" in names for leaf in _NORM)
    ):
        yield f"it lacks {last}, the last normalization: take the whole checkpoint"
    for weights in _LOGITS:
        biases = weights.rpartition("/")[0] + "/biases"
        if weights in names and biases not in names:
            yield f"it lacks {biases}: exclude the logits, or take the whole checkpoint"


def _norm_faults(names: set[str]) -> Iterator[str]:
    layers = {leaf: {n.rpartition("/")[0] for n in names if n.rpartition("/")[2] == leaf} for leaf in _NORM}
    everywhere = set.union(*layers.values())
    if any(scope.endswith("GroupNorm") for scope in everywhere):
        yield "it has group norms and no batch norms, another network: build it yourself, and restore that"
    elif not everywhere or _convolutions_without_norm(names):
        yield (
            "it has no batch norm: build it yourself, under resnet_arg_scope(use_batch_norm=False), and restore that"
        )
    elif not layers["moving_mean"] and not layers["moving_variance"]:
        yield (
            "it has no moving statistics, as only trainable variables were saved: save tf.global_variables(), or "
            "estimate the statistics on data; without them there is no inference"
        )
    elif not layers["gamma"]:
        yield (
            "its batch norms have no gamma: build it yourself, under resnet_arg_scope(batch_norm_scale=False), and "
            "restore that"
        )
    elif not layers["beta"]:
        yield "its batch norms have no beta: build it yourself, with center=False for batch_norm, and restore that"
    else:
        for leaf in _NORM:
            if lacking := sorted(everywhere - layers[leaf]):
                yield f"it lacks {leaf} of {len(lacking)} batch norms, such as {lacking[0]}: take the whole checkpoint"


def _convolutions_without_norm(names: set[str]) -> bool:
    """Whether slim's units have convolutions and none of them a batch norm."""
    inside = [name for name in names if name.startswith("block") and "/conv1/" in name]
    return bool(inside) and not any("/conv1/BatchNorm/" in name for name in inside)


def _count_faults(shapes: Shapes, network: Network) -> Iterator[str]:
    """Whether there are as many numbers as in the network, its classes and the channels of its images apart."""
    apart = re.compile(r"(conv1|init/init_conv)/(weights|DW)|logits?/.*")
    parts = re.compile(r"(conv\d|init|block\d+|unit_\w+|postnorm)/")
    found = sum(math.prod(shape) for name, shape in shapes.items() if parts.match(name) and not apart.fullmatch(name))
    variant = network.variant
    size, outputs = _ROOT_KERNEL.get(network.unit_scope, (7, 64))
    # A bottleneck's last layer has four times as many channels as its others.
    width = variant.base_depths[-1] * (4 if variant.bottleneck else 1)
    root = size * size * network.channels * outputs
    expected = network.parameters - root - (width + 1) * network.num_classes
    if found != expected:
        yield (
            f"it has {found:,} parameters before the logits, and a {network.name} {expected:,}, so that some are "
            "missing, of another shape, or not its own: take the original file"
        )


def _shape_faults(shapes: Shapes, family: str, network_scope: str) -> Iterator[str]:
    """Why variables of these shapes, by names relative to the network's scope, are not those that a builder makes."""
    root = shapes.get("conv1/weights", ())
    if len(root) == 4 and root[-2:] == (7, 7):
        yield "its kernels are in PyTorch's order (OIHW): transpose them by (2, 3, 1, 0), and save that"
        return
    for name, shape in shapes.items():
        scope, _, leaf = name.rpartition("/")
        norm = shapes.get(f"{scope}/BatchNorm/beta")
        if leaf in _NORM and len(shape) != 1:
            yield f"{name} is {list(shape)}, and should have one axis: take the original file"
        elif leaf == "weights" and norm and shape[-1:] != norm:
            yield f"{name} has {shape[-1]} outputs, and its batch norm {norm[0]}: take the original file"
    for weights in _LOGITS:
        logits = joined(network_scope, weights.rpartition("/")[0] + "/*")
        kernel, biases = shapes.get(weights), shapes.get(weights.rpartition("/")[0] + "/biases")
        if kernel and family in _CONVOLUTIONAL_LOGITS and len(kernel) != 4:
            yield (
                f"{weights} is {list(kernel)}, a matrix, and {family} has a 1x1 convolution there: leave the logits "
                f"out with exclude='{logits}', or save it with two axes of 1 in front"
            )
        if kernel and biases and kernel[-1:] != biases:
            yield (
                f"its logits have {kernel[-1]} classes by their weights and {biases[0]} by their biases: leave them "
                f"out with exclude='{logits}', or take the original file"
            )
        if biases and not kernel:
            yield f"it lacks {weights}, whose biases it has: take the whole checkpoint"
