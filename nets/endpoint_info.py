"""Descriptions of end points: their names, their shapes, and the part of the image that they see.

Everything is read from the graph, so it works for any network.
"""

import difflib
import itertools
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

import tensorflow as tf

from nets.arguments import shown
from nets.known_names import aliases_of
from nets.receptive_fields import ReceptiveField, receptive_fields

__all__ = [
    "EndPoint",
    "ReceptiveField",
    "UnknownEndPointError",
    "alias",
    "describe",
    "reachable",
    "resolve",
    "with_aliases",
]

# Names of ops in tf_slim's Inceptions: all but the logits are under a second scope of the same kind of name.
_INCEPTION = re.compile(r"(?:^|/)(?:Mixed_\d[a-z]|Logits|AuxLogits|(?:Conv2d|MaxPool)_\d[a-z]_\dx\d)/")

# The names of the places that most networks have, and what the other networks of tf_slim call them.
_ROLES = {
    "global_pool": re.compile(r"PreLogits|Logits/(?:Avg|Max)Pool_\w+"),
    "logits": re.compile(r"Logits|fc8"),
    "predictions": re.compile(r"Predictions"),
}

# The kind of a unit: the scope that the unit's function opens inside of the unit's own scope.
_UNIT_SCOPE = re.compile(r"(?<=/unit_)(\d+)/(?:basic|bottleneck|identity)(?:_\w+)?(?=/|$)")


class UnknownEndPointError(ValueError):
    """The error for a name that no end point has."""


class EndPoint(NamedTuple):
    """One end point of a network.

    name: full name, the key in the network's dict.
    alias: short name, without the network's scope and the unit's kind (``bottleneck_v2``, ``basic``, …); the name of
      its place, such as ``logits``, if it was asked for by that.
    tensor: the tensor.
    shape: [batch, height, width, channels], or [batch, channels]; None for an unknown size.
    stride: size of the image divided by size of the end point, (vertical, horizontal); None if unknown or not spatial.
    channels: size of the last axis.
    receptive_field: None if the image's size is unknown, or the path has an op that our networks do not use.
    """

    name: str
    alias: str
    tensor: tf.Tensor
    shape: tuple[int | None, ...]
    stride: tuple[int, int] | None
    channels: int | None
    receptive_field: ReceptiveField | None


def describe(
    inputs: tf.Tensor, end_points: Mapping[str, tf.Tensor], names: Iterable[str] | None = None
) -> list[EndPoint]:
    """Describes end points of a network.

    Args:
      inputs: input of the network, [batch, height, width, channels].
      end_points: dict that the network's builder returned.
      names: names or aliases, or a single one; None for all that can be reached, in graph order.

    Returns:
      One EndPoint for each name.

    Raises:
      UnknownEndPointError: for a name that no end point has.
      ValueError: under eager execution, or if ``end_points`` is not a dict.
    """
    _check_end_points(end_points)
    if not tf.is_symbolic_tensor(inputs):
        raise ValueError(f"inputs must be the tensor that the network was built on, and is {shown(inputs)}.")
    names = [names] if isinstance(names, str) else None if names is None else list(names)
    scope = _network_scope(end_points)
    points = list(reachable(end_points).items()) if names is None else [resolve(name, end_points) for name in names]
    asked = [name for name, _ in points] if names is None else names
    seen = receptive_fields(inputs, {tensor.name for _, tensor in points})
    described = []
    for wanted, (name, tensor) in zip(asked, points, strict=True):
        short_name = wanted if wanted in _ROLES else alias(name, scope)
        shape = tuple(tensor.shape.as_list())
        stride, field = seen.get(tensor.name, (None, None))
        described.append(EndPoint(name, short_name, tensor, shape, stride, shape[-1] if shape else None, field))
    return described


def resolve(name: str, end_points: Mapping[str, tf.Tensor]) -> tuple[str, tf.Tensor]:
    """Finds an end point by its full name or its alias.

    Args:
      name: ``resnet_v2_50/block3``, ``block3``, ``block3/unit_2/conv1``, ``conv5/conv5_3``, ``Mixed_7c``, ...; also
        layers that the dict leaves out: ``pool1``, ``block3/unit_2/preact``, ``Mixed_7c/Branch_1/Conv2d_0a_1x1``.
        ``global_pool``, ``logits`` and ``predictions`` work for every network that has such a place.
      end_points: dict that the network's builder returned.

    Returns:
      (full name, tensor).

    Raises:
      UnknownEndPointError: for an unknown name. The message translates names of other libraries (``avgpool``,
        ``layer4``), or suggests the nearest names, or lists all.
      ValueError: if ``end_points`` is not a dict of tensors of a graph.
    """
    _check_end_points(end_points)
    if not isinstance(name, str):
        raise UnknownEndPointError(f"The name of an end point must be a string, and is {shown(name)}.")
    scope = _network_scope(end_points)
    # The dict comes first: the layers that it leaves out have to be searched in the whole graph.
    for find in (dict, reachable):
        points = find(end_points)
        by_alias = {alias(full_name, scope): full_name for full_name in points}
        full_name = name if name in points else by_alias.get(name) or _in_role(name, by_alias)
        if full_name is not None:
            return full_name, points[full_name]
    raise UnknownEndPointError(_unknown(name, by_alias, scope))


def with_aliases(end_points: Mapping[str, tf.Tensor]) -> Mapping[str, tf.Tensor]:
    """Returns end points that answer to aliases, too, and to the layers that the dict leaves out.

    ``with_aliases(end_points)["block3"]`` is the tensor of ``resnet_v2_50/block3``. Iteration yields the dict's own
    names. An unknown name raises an UnknownEndPointError that is a KeyError, too, as for any mapping.

    Args:
      end_points: dict that the network's builder returned.

    Raises:
      ValueError: if ``end_points`` is not a dict of tensors of a graph.
    """
    _check_end_points(end_points)
    return _WithAliases(end_points)


