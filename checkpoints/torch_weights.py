"""torchvision's ResNet-18 and 34, and ``resnet_basic``: the same function, whose weights differ by names and layout.

The deeper ones of torchvision have a block's stride in the first unit's 3x3 convolution, and slim's have it in the last
unit: another function, whatever the weights.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

import numpy as np

from checkpoints.files import CheckpointError
from checkpoints.layer_pairs import LayerPair, unit_names
from checkpoints.naming import SHORTCUT_OF_PROJECTIONS
from nets.nets_factory import NETWORKS, Network

__all__ = ["SHORTCUTS", "FromTorch", "from_torch", "is_projected", "is_torch", "layer_pairs", "tidied", "to_torch"]

# The shortcuts that projections alone make: 'A' has none, and torchvision no layer for it.
SHORTCUTS = ("B", "C", "first_unit")

# From their leaves to ours, of a normalization.
_NORM = {"weight": "gamma", "bias": "beta", "running_mean": "moving_mean", "running_var": "moving_variance"}
# How many batches training saw: PyTorch's networks have it, and slim's have not.
_COUNT = "num_batches_tracked"

# What parallel training puts before the names.
_PARALLEL = "module."

# Height and width of the kernels.
_KERNELS = {"root": 7, "conv1": 3, "conv2": 3, "shortcut": 1}

_UNIT = re.compile(r"layer(?P<block>\d+)\.(?P<unit>\d+)\.(?P<rest>.+)")


class FromTorch(NamedTuple):
    """Weights that were PyTorch's.

    network: of the table.
    num_classes: 0 without the classifying layer.
    shortcut: of ``resnet_basic``.
    values: by slim's names, relative to the network's scope.
    """

    network: Network
    num_classes: int
    shortcut: str
    values: dict[str, np.ndarray]


def is_torch(names: Mapping[str, object]) -> bool:
    """Whether names of arrays are those of a state dict such as torchvision's."""
    plain = [name.removeprefix(_PARALLEL) for name in names]
    return "conv1.weight" in plain or any(_UNIT.match(name) for name in plain)


def layer_pairs(network: Network, shortcut: str, with_top: bool) -> Iterator[LayerPair]:
    """The layers of a network, in the order of its graph."""
    yield LayerPair("conv1", "conv1", "bn1")
    for block, unit, scope in unit_names(network):
        name = f"layer{block}.{unit - 1}"
        if is_projected(shortcut, block, unit):
            yield LayerPair(f"{scope}/shortcut", f"{name}.downsample.0", f"{name}.downsample.1")
        yield LayerPair(f"{scope}/conv1", f"{name}.conv1", f"{name}.bn1")
        yield LayerPair(f"{scope}/conv2", f"{name}.conv2", f"{name}.bn2")
    if with_top:
        yield LayerPair("logits", "fc", None)


def is_projected(shortcut: str, block: int, unit: int) -> bool:
    """Whether a unit's shortcut is a projection; blocks and units are counted from 1."""
    return shortcut == "C" or (unit == 1 and (block > 1 or shortcut == "first_unit"))


