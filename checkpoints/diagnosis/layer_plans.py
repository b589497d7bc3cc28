"""The layers of tf_slim's other networks: AlexNet v2, OverFeat, VGG and Inception, as their variables show them."""

import re
from typing import NamedTuple

__all__ = ["PLANS", "Layer", "Plan"]


class Layer(NamedTuple):
    """A convolution.

    kernel: height and width of its kernel.
    outputs: number of its outputs.
    """

    kernel: tuple[int, int]
    outputs: int


class Plan(NamedTuple):
    """The layers of one network.

    network: name in the table of networks.
    family: 'alexnet', 'overfeat', 'vgg' or 'inception'.
    layers: the convolutions before the logits, by their scopes in the network's, in the order of the network.
    logits: scope of the logits in the network's.
    parameters: number of parameters after the first layer and before the logits.
    has_norms: whether batch norms, without a ``gamma``, take the place of biases.
    """

    network: str
    family: str
    layers: dict[str, Layer]
    logits: str
    parameters: int
    has_norms: bool = False

    @property
    def first(self) -> str:
        """The scope of the first convolution."""
        return next(iter(self.layers))

    def weights(self, layer: str) -> str:
        """Returns the name of a convolution's kernel; a separable one has another kernel before it, one a channel."""
        return f"{layer}/{'pointwise_weights' if self.is_separable(layer) else 'weights'}"

    def is_separable(self, layer: str) -> bool:
        """Returns whether a convolution is one a channel, and then one of 1x1."""
        return self.network == "inception_v2" and layer == self.first


# A convolution: the end of its scope, which tells the kernel, its outputs, and its kernel where that is another.
_CONVOLUTION = re.compile(r"(?P<name>\w+_(?P<kernel>\dx\d)):(?P<outputs>\d+)(?:@(?P<other>\dx\d))?")

# The Inceptions: the layers at their beginning, then a line for each block, with its branches.
_INCEPTION_V1 = """
    . = 1a_7x7:64 2b_1x1:64 2c_3x3:192
    Mixed_3b = 0a_1x1:64 | 0a_1x1:96 0b_3x3:128 | 0a_1x1:16 0b_3x3:32 | 0b_1x1:32
    Mixed_3c = 0a_1x1:128 | 0a_1x1:128 0b_3x3:192 | 0a_1x1:32 0b_3x3:96 | 0b_1x1:64
    Mixed_4b = 0a_1x1:192 | 0a_1x1:96 0b_3x3:208 | 0a_1x1:16 0b_3x3:48 | 0b_1x1:64
    Mixed_4c = 0a_1x1:160 | 0a_1x1:112 0b_3x3:224 | 0a_1x1:24 0b_3x3:64 | 0b_1x1:64
    Mixed_4d = 0a_1x1:128 | 0a_1x1:128 0b_3x3:256 | 0a_1x1:24 0b_3x3:64 | 0b_1x1:64
    Mixed_4e = 0a_1x1:112 | 0a_1x1:144 0b_3x3:288 | 0a_1x1:32 0b_3x3:64 | 0b_1x1:64
    Mixed_4f = 0a_1x1:256 | 0a_1x1:160 0b_3x3:320 | 0a_1x1:32 0b_3x3:128 | 0b_1x1:128
    Mixed_5b = 0a_1x1:256 | 0a_1x1:160 0b_3x3:320 | 0a_1x1:32 0a_3x3:128 | 0b_1x1:128
    Mixed_5c = 0a_1x1:384 | 0a_1x1:192 0b_3x3:384 | 0a_1x1:48 0b_3x3:128 | 0b_1x1:128
"""
_INCEPTION_V2 = """
    . = 1a_7x7:64 2b_1x1:64 2c_3x3:192
    Mixed_3b = 0a_1x1:64 | 0a_1x1:64 0b_3x3:64 | 0a_1x1:64 0b_3x3:96 0c_3x3:96 | 0b_1x1:32
    Mixed_3c = 0a_1x1:64 | 0a_1x1:64 0b_3x3:96 | 0a_1x1:64 0b_3x3:96 0c_3x3:96 | 0b_1x1:64
    Mixed_4a = 0a_1x1:128 1a_3x3:160 | 0a_1x1:64 0b_3x3:96 1a_3x3:96
    Mixed_4b = 0a_1x1:224 | 0a_1x1:64 0b_3x3:96 | 0a_1x1:96 0b_3x3:128 0c_3x3:128 | 0b_1x1:128
    Mixed_4c = 0a_1x1:192 | 0a_1x1:96 0b_3x3:128 | 0a_1x1:96 0b_3x3:128 0c_3x3:128 | 0b_1x1:128
    Mixed_4d = 0a_1x1:160 | 0a_1x1:128 0b_3x3:160 | 0a_1x1:128 0b_3x3:160 0c_3x3:160 | 0b_1x1:96
    Mixed_4e = 0a_1x1:96 | 0a_1x1:128 0b_3x3:192 | 0a_1x1:160 0b_3x3:192 0c_3x3:192 | 0b_1x1:96
    Mixed_5a = 0a_1x1:128 1a_3x3:192 | 0a_1x1:192 0b_3x3:256 1a_3x3:256
    Mixed_5b = 0a_1x1:352 | 0a_1x1:192 0b_3x3:320 | 0a_1x1:160 0b_3x3:224 0c_3x3:224 | 0b_1x1:128
    Mixed_5c = 0a_1x1:352 | 0a_1x1:192 0b_3x3:320 | 0a_1x1:192 0b_3x3:224 0c_3x3:224 | 0b_1x1:128
"""
_INCEPTION_V3 = """
    . = 1a_3x3:32 2a_3x3:32 2b_3x3:64 3b_1x1:80 4a_3x3:192
    Mixed_5b = 0a_1x1:64 | 0a_1x1:48 0b_5x5:64 | 0a_1x1:64 0b_3x3:96 0c_3x3:96 | 0b_1x1:32
    Mixed_5c = 0a_1x1:64 | 0b_1x1:48 Conv_1_0c_5x5:64 | 0a_1x1:64 0b_3x3:96 0c_3x3:96 | 0b_1x1:64
    Mixed_5d = 0a_1x1:64 | 0a_1x1:48 0b_5x5:64 | 0a_1x1:64 0b_3x3:96 0c_3x3:96 | 0b_1x1:64
    Mixed_6a = 1a_1x1:384@3x3 | 0a_1x1:64 0b_3x3:96 1a_1x1:96@3x3
    Mixed_6b = 0a_1x1:192 | 0a_1x1:128 0b_1x7:128 0c_7x1:192
        | 0a_1x1:128 0b_7x1:128 0c_1x7:128 0d_7x1:128 0e_1x7:192 | 0b_1x1:192
    Mixed_6c = 0a_1x1:192 | 0a_1x1:160 0b_1x7:160 0c_7x1:192
        | 0a_1x1:160 0b_7x1:160 0c_1x7:160 0d_7x1:160 0e_1x7:192 | 0b_1x1:192
    Mixed_6d = 0a_1x1:192 | 0a_1x1:160 0b_1x7:160 0c_7x1:192
        | 0a_1x1:160 0b_7x1:160 0c_1x7:160 0d_7x1:160 0e_1x7:192 | 0b_1x1:192
    Mixed_6e = 0a_1x1:192 | 0a_1x1:192 0b_1x7:192 0c_7x1:192
        | 0a_1x1:192 0b_7x1:192 0c_1x7:192 0d_7x1:192 0e_1x7:192 | 0b_1x1:192
    Mixed_7a = 0a_1x1:192 1a_3x3:320 | 0a_1x1:192 0b_1x7:192 0c_7x1:192 1a_3x3:192
    Mixed_7b = 0a_1x1:320 | 0a_1x1:384 0b_1x3:384 0b_3x1:384
        | 0a_1x1:448 0b_3x3:384 0c_1x3:384 0d_3x1:384 | 0b_1x1:192
    Mixed_7c = 0a_1x1:320 | 0a_1x1:384 0b_1x3:384 0c_3x1:384
        | 0a_1x1:448 0b_3x3:384 0c_1x3:384 0d_3x1:384 | 0b_1x1:192
"""


