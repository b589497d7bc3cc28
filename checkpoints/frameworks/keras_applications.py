"""The networks of ``keras.applications`` that compute the same functions as slim's, and the names of their layers."""

import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from typing import NamedTuple

from checkpoints.diagnosis.layer_plans import PLANS
from checkpoints.frameworks.layer_pairs import LayerPair, unit_names
from nets.nets_factory import NETWORKS, Network

__all__ = [
    "APPLICATIONS",
    "CONVERTIBLE",
    "Application",
    "counted",
    "layer_pairs",
    "names_in",
    "network_of",
    "our_names",
    "renumbered",
    "top_of",
]

# The variables of a batch norm, which have the same names in Keras and slim.
_NORM = ("gamma", "beta", "moving_mean", "moving_variance")

# Names of the classifying layer: in Keras today, and in its hosted files.
_TOPS = ("predictions", "probs", "fc1000")

# The layers of slim's VGG that are matrices in Keras. They belong to the top there.
_MATRICES = {"fc6": "fc1", "fc7": "fc2"}

_UNIT = re.compile(r"conv(?P<block>\d+)_block(?P<unit>\d+)_1_conv")
_VGG_LAYER = re.compile(r"block(?P<block>\d+)_conv(?P<layer>\d+)")
_COUNTED = re.compile(r"(?P<kind>conv2d|batch_normalization)(?:_\d+)?")


class Application(NamedTuple):
    """A network of ``keras.applications``.

    function: name of the function that builds it.
    module: name of the module with its ``preprocess_input``.
    preprocessing: preprocessing of slim that equals Keras' own.
    norm: names of the variables of its batch norms.
    epsilon, slim_epsilon: epsilons of the batch norms, in Keras and in slim.
    least: smallest size of images that it can be built for.
    sizes: smallest and largest size at which a network with its top computes slim's function; None for any.
    """

    function: str
    module: str
    preprocessing: str
    norm: tuple[str, ...] = _NORM
    epsilon: float = 1.001e-5
    slim_epsilon: float = 1e-5
    least: int = 1
    sizes: tuple[int, int] | None = None

    @property
    def takes_bgr(self) -> bool:
        """True if its preprocessing reverses the colours, which slim's does not."""
        return self.preprocessing == "vgg"


# By our networks. Slim averages over at most 8x8 positions before the logits of Inception v3, and Keras over all.
APPLICATIONS = {
    **{f"resnet_v1_{depth}": Application(f"ResNet{depth}", "resnet", "vgg") for depth in (50, 101, 152)},
    **{f"resnet_v2_{depth}": Application(f"ResNet{depth}V2", "resnet_v2", "inception") for depth in (50, 101, 152)},
    **{
        f"vgg_{depth}": Application(f"VGG{depth}", f"vgg{depth}", "vgg", least=32, sizes=(224, 255))
        for depth in (16, 19)
    },
    "inception_v3": Application(
        *("InceptionV3", "inception_v3", "inception", _NORM[1:], 1e-3, 1e-3), least=75, sizes=(75, 330)
    ),
}


# What can be converted, for messages.
CONVERTIBLE = f"keras.applications' {', '.join(each.function for each in APPLICATIONS.values())}"


def layer_pairs(network: Network, with_top: bool = True) -> Iterator[LayerPair]:
    """Yields the layers of a network in the order of its graph.

    Keras' names are those of the first model of a session. ``names_in`` tells what a file has in their place.
    """
    if network.variant is not None:
        yield from _residual(network)
    elif network.name.startswith("vgg"):
        yield from _vgg(network, with_top)
    else:
        yield from _inception(network)
    if with_top:
        logits = PLANS[network.name].logits if network.name in PLANS else "logits"
        yield LayerPair(logits, _TOPS[0], None, (1, 1))


def _residual(network: Network) -> Iterator[LayerPair]:
    preactivation = network.family == "resnet_v2"
    yield LayerPair("conv1", "conv1_conv", None if preactivation else "conv1_bn")
    for block, unit, scope in unit_names(network):
        name = f"conv{block + 1}_block{unit}"
        if preactivation:
            yield LayerPair(f"{scope}/preact", None, f"{name}_preact_bn")
        if unit == 1:
            yield LayerPair(f"{scope}/shortcut", f"{name}_0_conv", None if preactivation else f"{name}_0_bn")
        yield LayerPair(f"{scope}/conv1", f"{name}_1_conv", f"{name}_1_bn")
        yield LayerPair(f"{scope}/conv2", f"{name}_2_conv", f"{name}_2_bn")
        yield LayerPair(f"{scope}/conv3", f"{name}_3_conv", None if preactivation else f"{name}_3_bn")
    if preactivation:
        yield LayerPair("postnorm", None, "post_bn")


