"""ResNets of two-layer units in PyTorch (He et al., arXiv:1512.03385, section 4.1), a reference for tests."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

import numpy as np
import torch
from torch import nn
from torch.nn import functional

STEM_WIDTH = 64
SHORTCUTS = ("A", "B", "C", "first_unit")


class ConvNorm(nn.Sequential):
    """A convolution without bias, padded by half its kernel on every side, and a batch norm."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int) -> None:
        super().__init__(
            OrderedDict(
                conv=nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2, bias=False),
                norm=nn.BatchNorm2d(outputs),
            )
        )


class PaddedIdentity(nn.Module):
    """Takes every stride-th pixel, and appends extra channels of zeros."""

    def __init__(self, extra: int, stride: int) -> None:
        super().__init__()
        if extra < 0:
            raise ValueError("An identity shortcut cannot reduce the number of channels")
        self.extra, self.stride = extra, stride

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x[:, :, :: self.stride, :: self.stride]
        return functional.pad(x, (0, 0, 0, 0, 0, self.extra))


class Unit(nn.Module):
    """Two 3x3 convolutions, the first with the stride, added to the shortcut, and a ReLU after the addition."""

    def __init__(self, inputs: int, outputs: int, stride: int, project: bool) -> None:
        super().__init__()
        self.conv1 = ConvNorm(inputs, outputs, 3, stride)
        self.conv2 = ConvNorm(outputs, outputs, 3, 1)
        self.shortcut = ConvNorm(inputs, outputs, 1, stride) if project else PaddedIdentity(outputs - inputs, stride)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        residual = self.conv2(functional.relu(self.conv1(x)))
        return functional.relu(self.shortcut(x) + residual)


class ResNet(nn.Module):
    """Stem, stages called block1, block2, ..., global average and a linear layer."""

    def __init__(self, units: Sequence[int], shortcut: str, num_classes: int, widths: Sequence[int]) -> None:
        super().__init__()
        self.conv1 = ConvNorm(3, STEM_WIDTH, 7, 2)
        blocks, inputs = OrderedDict(), STEM_WIDTH
        for b, (count, outputs) in enumerate(zip(units, widths, strict=True), start=1):
            block = OrderedDict()
            for u in range(1, count + 1):
                project = {"A": False, "B": inputs != outputs, "C": True, "first_unit": u == 1}[shortcut]
                stride = 2 if u == 1 and b > 1 else 1
                block[f"unit_{u}/basic"] = Unit(inputs, outputs, stride, project)
                inputs = outputs
            blocks[f"block{b}"] = nn.Sequential(block)
        self.blocks = nn.Sequential(blocks)
        self.logits = nn.Linear(inputs, num_classes)

    def features(self, x: torch.Tensor) -> torch.Tensor:
        x = functional.max_pool2d(functional.relu(self.conv1(x)), 3, stride=2, padding=1)
        return self.blocks(x).mean(dim=(2, 3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.logits(self.features(x))


def resnet(
    units: Sequence[int], shortcut: str, num_classes: int, widths: Sequence[int] = (64, 128, 256, 512)
) -> nn.Module:
    """Returns a network from images [N, 3, H, W] to logits [N, num_classes]; shortcut is one of SHORTCUTS."""
    if shortcut not in SHORTCUTS:
        raise ValueError(f"shortcut is {shortcut!r}, not one of {SHORTCUTS}")
    return ResNet(units, shortcut, num_classes, widths)


def state_by_slim_name(module: nn.Module, scope: str) -> dict[str, np.ndarray]:
    """Returns copies of all parameters and running statistics by slim's variable names, in TensorFlow's layouts."""
    state = {}
    for path, child in module.named_modules():
        if isinstance(child, ConvNorm):
            name = f"{scope}/{path.removeprefix('blocks.').replace('.', '/')}"
            state[f"{name}/weights"] = child.conv.weight.permute(2, 3, 1, 0)
            state[f"{name}/BatchNorm/gamma"] = child.norm.weight
            state[f"{name}/BatchNorm/beta"] = child.norm.bias
            state[f"{name}/BatchNorm/moving_mean"] = child.norm.running_mean
            state[f"{name}/BatchNorm/moving_variance"] = child.norm.running_var
    state[f"{scope}/logits/weights"] = module.logits.weight.T[None, None]
    state[f"{scope}/logits/biases"] = module.logits.bias
    return {name: np.array(tensor.detach().numpy(), order="C") for name, tensor in state.items()}


@torch.no_grad()
def randomize(module: nn.Module, seed: int) -> None:
    """Gives all parameters and running statistics random values that keep activations of order one."""
    generator = torch.Generator().manual_seed(seed)
    for child in module.modules():
        if isinstance(child, nn.Conv2d | nn.Linear):
            # 1.7 instead of He's 2: a batch norm with such random values multiplies the power by 1.19 on average.
            child.weight.normal_(0, (1.7 / child.weight[0].numel()) ** 0.5, generator=generator)
        if isinstance(child, nn.BatchNorm2d):
            child.weight.uniform_(0.5, 1.5, generator=generator)
            child.running_var.uniform_(0.5, 1.5, generator=generator)
            child.running_mean.normal_(0, 0.1, generator=generator)
        if isinstance(child, nn.BatchNorm2d | nn.Linear):
            child.bias.normal_(0, 0.1, generator=generator)
    units = [child for child in module.modules() if isinstance(child, Unit)]
    for unit in units:  # keeps the sums of the additions small
        if isinstance(unit.shortcut, ConvNorm):
            unit.conv2.conv.weight.mul_(0.5**0.5)
            unit.shortcut.conv.weight.mul_(0.5**0.5)
        else:
            unit.conv2.conv.weight.mul_(len(units) ** -0.5)
