"""The network in PyTorch's layers, channels last and in inference mode, optionally with ``torch.compile``."""

import operator
import os
import shutil
import sys
from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import fx, nn
from torch.nn import functional

from tools.errors import PeerError
from tools.peers.problem import Prepared, Problem
from tools.runtime.importing import import_tensorflow

import_tensorflow()

from tools.peers.layer_list import Layer, layers_of  # noqa: E402

__all__ = ["build_module", "prepare"]


def prepare(problem: Problem, name: str) -> Prepared:
    """Builds the network in PyTorch, on a GPU if there is one. The engine 'torch-compile' compiles it.

    Raises:
      PeerError: if the compiler that torch.compile requires is missing or fails, or a layer of the network is not
        translated.
    """
    torch.set_num_threads(problem.threads)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    listed, _ = layers_of(problem.graph_def(), problem.images_name, [problem.output_name])
    module = build_module(listed)
    module = module.to(device, memory_format=torch.channels_last)
    # channels_last means [N, height, width, channels] in memory.
    images = torch.from_numpy(problem.images()).permute(0, 3, 1, 2).to(device)
    compute = _compiled(module, device) if name == "torch-compile" else module

    def step() -> np.ndarray:
        with torch.inference_mode():
            outputs = compute(images)
        return (outputs.permute(0, 2, 3, 1) if outputs.ndim == 4 else outputs).cpu().numpy()

    try:
        outputs = step()
    except Exception as error:
        if name != "torch-compile":
            raise
        said = next(iter(str(error).splitlines()), "")
        raise PeerError(
            f"torch.compile failed ({said}): it requires a working C++ compiler, and Python's headers."
        ) from error
    return Prepared(step, outputs, f"{torch.__version__}{' on the GPU' if device == 'cuda' else ''}")


def _compiled(module: nn.Module, device: str) -> Callable[[torch.Tensor], torch.Tensor]:
    # The compiler that torch.compile uses.
    compiler = os.environ.get("CXX", "clang++" if sys.platform == "darwin" else "g++")
    if device == "cpu" and shutil.which(compiler) is None:
        raise PeerError(f"torch.compile requires a C++ compiler, and there is no {compiler}: install one, or set CXX.")
    from torch._inductor import config

    # Weights as constants, as in our own graph: with variables a ResNet-50 took half as long again.
    config.freezing = True
    # Other compiling processes would keep running beside the measured one.
    config.compile_threads = 1
    return torch.compile(module)


def build_module(listed: list[Layer]) -> nn.Module:
    """Returns a module of the layers and their weights in evaluation mode, for [N, channels, height, width]."""
    graph, modules, nodes = fx.Graph(), {}, {}
    uses = Counter(name for layer in listed for name in layer.inputs)
    shared = {layer.name for layer in listed if uses[layer.name] != 1 or layer.kind == "input"}
    for i, layer in enumerate(listed):
        inputs = [nodes[name] for name in layer.inputs]
        if layer.kind == "input":
            nodes[layer.name] = graph.placeholder("images")
        elif layer.kind == "add":
            nodes[layer.name] = graph.call_function(operator.add, tuple(inputs))
        elif layer.kind == "concat":
            nodes[layer.name] = graph.call_function(torch.cat, (inputs, 1))
        elif layer.kind == "pad":
            nodes[layer.name] = graph.call_function(functional.pad, (*inputs, _pads(**layer.attributes)))
        else:
            modules[f"layer_{i}"], (before, value) = _module(layer, in_place=shared.isdisjoint(layer.inputs))
            if any(before):
                inputs = [graph.call_function(functional.pad, (*inputs, before), {"value": value})]
            nodes[layer.name] = graph.call_module(f"layer_{i}", tuple(inputs))
    graph.output(nodes[listed[-1].name])
    return fx.GraphModule(modules, graph).eval()


def _pads(padding: tuple[tuple[int, int], ...], channels: tuple[int, int] = (0, 0)) -> tuple[int, ...]:
    """Returns the padding for ``functional.pad``, from the last axis to the first."""
    height, width = padding
    return (*width, *height, *channels) if any(channels) else (*width, *height)


