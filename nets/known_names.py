"""The names that other libraries give to the end points of a ResNet: torchvision, timm, Keras, Caffe, the paper.

They serve for suggestions only: another library's name tells the place in the network, but the tensor may differ.
"""

import re
from collections.abc import Collection, Iterator

__all__ = ["aliases_of"]

# Our aliases -> names elsewhere, in lower case without separators. Of several aliases the first that exists counts.
_ELSEWHERE = {
    ("global_pool",): """
        adaptiveavgpool avgpool averagepool averagepooling averagepooling2d bottleneckfeatures embedding embeddings
        feature features finalpool flatten gap globalaveragepool globalaveragepooling globalaveragepooling2d
        globalavgpool globalpooling lastpool penultimate pool5 pooled pooler pooleroutput prelogits prelogitsflatten
        representation""",
    ("logits",): """
        classification classifier dense fc fc1000 fc1001 fullyconnected head headfc lastlinear linear logit logitslayer
        output outputs score scores spatialsqueeze""",
    ("predictions",): """
        classes classprobabilities prediction predictionlayer predictionsoftmax prob probabilities probability probs
        softmax""",
    ("conv1", "init/init_conv"): "act1 bn1 conv1bn conv1conv conv1relu relu1 stemconv",
    ("pool1",): "maxpool maxpool1 maxpooling maxpooling2d pool1pool rootblock stem",
    ("postnorm", "unit_last"): "finalbn finalnorm norm postbn postrelu",
}
_ALIASES = {name: aliases for aliases, names in _ELSEWHERE.items() for name in names.split()}

# Automatic names have a number at the end (dense_1), and a prefix in a larger model (model.avgpool).
_COUNTER = re.compile(r"_\d$")
_WRAPPERS = re.compile(r"^(?:(?:backbone|base_model|encoder|features|model|module|net|resnet)[./])+")

# Names of units: (pattern, number of the first block, number of the first unit).
_UNITS = (
    # torchvision and timm's ResNet: layer4.2.conv1; groups and stages alone.
    (
        re.compile(r"(?:layer|group|block_?group|stage)_?(?P<block>[1-4])(?:[._/](?P<unit>\d+)(?P<layer>[._/].+)?)?"),
        1,
        0,
    ),
    # timm's ResNetV2 and Hugging Face: stages.3.blocks.2.conv1.
    (re.compile(r"stages[._/](?P<block>[0-3])(?:[._/](?:blocks|layers)[._/](?P<unit>\d+)(?P<layer>[._/].+)?)?"), 0, 0),
    # The paper and Keras, which count the first convolution as a stage: conv5_x, conv5_block3_2_conv; detectron2: res5.
    (re.compile(r"(?:conv|res|stage)_?(?P<block>[2-5])(?:_?x)?(?:_block_?(?P<unit>\d+)(?P<layer>_.+)?)?"), 2, 1),
    (re.compile(r"res_?(?P<block>[2-5])\.(?P<unit>\d+)(?P<layer>[._/].+)?"), 2, 0),
    # Caffe: res5c_branch2b, and res4b22 in deeper networks, whose first unit is res4a.
    (re.compile(r"(?:res|bn|scale)(?P<block>[2-5])(?P<unit>[a-z]\d*)(?P<layer>_.+)?"), 2, 0),
)
_SHORTCUTS = re.compile(r"downsample|shortcut|branch1|_0_|proj")
_LAYERS = re.compile(r"branch2([a-c])|([1-3])")


def aliases_of(name: str, there: Collection[str]) -> list[str]:
    """Returns our aliases for a name of another library, the likeliest first; an empty list for an unknown name.

    Args:
      name: name of another library, without the scope of the network.
      there: aliases of the network's end points. The result may contain others.
    """
    name = _WRAPPERS.sub("", name.partition(":")[0].casefold())
    for aliases in (*_by_name(name), _in_block(name, there)):
        if aliases:
            return list(aliases)
    return []


def _by_name(name: str) -> Iterator[tuple[str, ...]]:
    """Yields the aliases for a name, then for its last part unless the name has a block."""
    for candidate in (name, name.rpartition("/")[2] if "block" not in name else name):
        for plain in (candidate, _COUNTER.sub("", candidate)):
            yield _ALIASES.get(re.sub(r"[\W_]", "", plain), ())


def _in_block(name: str, there: Collection[str]) -> list[str]:
    """Returns the alias of a block, unit or layer, then the aliases of the unit and the block around it."""
    for pattern, first_block, first_unit in _UNITS:
        if match := pattern.fullmatch(name):
            block = int(match["block"]) - first_block + 1
            return list(_candidates(block, _unit(match["unit"], first_unit), _layer(match["layer"]), there))
    return []


def _candidates(block: int, unit: int | None, layer: str | None, there: Collection[str]) -> Iterator[str]:
    if unit is not None:
        if layer is not None:
            yield f"block{block}/unit_{unit}/{layer}"
        yield f"block{block}/unit_{unit}"
        yield f"unit_{block}_{unit - 1}"  # in resnet_cifar, whose stages have no end point
    yield f"block{block}"
    units = [int(each.rpartition("_")[2]) for each in there if re.fullmatch(rf"unit_{block}_\d+", each)]
    if units:
        yield f"unit_{block}_{max(units)}"


def _unit(text: str | None, first: int) -> int | None:
    """Returns the number of a unit, counted from 1."""
    if text is None:
        return None
    if text[0].isalpha():
        return int(text[1:]) + 1 if text[1:] else ord(text) - ord("a") + 1
    return int(text) - first + 1


def _layer(text: str | None) -> str | None:
    """Returns the scope of a layer in its unit, or None if its output is the output of the unit."""
    if text is None:
        return None
    if _SHORTCUTS.search(text):
        return "shortcut"
    match = _LAYERS.search(text)
    if match is None:
        return None
    return f"conv{match[2] or 'abc'.index(match[1]) + 1}"
