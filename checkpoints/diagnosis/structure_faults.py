"""Finds reasons why a network's variables differ from those that its builder makes, each with what to do."""

import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from checkpoints.names import LAST_NORM, LOGITS, NORM, ROOT_KERNEL, SLIM_FAMILIES, joined, logits_pattern, root_of
from nets.nets_factory import Network

__all__ = ["Shapes", "Units", "faults_of", "unit_counts"]

Shapes = Mapping[str, tuple[int, ...]]

# The names of variables in each unit: (block, unit), counted from (1, 0) → names.
Units = Mapping[tuple[int, int], set[str]]


def unit_counts(units: Iterable[tuple[int, int]]) -> dict[int, int]:
    """Returns the number of units of each block, as its highest unit tells."""
    counts: Counter[int] = Counter()
    for block, unit in units:
        counts[block] = max(counts[block], unit + 1)
    return {block: counts[block] for block in sorted(counts)}


def faults_of(
    unit_scope: str,
    scope: str,
    family: str,
    network: Network | None,
    options: Mapping[str, Any],
    units: Units,
    shapes: Shapes,
) -> tuple[str, ...]:
    """Returns clauses on how the variables differ from those of a builder of ``nets``, each with what to do.

    Args:
      unit_scope: variable scope inside a unit's, such as 'bottleneck_v2'.
      scope: scope of the network in the file.
      family: module of ``nets`` that builds such units.
      network: network of the table; None if it is not in it.
      options: arguments of the builder that the variables call for.
      units: names of the variables in each unit.
      shapes: names of the variables, relative to ``scope``, and their shapes.
    """
    # Wrong shapes explain more than missing names, so they are reported first.
    faults = tuple(_shape_faults(shapes, family, scope))
    faults = faults or tuple(_name_faults(unit_scope, scope, family, units, set(shapes)))
    if faults or network is None or options.keys() - {"activate_before_residual"}:
        return faults
    return tuple(_count_faults(shapes, network))


def _name_faults(unit_scope: str, scope: str, family: str, units: Units, names: set[str]) -> Iterator[str]:
    counts = unit_counts(units)
    yield from _norm_faults(names, family)
    lacking = [f"{block}/{unit + 1}" for block in counts for unit in range(counts[block]) if (block, unit) not in units]
    # All units have the same layers except for the shortcut; networks for small images also share some with it.
    layers = {
        key: {name for name in parts if not name.startswith("shortcut/") and not name.endswith(NORM)}
        for key, parts in units.items()
    }
    seen = Counter(name for parts in layers.values() for name in parts)
    everywhere = {name for name, times in seen.items() if 2 * times > len(layers)} if unit_scope != "sub1" else set()
    lacking += [f"{block}/{unit + 1}" for (block, unit), parts in sorted(layers.items()) if everywhere - parts]
    if sorted(counts) != list(range(1, len(counts) + 1)):
        yield f"it has no block{min(set(range(1, max(counts))) - set(counts))}: take the whole checkpoint"
    if lacking:
        yield (
            f"it is incomplete, and lacks variables of {len(lacking)} units (block/unit {', '.join(lacking[:5])}): "
            "take the whole checkpoint"
        )
    root = root_of(unit_scope)
    if root not in names:
        if "conv1_1/weights" in names:
            yield (
                "its first layer is three 3x3 convolutions (DeepLab's 'beta' variant), and slim's one of 7x7: "
                "build the root yourself, with include_root_block=False, or take the plain variant"
            )
        else:
            build = ", or build with include_root_block=False" if family in SLIM_FAMILIES else ""
            yield f"it lacks {root}, the first layer: take the whole checkpoint{build}"
    last = LAST_NORM.get(unit_scope)
    if (
        last is not None
        and not _convolutions_without_norm(names)
        and not any(f"{last}/{leaf}" in names for leaf in NORM)
    ):
        yield f"it lacks {last}, the last normalization: take the whole checkpoint"
    for weights in LOGITS:
        biases = weights.rpartition("/")[0] + "/biases"
        if weights in names and biases not in names:
            exclude = f"exclude={logits_pattern(unit_scope, scope)!r}"
            yield f"it lacks {biases}: exclude the logits, {exclude}, or take the whole checkpoint"


