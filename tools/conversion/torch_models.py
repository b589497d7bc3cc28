"""PyTorch's half of a conversion: ResNets of two-layer units with torchvision's names (He et al., arXiv:1512.03385)."""

from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from checkpoints.frameworks import Weights, kind_of
from checkpoints.frameworks.layer_pairs import unit_names
from checkpoints.frameworks.tensor_files import read_safetensors, read_torch
from checkpoints.frameworks.torch_names import is_projected, tidied
from tools.conversion.proof_images import NORMALIZED, preprocessing_for

__all__ = ["end_point_names", "outputs"]


def end_point_names(weights: Weights) -> list[str]:
    """Returns the aliases of the shared end points, in the order of the graph."""
    names = ["conv1", "pool1"]
    for block, unit, _ in unit_names(weights.network):
        ours = f"block{block}/unit_{unit}"
        projected = is_projected(weights.options["shortcut"], block, unit)
        names += [f"{ours}/{layer}" for layer in ("conv1", "conv2", *(["shortcut"] if projected else []))]
        names.append(ours)
    return [*names, "global_pool", *(["logits"] if weights.num_classes else [])]


def outputs(path: Path, weights: Weights, pixels: np.ndarray) -> dict[str, np.ndarray]:
    """Returns the end points of PyTorch's network with the weights of a file, by our aliases.

    Args:
      path: the state dict.
      weights: description of the weights; the values are not used.
      pixels: uint8 [N, size, size, 3], RGB; float32 with any channels for weights without a preprocessing.
    """
    state = tidied(read_safetensors(path) if kind_of(path) == "safetensors" else read_torch(path))
    classes = len(state["fc.bias"]) if "fc.bias" in state else 0
    network = _ResNet(weights.network.variant.units, weights.options["shortcut"], weights.channels, classes)
    network.load_state_dict({name: torch.from_numpy(np.array(value)) for name, value in state.items()})
    batch = NORMALIZED[preprocessing_for(weights)](pixels.astype(np.float32))
    with torch.inference_mode():
        points = network.eval()(torch.from_numpy(batch.transpose(0, 3, 1, 2).copy()))
    return {name: (point.permute(0, 2, 3, 1) if point.ndim == 4 else point).numpy() for name, point in points.items()}


class _Unit(nn.Module):
    """Two 3x3 convolutions beside a shortcut. The first convolution has the stride."""

    def __init__(self, channels: int, depth: int, stride: int, projected: bool) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, depth, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(depth)
        self.conv2 = nn.Conv2d(depth, depth, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(depth)
        self.downsample = None
        if projected:
            projection = nn.Conv2d(channels, depth, 1, stride, bias=False)
            self.downsample = nn.Sequential(projection, nn.BatchNorm2d(depth))

    def forward(self, inputs: torch.Tensor) -> dict[str, torch.Tensor]:
        points = {"conv1": functional.relu(self.bn1(self.conv1(inputs)))}
        points["conv2"] = self.bn2(self.conv2(points["conv1"]))
        shortcut = inputs
        if self.downsample is not None:
            shortcut = points["shortcut"] = self.downsample(inputs)
        return points | {"": functional.relu(points["conv2"] + shortcut)}


class _ResNet(nn.Module):
    def __init__(self, units: tuple[int, ...], shortcut: str, channels: int, num_classes: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, 64, 7, 2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        inputs, self.depth = 64, len(units)
        for block, count in enumerate(units, start=1):
            depth = 32 * 2**block
            made = []
            for unit in range(1, count + 1):
                stride = 2 if block > 1 and unit == 1 else 1
                made.append(_Unit(inputs, depth, stride, is_projected(shortcut, block, unit)))
                inputs = depth
            self.add_module(f"layer{block}", nn.Sequential(*made))
        if num_classes:
            self.fc = nn.Linear(inputs, num_classes)

    def forward(self, inputs: torch.Tensor) -> dict[str, torch.Tensor]:
        points = {"conv1": functional.relu(self.bn1(self.conv1(inputs)))}
        points["pool1"] = net = functional.max_pool2d(points["conv1"], 3, 2, padding=1)
        for block in range(1, self.depth + 1):
            for i, unit in enumerate(getattr(self, f"layer{block}"), start=1):
                scope = f"block{block}/unit_{i}"
                made = unit(net)
                net = made[""]
                points |= {f"{scope}/{name}" if name else scope: point for name, point in made.items()}
        points["global_pool"] = net = net.mean((2, 3))
        return points | ({"logits": self.fc(net)} if hasattr(self, "fc") else {})
