"""What a checkpoint is, by the names and shapes inside it: its network, its classes, the input it wants."""

import re
from collections import defaultdict
from collections.abc import Mapping
from typing import Any, NamedTuple

from checkpoints.reader import CheckpointError, CheckpointReader
from nets.nets_factory import NETWORKS, Network

__all__ = ["Diagnosis", "diagnose", "expected_input", "networks_in", "unit_of"]

# A variable of a unit: slim's names, whose units count from 1, and those of tensorflow/models' networks for small
# images, whose units count from 0.
_UNITS = (
    (re.compile(r"^(?:(?P<scope>.+)/)?block(?P<block>\d+)/unit_(?P<unit>\d+)/(?P<unit_scope>[^/]+)/"), 1),
    (re.compile(r"^(?:(?P<scope>.+)/)?unit_(?P<block>\d+)_(?P<unit>\d+)/(?P<unit_scope>[^/]+)/"), 0),
)
# The first kernel of the first unit, where it is not slim's.
_FIRST_KERNEL = {"sub1": "unit_1_0/sub1/conv1/DW"}
# Of resnet_basic: by whether the first two units of block1, and the first of block2, have a projection.
_SHORTCUTS = {
    (False, False, False): "A",
    (False, False, True): "B",
    (True, True, True): "C",
    (True, False, True): "first_unit",
}
_LOGITS = ("logits/weights", "logit/DW")

# The published v2 weights have a background class, and were trained and evaluated with inception preprocessing at
# 299, although slim's factory says vgg at 224 (tensorflow/models, issues 1497, 2217 and 2855).
_PUBLISHED_V2_CLASSES = 1001
_PUBLISHED_V2_INPUT = ("inception", 299)


class Diagnosis(NamedTuple):
    """What a checkpoint holds.

    network: of the table of networks.
    scope: variable scope of the network in the file.
    num_classes: classes of its logits; 0 where it has none.
    preprocessing, image_size: the input that the weights were trained for.
    options: further arguments of the network's builder, which the names tell.
    """

    network: Network
    scope: str
    num_classes: int
    preprocessing: str
    image_size: int
    options: dict[str, Any]

    @property
    def builder_arguments(self) -> dict[str, Any]:
        """What the network's builder is to be given, but for the number of classes."""
        return {"scope": self.scope, **self.options}


def diagnose(reader: CheckpointReader) -> Diagnosis:
    """Tells which network a checkpoint belongs to.

    Raises:
      CheckpointError: if it is none of the table's, or holds several.
    """
    found = [(network, scope) for scope, network in networks_in(reader.shapes).items()]
    if not found:
        raise CheckpointError(
            f"{reader.path} holds the weights of none of the known networks ({len(reader.shapes)} variables, "
            f"{_examples(reader)}): name the network, one of {', '.join(NETWORKS)}."
        )
    if len(found) > 1:
        scopes = ", ".join(f"{network.name} under '{scope}'" for network, scope in found)
        raise CheckpointError(f"{reader.path} holds several networks: {scopes}; save the one you need by itself.")
    network, scope = found[0]
    logits = next((shape for name in _LOGITS if (shape := reader.shapes.get(_joined(scope, name)))), None)
    num_classes = logits[-1] if logits else 0
    options = _options(network, {name.removeprefix(_joined(scope, "")) for name in reader.shapes})
    return Diagnosis(network, scope, num_classes, *expected_input(network, num_classes), options)


def _options(network: Network, names: set[str]) -> dict[str, Any]:
    """The builder's arguments that these names of variables, relative to its scope, call for."""
    if network.unit_scope == "basic":
        projected = [f"block{unit}/basic/shortcut/weights" in names for unit in ("1/unit_1", "1/unit_2", "2/unit_1")]
        return {"shortcut": _SHORTCUTS.get(tuple(projected), "B")}
    if network.unit_scope == "sub1":
        scopes = {name.rpartition("/init_bn/")[0] for name in names}
        shared = [bool({f"unit_{i}_0/shared_activation", f"unit_{i}_0/common_bn_relu"} & scopes) for i in (1, 2, 3)]
        return {"activate_before_residual": tuple(shared)}
    return {}


def expected_input(network: Network, num_classes: int) -> tuple[str, int]:
    """(preprocessing, image size) of the weights of a network with so many classes."""
    if network.name.startswith("resnet_v2_") and num_classes == _PUBLISHED_V2_CLASSES:
        return _PUBLISHED_V2_INPUT
    return network.preprocessing, network.image_size


def _examples(reader: CheckpointReader) -> str:
    names = list(reader.shapes)[:2]
    return f"such as {' and '.join(names)}" if names else "none at all"


def _joined(scope: str, name: str) -> str:
    return f"{scope}/{name}" if scope else name


def unit_of(name: str) -> str | None:
    """The scope of the unit that a variable of this name is in, with a slash behind; None for one that is in none."""
    for pattern, _ in _UNITS:
        if match := pattern.match(name):
            return name[: match.start("unit_scope")]
    return None


def networks_in(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Network]:
    """From its scope to each network of the table that variables of these names and shapes make up."""
    units: dict[tuple[str, str], dict[int, int]] = defaultdict(lambda: defaultdict(int))
    for name in shapes:
        for pattern, first in _UNITS:
            if match := pattern.match(name):
                blocks = units[match["scope"] or "", match["unit_scope"]]
                block = int(match["block"])
                blocks[block] = max(blocks[block], int(match["unit"]) + 1 - first)
    found = {}
    for (scope, unit_scope), blocks in units.items():
        counts = tuple(blocks[block] for block in sorted(blocks))
        kernel = _FIRST_KERNEL.get(unit_scope, f"block1/unit_1/{unit_scope}/conv1/weights")
        shape = shapes.get(_joined(scope, kernel), ())
        for network in NETWORKS.values():
            variant = network.variant
            size = 1 if variant.bottleneck else 3
            if (network.unit_scope, variant.units) == (unit_scope, counts) and (
                len(shape) == 4 and (*shape[:2], shape[-1]) == (size, size, variant.base_depths[0])
            ):
                found[scope] = network
    return found
