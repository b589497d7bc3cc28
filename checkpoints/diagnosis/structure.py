"""Recognizes the networks that stored variables make up, by their names and shapes."""

from collections import defaultdict
from typing import Any, NamedTuple

from checkpoints.diagnosis.contents import sort_names
from checkpoints.diagnosis.layered import layered_in
from checkpoints.diagnosis.structure_faults import Shapes, Units, faults_of, unit_counts
from checkpoints.names import FIRST_KERNEL, LOGITS, OUTPUT, SHORTCUT_OF_PROJECTIONS, UNITS, joined, root_of
from nets.nets_factory import NETWORKS, Network

__all__ = ["Shapes", "Structure", "model_shapes", "structures_in"]


class Structure(NamedTuple):
    """A network, as far as its variables tell.

    scope: variable scope of the network.
    unit_scope: variable scope inside a unit's, such as 'bottleneck_v2'; None for a network without residual units.
    network: network of the table; None if the family is known but the dimensions are not.
    family: module of ``nets`` that builds such units, or 'alexnet', 'overfeat', 'vgg' or 'inception'.
    blocks: numbers of the blocks; 1, 2, 3 and so on if the file is complete.
    units: number of units of each block.
    base_depths: channels inside the units of each block.
    num_classes: number of classes of the logits; 0 if there are none.
    channels: channels of the images; None if the first kernel is missing.
    options: further arguments of the network's builder.
    faults: clauses on why the network's builder makes other variables, each with what to do.
    unlisted: clause on a network without residual units that is not in the table; else ''.
    lacking: layers at the end of a network without residual units that it does not have, if that is its only fault.
    """

    scope: str
    unit_scope: str | None
    network: Network | None
    family: str
    blocks: tuple[int, ...]
    units: tuple[int, ...]
    base_depths: tuple[int, ...]
    num_classes: int
    channels: int | None
    options: dict[str, Any]
    faults: tuple[str, ...]
    unlisted: str = ""
    lacking: tuple[str, ...] = ()

    @property
    def kind(self) -> str:
        """The scope inside its units, or for a network without units its name; variables are named by it."""
        return self.unit_scope or (self.network.name if self.network else self.family)


def model_shapes(shapes: Shapes) -> dict[str, tuple[int, ...]]:
    """Returns the shapes of the model's variables, including those stored only as moving averages."""
    contents = sort_names(shapes)
    stored = {name: shapes[shadow] for name, shadow in contents.shadows.items()}
    # Some files have the names of variable.name instead of variable.op.name.
    return stored | {name.removesuffix(OUTPUT): shapes[name] for name in contents.variables}


def structures_in(shapes: Shapes) -> list[Structure]:
    """Returns the networks that variables of these names and shapes make up, sorted by scope."""
    stored = model_shapes(shapes)
    families = {network.unit_scope: network.family for network in NETWORKS.values() if network.unit_scope}
    found: dict[tuple[str, str], dict[tuple[int, int], set[str]]] = defaultdict(lambda: defaultdict(set))
    for name in stored:
        for pattern, first in UNITS:
            if match := pattern.match(name):
                unit = int(match["block"]), int(match["unit"]) - first
                found[match["scope"] or "", match["unit_scope"]][unit].add(match["rest"])
    residual = [
        _structure(scope, unit_scope, families[unit_scope], units, stored)
        for (scope, unit_scope), units in sorted(found.items())
        if unit_scope in families
    ]
    others = [
        Structure(
            *(each.scope, None, each.network, each.family, (), (), ()),
            *(each.num_classes, each.channels, each.options, each.faults, each.unlisted, each.lacking),
        )
        for each in layered_in(stored)
    ]
    return sorted([*residual, *others], key=lambda each: each.scope)