def _module(layer: Layer, in_place: bool) -> tuple[nn.Module, tuple[tuple[int, ...], float]]:
    """Returns the layer, and the padding and its value that must come before it if it cannot pad by itself."""
    attributes, nothing = layer.attributes, ((), 0.0)
    match layer.kind:
        case "conv" | "depthwise_conv":
            return _conv(layer)
        case "max_pool":
            return _max_pool(**attributes)
        case "batch_norm":
            return _batch_norm(layer), nothing
        case "dense":
            made = nn.Linear(*layer.weights["kernel"].shape, bias="bias" in layer.weights)
            return _with_values(made, weight=layer.weights["kernel"].T, bias=layer.weights.get("bias")), nothing
        case "average_pool":
            padding = tuple(before for before, _ in attributes["padding"])
            made = nn.AvgPool2d(attributes["size"], attributes["strides"], padding, count_include_pad=False)
            return made, nothing
        case "global_mean":
            pool = nn.AdaptiveAvgPool2d(1)
            return pool if attributes["keep_dims"] else nn.Sequential(pool, nn.Flatten()), nothing
        case "relu":
            return nn.ReLU(inplace=in_place), nothing
        case "leaky_relu":
            return nn.LeakyReLU(attributes["slope"], inplace=in_place), nothing
        case "flatten":
            return nn.Flatten(), nothing
        case "softmax":
            return nn.Softmax(dim=1), nothing
        case "sigmoid":
            return nn.Sigmoid(), nothing
    raise PeerError(f"{layer.name} is a layer {layer.kind!r}, which is not translated to PyTorch.")


def _conv(layer: Layer) -> tuple[nn.Module, tuple[tuple[int, ...], float]]:
    kernel, padding = layer.weights["kernel"], layer.attributes["padding"]
    height, width, inputs, outputs = kernel.shape
    groups = 1
    if layer.kind == "depthwise_conv":
        # A channel's outputs stand together in both libraries.
        kernel, groups, outputs = kernel.reshape(height, width, 1, -1), inputs, inputs * outputs
    even = all(before == after for before, after in padding)
    made = nn.Conv2d(
        inputs,
        outputs,
        (height, width),
        layer.attributes["strides"],
        padding=tuple(before for before, _ in padding) if even else 0,
        dilation=layer.attributes["dilation"],
        groups=groups,
        bias="bias" in layer.weights,
    )
    made = _with_values(made, weight=kernel.transpose(3, 2, 0, 1), bias=layer.weights.get("bias"))
    return made, (() if even else _pads(padding), 0.0)


def _max_pool(
    size: tuple[int, int], strides: tuple[int, int], padding: tuple[tuple[int, int], ...]
) -> tuple[nn.Module, tuple[tuple[int, ...], float]]:
    if all(before == after for before, after in padding):
        return nn.MaxPool2d(size, strides, padding=tuple(before for before, _ in padding)), ((), 0.0)
    if all(before == 0 and after < stride for (before, after), stride in zip(padding, strides, strict=True)):
        # The windows that begin inside the input, for which SAME pads, without a copy of the images.
        return nn.MaxPool2d(size, strides, ceil_mode=True), ((), 0.0)
    return nn.MaxPool2d(size, strides), (_pads(padding), -float("inf"))


def _batch_norm(layer: Layer) -> nn.Module:
    weights = layer.weights
    made = nn.BatchNorm2d(len(weights["mean"]), eps=layer.attributes["epsilon"])
    return _with_values(
        made,
        weight=weights.get("gamma"),
        bias=weights.get("beta"),
        running_mean=weights["mean"],
        running_var=weights["variance"],
    )


def _with_values(made: nn.Module, **values: Any) -> nn.Module:
    """Sets the module's parameters and buffers to the values, and returns it. None leaves one out."""
    with torch.no_grad():
        for name, value in values.items():
            if value is not None:
                getattr(made, name).copy_(torch.from_numpy(np.array(value, order="C")))
    return made