class _WithAliases(Mapping[str, tf.Tensor]):
    def __init__(self, end_points: Mapping[str, tf.Tensor]) -> None:
        self._end_points = end_points

    def __getitem__(self, name: str) -> tf.Tensor:
        try:
            return resolve(name, self._end_points)[1]
        except UnknownEndPointError as error:
            raise _UnknownKeyError(str(error)) from None

    def __iter__(self) -> Iterator[str]:
        return iter(self._end_points)

    def __len__(self) -> int:
        return len(self._end_points)


class _UnknownKeyError(UnknownEndPointError, KeyError):
    __str__ = Exception.__str__  # that of KeyError shows the quoted repr


def _in_role(name: str, by_alias: Mapping[str, str]) -> str | None:
    """Returns the full name of the end point that has the role of this name, such as 'logits'; None if none has."""
    role = _ROLES.get(name)
    return next((full_name for short, full_name in by_alias.items() if role and role.fullmatch(short)), None)


def _check_end_points(end_points: Mapping[str, tf.Tensor]) -> None:
    if not isinstance(end_points, Mapping):
        raise ValueError(
            "end_points must be the dict that a builder returns as the second of two values, and is of type "
            f"{type(end_points).__name__}."
        )
    if not all(tf.is_symbolic_tensor(tensor) for tensor in end_points.values()):
        raise ValueError(
            "end_points must be tensors of a graph, and these have values: build the network in a tf.Graph(), inside "
            "of `with tf.Graph().as_default():`."
        )


def _unknown(name: str, by_alias: Mapping[str, str], scope: str) -> str:
    sentence = f"Unknown end point {name!r}: "
    known = aliases_of(name.removeprefix(f"{scope}/"), by_alias)
    nearest = [alias for alias in known if alias in by_alias][:1]
    if not known:
        nearest = difflib.get_close_matches(name, {*by_alias, *by_alias.values()}, n=3, cutoff=0.6)
    if nearest:
        return f"{sentence}did you mean {' or '.join(nearest)}?"
    missing = f"this network has no {known[0]}; " if known else ""
    return f"{sentence}{missing}there is {', '.join(by_alias)}."


def alias(name: str, scope: str) -> str:
    """Returns the alias of a full name in the network of that scope, such as ``block3/unit_2``."""
    return _UNIT_SCOPE.sub(r"\1", name.removeprefix(scope + "/") if scope else name)


def _network_scope(end_points: Mapping[str, tf.Tensor]) -> str:
    """Returns the scope that all end points with a scope share: 'resnet_v2_50', or 'outer/resnet_v2_50'."""
    parents = [name.split("/")[:-1] for name in end_points if "/" in name]
    common = itertools.takewhile(lambda level: len(set(level)) == 1, zip(*parents, strict=False))
    return "/".join(level[0] for level in common)


def reachable(end_points: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
    """Returns the end points of the dict and the layers that it leaves out, by full name, in graph order."""
    everything = dict(end_points)
    scope = _network_scope(end_points)
    known: set[str] = set()
    for op_scope in _op_scopes(scope, end_points):
        for layer, tensor in _layers_under(op_scope, next(iter(end_points.values())).graph).items():
            if tensor.name not in known:
                known.add(tensor.name)
                everything.setdefault(f"{scope}/{layer}" if scope else layer, tensor)
    if not everything:
        return everything
    graph = next(iter(everything.values())).graph
    position = {op.name: i for i, op in enumerate(graph.get_operations())}
    return dict(sorted(everything.items(), key=lambda item: position[item[1].op.name]))


def _op_scopes(scope: str, end_points: Mapping[str, tf.Tensor]) -> list[str]:
    """Returns the name scopes of the network's ops, which have a number at their end if the network was built again.

    There is one for all end points with a scope. tf_slim's Inceptions, whose end points have none, have an inner one
    for the layers before the logits, which comes first, and an outer one.
    """
    found = []
    for name, tensor in end_points.items():
        inner = f"/{name.removeprefix(scope + '/')}/"
        if inner in tensor.op.name and (name.startswith(scope + "/") if scope else _INCEPTION.search(tensor.op.name)):
            outer = tensor.op.name[: tensor.op.name.rindex(inner)]
            if outer not in found:
                found.append(outer)
            if scope:
                break
    return found


def _layers_under(op_scope: str, graph: tf.Graph) -> dict[str, tf.Tensor]:
    """Returns the outputs of the layers below a name scope, by the layers' scopes relative to it.

    The output of a layer is the last tensor of rank 4 that is created directly in its scope.
    """
    outputs, layers, convolutions = {}, set(), set()
    for op in graph.get_operations():
        if not op.name.startswith(op_scope + "/"):
            continue
        layer = op.name[len(op_scope) + 1 :].rpartition("/")[0]
        if op.type in _LAYER_OPS:
            layers.add(layer)
        if op.type == "Conv2D":
            convolutions.add(layer)
        if layer and op.outputs and op.outputs[0].shape.rank == 4 and op.outputs[0].dtype.is_floating:
            outputs[layer] = op.outputs[0]

    def is_inside_of_convolution(layer: str) -> bool:
        parts = layer.split("/")
        return any("/".join(parts[:i]) in convolutions for i in range(1, len(parts)))

    return {
        layer: tensor for layer, tensor in outputs.items() if layer in layers and not is_inside_of_convolution(layer)
    }


# If is_training is a tensor, a batch norm is an If.
_LAYER_OPS = {"AvgPool", "Conv2D", "FusedBatchNormV3", "If", "MaxPool", "StatelessIf"}