def _structure(scope: str, unit_scope: str, family: str, units: Units, shapes: Shapes) -> Structure:
    # The network's variables, by names relative to its scope.
    prefix = joined(scope, "")
    relative = {name.removeprefix(prefix): shape for name, shape in shapes.items() if name.startswith(prefix)}
    counts = unit_counts(units)
    first_kernel = FIRST_KERNEL.get(unit_scope, f"block{{block}}/unit_1/{unit_scope}/conv1/weights")
    kernels = [first_kernel.format(block=block) for block in counts]
    root = relative.get(root_of(unit_scope), ())
    logits = next((relative[name] for name in LOGITS if name in relative), None)
    dimensions = _Dimensions(
        unit_scope,
        units=tuple(counts.values()),
        base_depths=tuple(_outputs(relative, name) for name in kernels),
        depth=relative.get(f"block{min(counts)}/unit_1/{unit_scope}/conv3/weights", (0,))[-1],
        kernel=relative.get(kernels[0], ()),
        root=root,
    )
    network, options = _network(dimensions)
    options |= _options(unit_scope, set(relative))
    return Structure(
        scope,
        unit_scope,
        network,
        family,
        blocks=tuple(counts),
        units=dimensions.units,
        base_depths=dimensions.base_depths,
        num_classes=logits[-1] if logits else 0,
        channels=root[-2] if len(root) == 4 else None,
        options=options,
        faults=faults_of(unit_scope, scope, family, network, options, units, relative),
    )


class _Dimensions(NamedTuple):
    """The dimensions that distinguish the networks of a family.

    unit_scope: variable scope inside a unit's.
    units: number of units of each block.
    base_depths: channels inside the units of each block.
    depth: channels of a bottleneck's output in the first block; 0 for other units.
    kernel: shape of the first unit's first kernel.
    root: shape of the network's first kernel.
    """

    unit_scope: str
    units: tuple[int, ...]
    base_depths: tuple[int, ...]
    depth: int
    kernel: tuple[int, ...]
    root: tuple[int, ...]


def _outputs(shapes: Shapes, kernel: str) -> int:
    """Returns the number of a convolution's outputs: that of its normalization if it has one, as a kernel from another
    framework may have its axes in another order."""
    norm = shapes.get(kernel.removesuffix("weights") + "BatchNorm/beta")
    shape = norm or shapes.get(kernel, ())
    return shape[-1] if norm or len(shape) == 4 else 0


def _network(dimensions: _Dimensions) -> tuple[Network | None, dict[str, Any]]:
    """Returns the network of these dimensions and the builder's arguments that produce them."""
    unit_scope, units, base_depths, depth, kernel, root = dimensions
    if depth not in (0, 4 * base_depths[0]):
        return None, {}  # a wide network, whose bottlenecks have another ratio
    for network in NETWORKS.values():
        variant = network.variant
        if variant is None:
            continue
        size = 1 if variant.bottleneck else 3
        if (network.unit_scope, variant.units) != (unit_scope, units) or kernel[:2] not in ((size, size), ()):
            continue
        if base_depths == variant.base_depths:
            return network, {}
        multiplier = base_depths[0] / variant.base_depths[0]
        scaled = tuple(int(depth * multiplier) for depth in variant.base_depths)
        # The multiplier applies only to the blocks.
        if network.family == "resnet_v1" and multiplier and base_depths == scaled and root[-1:] == (64,):
            return network, {"depth_multiplier": multiplier}
    return None, {}


def _options(unit_scope: str, names: set[str]) -> dict[str, Any]:
    """Returns the builder's arguments that produce these names of variables, relative to the network's scope."""
    if unit_scope == "basic":
        projected = [f"block{unit}/basic/shortcut/weights" in names for unit in ("1/unit_1", "1/unit_2", "2/unit_1")]
        return {"shortcut": SHORTCUT_OF_PROJECTIONS.get(tuple(projected), "B")}
    if unit_scope == "sub1":
        scopes = {name.rpartition("/init_bn/")[0] for name in names}
        shared = [bool({f"unit_{i}_0/shared_activation", f"unit_{i}_0/common_bn_relu"} & scopes) for i in (1, 2, 3)]
        return {"activate_before_residual": tuple(shared)}
    return {}
