"""Converts weights between ``resnet_basic`` and torchvision's ResNet-18 and 34, which compute the same function.

The deeper networks cannot be converted: torchvision has a block's stride in the first unit's 3x3 convolution, and slim
in the last unit.
"""

import re
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import NamedTuple

import numpy as np

from checkpoints.errors import CheckpointError
from checkpoints.frameworks.layer_pairs import LayerPair, unit_names
from checkpoints.names import SHORTCUT_OF_PROJECTIONS
from nets.nets_factory import NETWORKS, Network

__all__ = ["SHORTCUTS", "FromTorch", "from_torch", "is_projected", "is_torch", "layer_pairs", "tidied", "to_torch"]

# The shortcuts made of projections. 'A' has none, and torchvision has no layer for it.
SHORTCUTS = ("B", "C", "first_unit")

# The variables of a normalization (PyTorch's name → ours).
_NORM = {"weight": "gamma", "bias": "beta", "running_mean": "moving_mean", "running_var": "moving_variance"}
# The number of training batches, which PyTorch stores and slim does not.
_COUNT = "num_batches_tracked"

# Names that all these networks have. A common prefix of the three comes from parallel training ('module.') or an
# enclosing module ('model.', 'backbone.').
_ALWAYS = ("conv1.weight", "bn1.weight", "layer1.0.conv1.weight")

# Height and width of the kernels.
_KERNELS = {"root": 7, "conv1": 3, "conv2": 3, "shortcut": 1}

_UNIT = re.compile(r"layer(?P<block>\d+)\.(?P<unit>\d+)\.(?P<rest>.+)")


class FromTorch(NamedTuple):
    """Weights converted from PyTorch.

    network: network of the table.
    num_classes: number of classes; 0 without the classifying layer.
    channels: channels of the images.
    shortcut: argument of ``resnet_basic``.
    values: values by slim's names, relative to the network's scope.
    """

    network: Network
    num_classes: int
    channels: int
    shortcut: str
    values: dict[str, np.ndarray]


def is_torch(names: Mapping[str, object]) -> bool:
    """Returns whether names of arrays are those of a state dict such as torchvision's."""
    return bool(_prefix(names)) or "conv1.weight" in names or any(_UNIT.match(name) for name in names)


def layer_pairs(network: Network, shortcut: str, with_top: bool) -> Iterator[LayerPair]:
    """Yields the layers of a network in the order of its graph."""
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
    """Returns whether a unit's shortcut is a projection; blocks and units are counted from 1."""
    return shortcut == "C" or (unit == 1 and (block > 1 or shortcut == "first_unit"))