def _norm_faults(names: set[str], family: str) -> Iterator[str]:
    layers = {leaf: {n.rpartition("/")[0] for n in names if n.rpartition("/")[2] == leaf} for leaf in NORM}
    everywhere = set.union(*layers.values())
    if any(scope.endswith("GroupNorm") for scope in everywhere):
        yield "it has group norms and no batch norms, another network: build it yourself, and restore that"
    elif not everywhere or _convolutions_without_norm(names):
        yield f"it has no batch norm: {_built_otherwise(family, 'use_batch_norm=False')}"
    elif not layers["moving_mean"] and not layers["moving_variance"]:
        yield (
            "it has no moving statistics, as only trainable variables were saved: save tf.global_variables(), or "
            "estimate the statistics on data; without them there is no inference"
        )
    elif not layers["gamma"]:
        yield f"its batch norms have no gamma: {_built_otherwise(family, 'batch_norm_scale=False')}"
    elif not layers["beta"]:
        yield "its batch norms have no beta: build it yourself, with center=False for batch_norm, and restore that"
    else:
        for leaf in NORM:
            if lacking := sorted(everywhere - layers[leaf]):
                yield f"it lacks {leaf} of {len(lacking)} batch norms, such as {lacking[0]}: take the whole checkpoint"


def _built_otherwise(family: str, option: str) -> str:
    """Returns what to do about a network that was built with an option of the arg scope, if its family has one."""
    if family not in SLIM_FAMILIES:
        return "take the original file"
    return f"build it yourself, under resnet_arg_scope({option}), and restore that"


def _convolutions_without_norm(names: set[str]) -> bool:
    """Returns whether slim's units have convolutions, but no batch norms."""
    inside = [name for name in names if name.startswith("block") and "/conv1/" in name]
    return bool(inside) and not any("/conv1/BatchNorm/" in name for name in inside)


def _count_faults(shapes: Shapes, network: Network) -> Iterator[str]:
    """Yields a clause if the number of parameters is not the network's; logits and the first kernel are not counted."""
    apart = re.compile(r"(conv1|init/init_conv)/(weights|DW)|logits?/.*")
    parts = re.compile(r"(conv\d|init|block\d+|unit_\w+|postnorm)/")
    found = sum(math.prod(shape) for name, shape in shapes.items() if parts.match(name) and not apart.fullmatch(name))
    variant = network.variant
    size, outputs = ROOT_KERNEL.get(network.unit_scope, (7, 64))
    # A bottleneck's last layer has four times as many channels as its others.
    width = variant.base_depths[-1] * (4 if variant.bottleneck else 1)
    root = size * size * network.channels * outputs
    expected = network.parameters - root - (width + 1) * network.num_classes
    if found != expected:
        yield (
            f"it has {found:,} parameters before the logits, and a {network.name} has {expected:,}, so that some are "
            "missing, of another shape, or not its own: take the original file"
        )


def _shape_faults(shapes: Shapes, family: str, network_scope: str) -> Iterator[str]:
    """Yields clauses on shapes that no builder makes; the names are relative to the network's scope."""
    root = shapes.get("conv1/weights", ())
    if len(root) == 4 and root[-2:] == (7, 7):
        yield "its kernels are in PyTorch's order (OIHW): transpose them by (2, 3, 1, 0), and save that"
        return
    for name, shape in shapes.items():
        scope, _, leaf = name.rpartition("/")
        norm = shapes.get(f"{scope}/BatchNorm/beta")
        if leaf in NORM and len(shape) != 1:
            yield f"{name} is {list(shape)}, and should have one axis: take the original file"
        elif leaf == "weights" and norm and shape[-1:] != norm:
            yield f"{name} has {shape[-1]} outputs, and its batch norm {norm[0]}: take the original file"
    for weights in LOGITS:
        logits = joined(network_scope, weights.rpartition("/")[0] + "/*")
        kernel, biases = shapes.get(weights), shapes.get(weights.rpartition("/")[0] + "/biases")
        if kernel and family in SLIM_FAMILIES and len(kernel) != 4:
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