def _inception(network: str, logits: str, parameters: int, table: str) -> Plan:
    layers = {}
    for line in re.sub(r"\n\s*\|", " |", table.strip()).splitlines():
        block, branches = line.strip().split(" = ")
        for i, branch in enumerate(branches.split("|")):
            for found in _CONVOLUTION.finditer(branch):
                name = found["name"] if found["name"].startswith("Conv") else f"Conv2d_{found['name']}"
                height, width = map(int, (found["other"] or found["kernel"]).split("x"))
                scope = name if block == "." else f"{block}/Branch_{i}/{name}"
                layers[scope] = Layer((height, width), int(found["outputs"]))
    return Plan(network, "inception", layers, logits, parameters, has_norms=True)


def _vgg(network: str, parameters: int, counts: tuple[int, ...]) -> Plan:
    layers = {
        f"conv{stage}/conv{stage}_{i}": Layer((3, 3), min(64 * 2 ** (stage - 1), 512))
        for stage, count in enumerate(counts, start=1)
        for i in range(1, count + 1)
    }
    layers |= {"fc6": Layer((7, 7), 4096), "fc7": Layer((1, 1), 4096)}
    return Plan(network, "vgg", layers, "fc8", parameters)


def _single(network: str, family: str, parameters: int, **layers: tuple[int, int]) -> Plan:
    """Returns the plan of a network whose convolutions have square kernels; ``layers`` are (size, outputs)."""
    square = {name: Layer((size, size), outputs) for name, (size, outputs) in layers.items()}
    return Plan(network, family, square, "fc8", parameters)


PLANS: dict[str, Plan] = {
    plan.network: plan
    for plan in (
        _single(
            *("alexnet_v2", "alexnet", 46_183_616),
            **{"conv1": (11, 64), "conv2": (5, 192), "conv3": (3, 384), "conv4": (3, 384), "conv5": (3, 256)},
            **{"fc6": (5, 4096), "fc7": (1, 4096)},
        ),
        _single(
            *("overfeat", "overfeat", 141_584_128),
            **{"conv1": (11, 64), "conv2": (5, 256), "conv3": (3, 512), "conv4": (3, 1024), "conv5": (3, 1024)},
            **{"fc6": (6, 3072), "fc7": (1, 4096)},
        ),
        _vgg("vgg_a", 128_764_544, (1, 1, 2, 2, 2)),
        _vgg("vgg_16", 134_258_752, (2, 2, 3, 3, 3)),
        _vgg("vgg_19", 139_568_448, (2, 2, 4, 4, 4)),
        _inception("inception_v1", "Logits/Conv2d_0c_1x1", 5_597_584, _INCEPTION_V1),
        _inception("inception_v2", "Logits/Conv2d_1c_1x1", 10_170_336, _INCEPTION_V2),
        _inception("inception_v3", "Logits/Conv2d_1c_1x1", 21_801_824, _INCEPTION_V3),
    )
}