def tidied(state: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """A state dict without the prefix of parallel training, and in float32 where NumPy has no such numbers."""
    parallel = all(name.startswith(_PARALLEL) for name in state)
    return {
        name.removeprefix(_PARALLEL) if parallel else name: value.astype(np.float32)
        if value.dtype.kind == "V"
        else value
        for name, value in state.items()
    }


def from_torch(path: object, state: Mapping[str, np.ndarray]) -> FromTorch:
    """Weights of a ResNet-18 or 34 of torchvision's names, as slim's.

    Raises:
      CheckpointError: if it holds another network.
    """
    state = tidied(state)
    if strange := [name for name, value in state.items() if value.dtype.kind != "f" and not name.endswith(_COUNT)]:
        raise _another(path, f"has {strange[0]} as {state[strange[0]].dtype.name}")
    network, shortcut = _network(path, state)
    with_top = "fc.weight" in state
    pairs = list(layer_pairs(network, shortcut, with_top))
    expected = {name for pair in pairs for name in _their_names(pair)}
    if lacking := sorted(expected - set(state)):
        raise _another(path, f"is no {network.name.replace('resnet_basic_', 'ResNet-')}: it has no {lacking[0]!r}")
    if others := sorted(name for name in set(state) - expected if not name.endswith(_COUNT)):
        raise _another(path, f"is more than a ResNet-18 or 34: it has {others[0]!r} besides")
    values = {}
    for pair in pairs:
        kernel = state[f"{pair.theirs}.weight"]
        if pair.ours == "logits":
            size = ()
        else:
            size = (_KERNELS[pair.ours.rpartition("/")[2] if "/" in pair.ours else "root"],) * 2
        if kernel.ndim != 2 + len(size) or kernel.shape[2:] != size:
            raise _another(path, f"has a {pair.theirs}.weight of shape {list(kernel.shape)}")
        values[f"{pair.ours}/weights"] = kernel.T[None, None] if pair.ours == "logits" else kernel.transpose(2, 3, 1, 0)
        if pair.norm:
            values |= {f"{pair.our_norm}/{leaf}": state[f"{pair.norm}.{theirs}"] for theirs, leaf in _NORM.items()}
        else:
            values[f"{pair.ours}/biases"] = state[f"{pair.theirs}.bias"]
    num_classes = state["fc.bias"].size if with_top else 0
    return FromTorch(network, num_classes, shortcut, values)


def to_torch(
    values: Callable[[str], np.ndarray], network: Network, shortcut: str, with_top: bool
) -> dict[str, np.ndarray]:
    """Weights of slim's names as a state dict of torchvision's.

    Args:
      values: gives a value by its name, relative to the network's scope.
      network: of ``resnet_basic``.
      shortcut: one of ``SHORTCUTS``.
      with_top: whether there are logits.
    """
    state = {}
    for pair in layer_pairs(network, shortcut, with_top):
        kernel = values(f"{pair.ours}/weights")
        kernel = kernel[0, 0].T if pair.ours == "logits" else kernel.transpose(3, 2, 0, 1)
        state[f"{pair.theirs}.weight"] = np.ascontiguousarray(kernel)
        if pair.norm:
            state |= {f"{pair.norm}.{theirs}": values(f"{pair.our_norm}/{leaf}") for theirs, leaf in _NORM.items()}
            state[f"{pair.norm}.{_COUNT}"] = np.array(0, np.int64)
        else:
            state[f"{pair.theirs}.bias"] = values(f"{pair.ours}/biases")
    return state


def _network(path: object, state: Mapping[str, np.ndarray]) -> tuple[Network, str]:
    units: dict[int, int] = {}
    projected = set()
    for name in state:
        if match := _UNIT.fullmatch(name):
            block, unit = int(match["block"]), int(match["unit"])
            units[block] = max(units.get(block, 0), unit + 1)
            if match["rest"].startswith("conv3."):
                raise CheckpointError(
                    f"{path} holds a ResNet of PyTorch's with bottlenecks (50 layers or more), which have their stride "
                    "in the 3x3 convolution: slim's have it elsewhere and would compute something else with these "
                    "weights; torchvision's ResNet-18 and 34 can be converted, or take slim's or Keras' weights.",
                    "unknown network",
                )
            if match["rest"].startswith("downsample."):
                projected.add((block, unit))
    counts = tuple(units[block] for block in sorted(units))
    network = next(
        (each for each in NETWORKS.values() if each.family == "resnet_basic" and each.variant.units == counts), None
    )
    if network is None:
        examples = ", ".join(list(state)[:3])
        raise _another(path, f"holds none of torchvision's ResNets (its tensors are {examples}, ...)")
    found = SHORTCUT_OF_PROJECTIONS.get(tuple(unit in projected for unit in ((1, 0), (1, 1), (2, 0))))
    if found not in SHORTCUTS:
        raise _another(
            path, "has no projections (downsample) in its shortcuts, and does not say what it has in their place"
        )
    return network, found


def _their_names(pair: LayerPair) -> Iterator[str]:
    yield f"{pair.theirs}.weight"
    if pair.norm:
        yield from (f"{pair.norm}.{leaf}" for leaf in _NORM)
    else:
        yield f"{pair.theirs}.bias"


def _another(path: object, what: str) -> CheckpointError:
    return CheckpointError(
        f"{path} {what}: what can be converted are ResNet-18 and 34 by the names of torchvision.", "unknown network"
    )