def tidied(state: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Returns a state dict without the prefix of its names, and with float32 for types that NumPy lacks."""
    prefix = _prefix(state)
    return {
        name.removeprefix(prefix): value.astype(np.float32) if value.dtype.kind == "V" else value
        for name, value in state.items()
    }


def _prefix(names: Collection[str]) -> str:
    """Returns the prefix before torchvision's names: the shortest of several, or '' if there is none."""
    candidates = sorted((name.removesuffix(_ALWAYS[0]) for name in names if name.endswith(_ALWAYS[0])), key=len)
    return next((prefix for prefix in candidates if all(prefix + name in names for name in _ALWAYS)), "")


def from_torch(path: object, state: Mapping[str, np.ndarray]) -> FromTorch:
    """Converts the weights of torchvision's ResNet-18 or 34 to slim's.

    Raises:
      CheckpointError: if the state dict holds another network.
    """
    prefix = _prefix(state)
    if outside := sorted(name for name in state if not name.startswith(prefix)):
        raise _another(path, f"is more than a ResNet-18 or 34: it has {outside[0]!r} beside the one under {prefix!r}")
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
    channels = _channels(state["conv1.weight"].shape, 1)
    num_classes = max(state["fc.bias"].size, 1) if with_top else 0  # 0 classes would mean no logits
    values = {}
    for pair in pairs:
        _check_shapes(path, state, pair, network, channels, num_classes)
        kernel = state[f"{pair.theirs}.weight"]
        values[f"{pair.ours}/weights"] = kernel.T[None, None] if pair.ours == "logits" else kernel.transpose(2, 3, 1, 0)
        if pair.norm:
            values |= {f"{pair.our_norm}/{leaf}": state[f"{pair.norm}.{theirs}"] for theirs, leaf in _NORM.items()}
        else:
            values[f"{pair.ours}/biases"] = state[f"{pair.theirs}.bias"]
    return FromTorch(network, num_classes, channels, shortcut, values)


def to_torch(
    path: object, values: Callable[[str], np.ndarray], network: Network, shortcut: str, with_top: bool
) -> dict[str, np.ndarray]:
    """Converts slim's weights to a state dict with torchvision's names.

    Args:
      path: path of the weights, for errors.
      values: returns a value by its name, relative to the network's scope.
      network: a network of ``resnet_basic``.
      shortcut: one of ``SHORTCUTS``.
      with_top: whether there are logits.

    Raises:
      CheckpointError: if the shapes are not the network's.
    """
    channels = _channels(values("conv1/weights").shape, 2)
    num_classes = values("logits/biases").size if with_top else 0
    state = {}
    for pair in layer_pairs(network, shortcut, with_top):
        kernel = values(f"{pair.ours}/weights")
        size, inputs, outputs = _dimensions(pair, network, channels, num_classes)
        _check_shape(path, network, f"{pair.ours}/weights", kernel.shape, (size, size, inputs, outputs))
        kernel = kernel[0, 0].T if pair.ours == "logits" else kernel.transpose(3, 2, 0, 1)
        state[f"{pair.theirs}.weight"] = np.ascontiguousarray(kernel)
        if pair.norm:
            state |= {f"{pair.norm}.{theirs}": values(f"{pair.our_norm}/{leaf}") for theirs, leaf in _NORM.items()}
            state[f"{pair.norm}.{_COUNT}"] = np.array(0, np.int64)
        else:
            state[f"{pair.theirs}.bias"] = values(f"{pair.ours}/biases")
        _check_shapes(path, state, pair, network, channels, num_classes)
    return state


def _channels(kernel: tuple[int, ...], axis: int) -> int:
    """Returns the number of image channels from the first kernel's shape; 1 if the shape is wrong anyway."""
    return max(kernel[axis], 1) if len(kernel) == 4 else 1


def _dimensions(pair: LayerPair, network: Network, channels: int, num_classes: int) -> tuple[int, int, int]:
    """Returns (height and width, inputs, outputs) of a layer's kernel."""
    depths = network.variant.base_depths
    if pair.ours == "logits":
        return 1, depths[-1], num_classes
    if pair.ours == "conv1":
        return _KERNELS["root"], channels, depths[0]
    block, unit, _, layer = pair.ours.split("/")
    number = int(block.removeprefix("block"))
    outputs = depths[number - 1]
    inputs = depths[max(number - 2, 0)] if unit == "unit_1" and layer != "conv2" else outputs
    return _KERNELS[layer], inputs, outputs


def _check_shapes(
    path: object,
    state: Mapping[str, np.ndarray],
    pair: LayerPair,
    network: Network,
    channels: int,
    num_classes: int,
) -> None:
    """Raises CheckpointError if a layer's values in a state dict do not have the network's shapes."""
    size, inputs, outputs = _dimensions(pair, network, channels, num_classes)
    kernel = (outputs, inputs) if pair.ours == "logits" else (outputs, inputs, size, size)
    for name in _their_names(pair):
        expected = kernel if name == f"{pair.theirs}.weight" else (outputs,)
        _check_shape(path, network, name, state[name].shape, expected)


def _check_shape(path: object, network: Network, name: str, shape: tuple[int, ...], expected: tuple[int, ...]) -> None:
    if shape != expected:
        raise CheckpointError(
            f"{path} has the layers of {network.name} in other shapes: it has a {name} of shape {list(shape)} and not "
            f"{list(expected)}: what can be converted are ResNet-18 and 34 of torchvision's widths.",
            "unknown network",
        )


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
        raise _another(path, "has no projections (downsample) in its shortcuts, and does not say what it has instead")
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
