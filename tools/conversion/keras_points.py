"""The end points that slim's networks share with those of ``keras.applications``, and Keras' layers for them."""

from collections.abc import Iterator

from checkpoints.diagnosis.layer_plans import PLANS
from checkpoints.frameworks import Weights
from checkpoints.frameworks.keras_applications import counted, layer_pairs
from checkpoints.frameworks.layer_pairs import unit_names
from nets.nets_factory import Network

__all__ = ["layers_by_alias"]


def layers_by_alias(weights: Weights) -> dict[str, str]:
    """Returns the shared end points of a network in the order of its graph.

    They are given by our aliases → the layers of Keras that compute them, by their names in the first model of a
    session.
    """
    network, with_top = weights.network, bool(weights.num_classes)
    if network.variant is not None:
        names = dict(_residual(network))
    elif network.name.startswith("vgg"):
        names = dict(_vgg(network, with_top))
    else:
        names = dict(_inception(network))
    if with_top:
        names |= {"global_pool": "avg_pool"} if not network.name.startswith("vgg") else {}
        names["predictions"] = "predictions"
    return names


def _residual(network: Network) -> Iterator[tuple[str, str]]:
    preactivation = network.family == "resnet_v2"
    # The last layer that belongs to each convolution of a unit.
    suffixes = {"conv1": "1_relu", "conv2": "2_relu", "conv3": "3_conv" if preactivation else "3_bn"}
    yield "conv1", "conv1_conv" if preactivation else "conv1_relu"
    yield "pool1", "pool1_pool"
    for block, unit, _ in unit_names(network):
        ours, theirs = f"block{block}/unit_{unit}", f"conv{block + 1}_block{unit}"
        if unit == 1:
            yield f"{ours}/shortcut", f"{theirs}_{'0_conv' if preactivation else '0_bn'}"
        for layer, suffix in suffixes.items():
            yield f"{ours}/{layer}", f"{theirs}_{suffix}"
        yield ours, f"{theirs}_out"
    if preactivation:
        yield "postnorm", "post_relu"


def _vgg(network: Network, with_top: bool) -> Iterator[tuple[str, str]]:
    pairs = [pair for pair in layer_pairs(network, with_top) if pair.ours in PLANS[network.name].layers]
    for i, pair in enumerate(pairs, start=1):
        yield pair.ours, pair.theirs
        stage = pair.ours.partition("/")[0]
        if stage.startswith("conv") and (i == len(pairs) or not pairs[i].ours.startswith(f"{stage}/")):
            yield stage.replace("conv", "pool"), stage.replace("conv", "block") + "_pool"


def _inception(network: Network) -> Iterator[tuple[str, str]]:
    pools = {"Conv2d_2b_3x3": "MaxPool_3a_3x3", "Conv2d_4a_3x3": "MaxPool_5a_3x3"}
    layers = list(PLANS[network.name].layers)
    blocks = list(dict.fromkeys(layer.partition("/")[0] for layer in layers if "/" in layer))
    for i, layer in enumerate(layers):
        yield layer, counted("activation", i)
        if layer in pools:
            yield pools[layer], counted("max_pooling2d", [*pools].index(layer))
        block = layer.partition("/")[0]
        if block in blocks and (i + 1 == len(layers) or not layers[i + 1].startswith(f"{block}/")):
            yield block, f"mixed{blocks.index(block)}"