def _vgg(network: Network, with_top: bool) -> Iterator[LayerPair]:
    for scope, layer in PLANS[network.name].layers.items():
        if scope not in _MATRICES:
            yield LayerPair(scope, re.sub(r"conv\d/conv(\d)_(\d)", r"block\1_conv\2", scope), None)
        elif with_top:
            yield LayerPair(scope, _MATRICES[scope], None, layer.kernel)


def _inception(network: Network) -> Iterator[LayerPair]:
    # Keras makes the layers in slim's order, and numbers them.
    for i, scope in enumerate(PLANS[network.name].layers):
        yield LayerPair(scope, counted("conv2d", i), counted("batch_normalization", i))


def our_names(network: Network, with_top: bool) -> set[str]:
    """Returns slim's names, relative to the network's scope, of the variables that Keras' network has, too."""
    norm = APPLICATIONS[network.name].norm
    names = set()
    for pair in layer_pairs(network, with_top):
        if pair.theirs:
            names |= {f"{pair.ours}/weights"} if pair.norm else {f"{pair.ours}/weights", f"{pair.ours}/biases"}
        if pair.norm:
            names |= {f"{pair.our_norm}/{leaf}" for leaf in norm}
    return names


def counted(kind: str, number: int) -> str:
    """Returns the name that Keras gives the layer of this class and number, from 0, in the first model of a session."""
    return f"{kind}_{number}" if number else kind


def renumbered(names: Iterable[str]) -> dict[str, str]:
    """Returns layers' names that Keras made → the names that they have in the first model of a session.

    Keras names a layer after its class by default, and keeps counting: the first 'conv2d' of a second model may be
    'conv2d_94'. The order remains.
    """
    counts: Counter[str] = Counter()
    found = {}
    for kind, _, name in sorted(_split(name) for name in names):
        found[name] = counted(kind, counts[kind])
        counts[kind] += 1
    return found


def _split(name: str) -> tuple[str, int, str]:
    kind, _, number = name.rpartition("_")
    return (kind, int(number), name) if kind and number.isdecimal() else (name, 0, name)


def names_in(names: Collection[str]) -> dict[str, str]:
    """Returns the names of ``layer_pairs`` → those that a file with layers of these names has, where they differ."""
    automatic = renumbered(name for name in names if _COUNTED.fullmatch(name))
    top = top_of(names)
    return {fresh: name for name, fresh in automatic.items()} | ({_TOPS[0]: top} if top else {})


def top_of(names: Collection[str]) -> str | None:
    """Returns the name of the classifying layer among a file's; None without one."""
    return next((name for name in _TOPS if name in names), None)


def network_of(names: Collection[str]) -> Network | None:
    """Returns the network that a file with layers of these names holds, possibly not completely; None if it is none."""
    units, layers = _counts(_UNIT, "unit", names), _counts(_VGG_LAYER, "layer", names)
    family = "resnet_v2" if "conv2_block1_preact_bn" in names else "resnet_v1"
    kinds = Counter(match["kind"] for name in names if (match := _COUNTED.fullmatch(name)))
    for network in map(NETWORKS.__getitem__, APPLICATIONS):
        if network.variant is not None:
            found = network.family == family and network.variant.units == units
        elif network.name.startswith("vgg"):
            found = layers == _counts(_VGG_LAYER, "layer", [pair.theirs for pair in layer_pairs(network)])
        else:
            found = {*kinds.values()} == {len(PLANS[network.name].layers)} and len(kinds) == 2
        if found:
            return network
    return None


def _counts(pattern: re.Pattern[str], part: str, names: Iterable[str]) -> tuple[int, ...]:
    """Returns the largest number of a part of each block, of the names that fit the pattern."""
    found: dict[int, int] = {}
    for name in names:
        if match := pattern.fullmatch(name):
            block = int(match["block"])
            found[block] = max(found.get(block, 0), int(match[part]))
    return tuple(found[block] for block in sorted(found))
