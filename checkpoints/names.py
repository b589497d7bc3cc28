"""Names of variables: those that the families of networks use, and those that TensorFlow derives from them."""

import re

__all__ = [
    "FIRST_KERNEL",
    "LAST_NORM",
    "LAYER_VARIABLES",
    "LOGITS",
    "NORM",
    "OUTPUT",
    "ROOT_KERNEL",
    "SHADOW",
    "SHORTCUT_OF_PROJECTIONS",
    "SLIM_FAMILIES",
    "STATISTICS",
    "UNITS",
    "block_of",
    "is_logits",
    "joined",
    "logits_pattern",
    "root_of",
]

# The ending of tf.Variable.name, which names in a checkpoint do not have.
OUTPUT = ":0"

# The last part of the name of a variable's moving average (its shadow), as tf.train.ExponentialMovingAverage names it.
SHADOW = "ExponentialMovingAverage"

# Patterns of a unit's variables, with the number of the first unit: slim's names, and those of tensorflow/models'
# networks for small images.
UNITS = (
    (re.compile(r"^(?:(?P<scope>.+)/)?block(?P<block>\d+)/unit_(?P<unit>\d+)/(?P<unit_scope>[^/]+)/(?P<rest>.+)"), 1),
    (re.compile(r"^(?:(?P<scope>.+)/)?unit_(?P<block>\d+)_(?P<unit>\d+)/(?P<unit_scope>[^/]+)/(?P<rest>.+)"), 0),
)
# The first kernel of a block's first unit, the network's first kernel and its last normalization, for the unit scopes
# in which they differ from most families.
FIRST_KERNEL = {"sub1": "unit_{block}_0/sub1/conv1/DW"}
_ROOT = {"sub1": "init/init_conv/DW"}
ROOT_KERNEL = {"sub1": (3, 16), "identity": (3, 64)}  # size and outputs
LAST_NORM = {"bottleneck_v2": "postnorm", "sub1": "unit_last/final_bn"}
# The shortcut of a resnet_basic, by whether the first two units of block1 and the first of block2 have a projection.
SHORTCUT_OF_PROJECTIONS = {
    (False, False, False): "A",
    (False, False, True): "B",
    (True, True, True): "C",
    (True, False, True): "first_unit",
}
# slim's families and those made of its parts. They are built under resnet_arg_scope, the root block is optional, and
# the logits are a 1x1 convolution instead of a matrix product.
SLIM_FAMILIES = ("resnet_v1", "resnet_v2", "resnet_basic")
LOGITS = ("logits/weights", "logit/DW")
# tf_slim's networks whose logits are the layer fc8, and all names of logits.
_FC8 = ("alexnet", "overfeat", "vgg")
_LOGITS = re.compile(
    r"(^|/)((logits|fc8|Logits/Conv2d_[01]c_1x1|AuxLogits/Conv2d_2b_1x1)/(weights|biases)|logit/(DW|biases))$"
)
STATISTICS = ("moving_mean", "moving_variance")
NORM = ("beta", "gamma", *STATISTICS)
# Names that layers give their variables; no optimizer uses them for its slots.
LAYER_VARIABLES = frozenset(("weights", "biases", "DW", "kernel", "bias", *NORM))


def root_of(unit_scope: str) -> str:
    """Returns the name of the network's first kernel, relative to the network's scope."""
    return _ROOT.get(unit_scope, "conv1/weights")


def is_logits(name: str) -> bool:
    """Returns whether a variable of this name belongs to a network's logits."""
    return _LOGITS.search(name) is not None


def logits_pattern(kind: str, scope: str) -> str:
    """Returns a pattern for the names of a network's logits, for the argument ``exclude``.

    Args:
      kind: variable scope inside a unit's, or the name of a network without units.
      scope: scope of the network.
    """
    if kind.startswith("inception"):
        return joined(scope, "*Logits/*")  # and the auxiliary ones
    return joined(scope, "logit/*" if kind == "sub1" else "fc8/*" if kind.startswith(_FC8) else "logits/*")


def joined(scope: str, name: str) -> str:
    """Returns the name under a scope; a scope of '' adds nothing."""
    return f"{scope}/{name}" if scope else name


def block_of(name: str) -> tuple[str, int] | None:
    """Returns (scope of the network, number of the block) of a variable's name; None if it is in no block."""
    for pattern, _ in UNITS:
        if match := pattern.match(name):
            return match["scope"] or "", int(match["block"])
    return None
