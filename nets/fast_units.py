"""Builds the units of a network faster; the graph is the same to the byte.

To TensorFlow a variable is at least five ops, each made by Python. This takes more than a millisecond a variable, and
a ResNet-152 has 816 of them. Nearly all belong to units that differ from the unit before in their scope alone. Here
the ops of such units' variables and regularization losses are copied from the first of them, all at once and in C++.

Variables are created one by one where the units' variables may differ: under a custom getter, a partitioner, a device,
a seed, another variable creator or another normalizer, for reference variables, and for initial values from outside
of the unit. The same holds for unit functions that are not listed in ``_UNITS``.
"""

import contextlib
import functools
import gc
import itertools
import sys
from collections.abc import Callable, Hashable, Iterator, Sequence
from typing import Any

import tensorflow as tf
import tf_slim as slim

from nets import layers

__all__ = ["fast_units"]

v1 = tf.compat.v1

Creator = Callable[..., tf.Variable]
Regularizer = Callable[[tf.Variable], tf.Tensor | None]

# The unit functions whose variables depend only on their arguments and on the type and channels of their input.
# The names behind them are the arguments that make no difference.
_UNITS = {
    "nets.resnet_v1.bottleneck": ("stride",),
    "nets.resnet_v2.bottleneck": ("stride",),
    "nets.resnet_basic.basic": ("stride", "nominal_stride"),
    "nets.resnet_keras.basic_keras": (),
    "nets.resnet_keras.bottleneck_keras": (),
    "nets.resnet_keras.identity": (),
    "nets.resnet_cifar.residual": ("stride",),
    "nets.resnet_cifar.bottleneck_residual": ("stride",),
}

# The arguments of get_variable that two equal variables share, besides the initial value.
_REQUEST = ("aggregation", "caching_device", "constraint", "dtype", "shape", "synchronization", "trainable")

# Attributes of an op that hold the variable's name.
_NAME_ATTRIBUTES = {"debug_name", "shared_name"}


@contextlib.contextmanager
def fast_units(blocks: Sequence[Any]) -> Iterator[list[Any]]:
    """Yields the blocks with unit functions that copy the variables of equal units.

    Inside of the context each function must be called once for each unit of its block, in order, under scopes that
    are numbered in this order.

    The garbage collector is paused meanwhile: it would search the growing graph again and again, and find nothing.
    """
    templates: dict[Hashable, _Template] = {}
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield [block._replace(unit_fn=_fast_unit(block.unit_fn, block.args, templates)) for block in blocks]
    finally:
        if was_enabled:
            gc.enable()


def _fast_unit(unit_fn: Callable, units: Sequence[dict[str, Any]], templates: dict[Hashable, "_Template"]) -> Callable:
    """Returns a unit function that copies variables, or ``unit_fn`` itself if it is not known to allow that."""
    module, name = getattr(unit_fn, "__module__", None), getattr(unit_fn, "__name__", None)
    irrelevant = _UNITS.get(f"{module}.{name}")
    # The name alone is not enough: a function that wraps one of ours has its name.
    if irrelevant is None or getattr(sys.modules[module], name) is not unit_fn:
        return unit_fn
    if any("scope" in unit for unit in units):
        return unit_fn

    def relevant(arguments: dict[str, Any]) -> list[tuple[str, Any]]:
        ignored = {"rate", "scope", *irrelevant}
        return sorted((name, value) for name, value in arguments.items() if name not in ignored)

    position = itertools.count(1)

    def build(net: tf.Tensor, **arguments: Any) -> tf.Tensor:
        i, own = next(position), relevant(arguments)
        key = (unit_fn, tuple(own), net.dtype, net.shape.as_list()[-1])
        # The input of a block's first unit may have another number of channels than the inputs of the rest.
        rest = units[i:] if i > 1 else []
        equal = itertools.takewhile(lambda unit: relevant(unit) == own, rest)
        with _variables(templates, key, _scopes(arguments.get("scope"), 1 + sum(1 for _ in equal))):
            return unit_fn(net, **arguments)

    return build


def _scopes(scope: str | None, count: int) -> list[str]:
    """Returns the scopes of a unit and of those after it: .../unit_2/, .../unit_3/, and so on.

    Args:
      scope: scope of the first unit inside of the current variable scope; None for the current scope itself.
      count: number of scopes.
    """
    name = "/".join(filter(None, (v1.get_variable_scope().name, scope)))
    unit, _, number = name.rpartition("_")
    return [f"{name}/", *(f"{unit}_{int(number) + i}/" for i in range(1, count))]


@contextlib.contextmanager
def _variables(templates: dict[Hashable, "_Template"], key: Hashable, scopes: list[str]) -> Iterator[None]:
    """Copies the variables and losses that are created in the context, or records them for units of the same key.

    Args:
      templates: what has been recorded so far, by key.
      key: all that determines a unit's variables.
      scopes: scope of the unit that is built in the context, then the scopes of units of the same key that are certain
        to follow. Their ops are copied along, since TensorFlow walks through the whole graph for each copy.
    """
    variable_scope = v1.get_variable_scope()
    if variable_scope.custom_getter is not None or variable_scope.partitioner is not None or not _normalizer_is_ours():
        yield
        return
    if key in templates:
        creator = functools.partial(templates[key].copy, scopes)
        loss = functools.partial(templates[key].copied_loss, scopes[0])
    else:
        templates[key] = template = _Template(scopes[0])
        creator, loss = template.record, template.record_loss
    with tf.variable_creator_scope(creator), _regularizers_replaced(loss):
        yield


def _normalizer_is_ours() -> bool:
    """Returns whether convolutions have our batch norm, or no normalizer."""
    normalizer_fn = layers.scoped_arguments(layers.conv2d).get("normalizer_fn")
    keys = {slim.arg_scope_func_key(layer) for layer in (normalizer_fn, layers.batch_norm)}
    return normalizer_fn is None or len(keys) == 1


def _regularizers_replaced(loss: Callable[[Regularizer, tf.Variable], tf.Tensor | None]) -> Any:
    """Returns an arg scope in which ``loss`` is called in place of each regularizer, with this as first argument."""

    def replaced(name: str, value: Any) -> Any:
        return functools.partial(loss, value) if name.endswith("_regularizer") and callable(value) else value

    return slim.arg_scope(
        {
            layer: {name: replaced(name, value) for name, value in arguments.items()}
            for layer, arguments in slim.current_arg_scope().items()
        }
    )


class _Template:
    """The variables that one unit created."""

    def __init__(self, scope: str) -> None:
        self.scope = scope
        self.is_usable = True
        self.kind: type[tf.Variable] | None = None
        self.requests: dict[str, dict[str, Any]] = {}
        self.protos: dict[str, Any] = {}
        self.nodes: list[Any] = []
        # Name scope inside of the unit -> the regularizer that was called under it, and the name of its loss.
        self.losses: dict[str, tuple[Regularizer, str]] = {}
        # Scopes that have the ops by now.
        self.copied: set[str] = set()

    def record(self, next_creator: Creator, **kwargs: Any) -> tf.Variable:
        """Creates a variable, and records the arguments and the ops."""
        variable, nodes = _made_with_nodes(lambda: next_creator(**kwargs))
        self.is_usable = self.is_usable and _can_be_copied(next_creator, variable, kwargs, nodes)
        if self.is_usable:
            name = kwargs["name"].removeprefix(self.scope)
            self.kind = type(variable)
            self.requests[name] = _request(kwargs)
            self.protos[name] = variable.to_proto()
            self.nodes.extend(nodes)
        return variable

    def record_loss(self, regularizer: Regularizer, variable: tf.Variable) -> tf.Tensor | None:
        """Creates a loss, and records its ops if they depend on the unit's variables alone."""
        loss, nodes = _made_with_nodes(lambda: regularizer(variable))
        unit = self.scope.removesuffix("/")
        if self.is_usable and loss is not None and all(_is_self_contained(node, unit) for node in nodes):
            self.losses[_name_scope().removeprefix(self.scope)] = regularizer, loss.name
            self.nodes.extend(nodes)
        return loss

    def copied_loss(self, scope: str, regularizer: Regularizer, variable: tf.Variable) -> tf.Tensor | None:
        """Returns the loss that was copied with the variables of the unit in ``scope``, or creates it."""
        recorded, name = self.losses.get(_name_scope().removeprefix(scope), (None, None))
        if recorded is not regularizer or scope not in self.copied or not _name_scope().startswith(scope):
            return regularizer(variable)
        return v1.get_default_graph().get_tensor_by_name(self._renamed(name, scope))

    def copy(self, scopes: Sequence[str], next_creator: Creator, **kwargs: Any) -> tf.Variable:
        """Returns a copied variable of the unit in the first scope, or creates it where a copy may differ."""
        scope = scopes[0]
        name = kwargs["name"].removeprefix(scope)
        if not self.is_usable or not _is_tensorflows_own(next_creator):
            return next_creator(**kwargs)
        if self.requests.get(name) != _request(kwargs):
            if scope in self.copied and name in self.requests:
                raise RuntimeError(f"{kwargs['name']} differs from the same variable of an equal unit built before.")
            return next_creator(**kwargs)
        if scope not in self.copied:
            if any(self._has_ops(other) for other in scopes):
                return next_creator(**kwargs)
            self.copy_ops(scopes)
        proto = type(self.protos[name])()
        proto.CopyFrom(self.protos[name])
        for field in ("variable_name", "initializer_name", "snapshot_name", "initial_value_name"):
            setattr(proto, field, self._renamed(getattr(proto, field), scope))
        variable = self.kind.from_proto(proto)
        collections = list(kwargs["collections"] or [v1.GraphKeys.GLOBAL_VARIABLES])
        if kwargs["trainable"]:
            collections.append(v1.GraphKeys.TRAINABLE_VARIABLES)
        v1.add_to_collections(dict.fromkeys(collections), variable)
        return variable

    def copy_ops(self, scopes: Sequence[str]) -> None:
        """Adds the ops of all variables to the graph, under each of the scopes."""
        graph_def = v1.GraphDef()
        graph_def.versions.CopyFrom(v1.get_default_graph().graph_def_versions)
        for scope in scopes:
            for template_node in self.nodes:
                node = graph_def.node.add()
                node.CopyFrom(template_node)
                node.name = self._renamed(node.name, scope)
                node.input[:] = [self._renamed(name, scope) for name in node.input]
                for key in _NAME_ATTRIBUTES & set(node.attr):
                    node.attr[key].s = self._renamed(node.attr[key].s.decode(), scope).encode()
                if "_class" in node.attr:
                    colocated = node.attr["_class"].list.s
                    colocated[:] = [b"loc:@" + self._renamed(name.decode()[5:], scope).encode() for name in colocated]
        # Outside of any control flow, where TensorFlow creates its variables too.
        with tf.init_scope():
            tf.graph_util.import_graph_def(graph_def, name="")
        self.copied.update(scopes)

    def _has_ops(self, scope: str) -> bool:
        """Returns whether the graph has an op, imported or left over, with one of the names that a copy would get."""
        graph = v1.get_default_graph()
        for name in self.requests:
            try:
                graph.get_operation_by_name(scope + name)
                return True
            except KeyError:
                pass
        return False

    def _renamed(self, name: str, scope: str) -> str:
        return scope + name.removeprefix(self.scope)


def _name_scope() -> str:
    return v1.get_default_graph().get_name_scope()


def _made_with_nodes(make: Callable[[], Any]) -> tuple[Any, list[Any]]:
    """Returns the result of a function, and the nodes of the ops that it added to the graph."""
    graph = v1.get_default_graph()
    before = len(graph.get_operations())
    made = make()
    return made, [op.node_def for op in graph.get_operations()[before:]]


def _request(kwargs: dict[str, Any]) -> dict[str, Any]:
    request = {key: kwargs.get(key) for key in _REQUEST}
    initial_value = kwargs["initial_value"]
    if isinstance(initial_value, functools.partial):
        request["initial_value"] = (initial_value.func, initial_value.args, initial_value.keywords)
    return request


def _can_be_copied(next_creator: Creator, variable: tf.Variable, kwargs: dict[str, Any], nodes: list[Any]) -> bool:
    # get_variable passes its initializer on as a partial.
    return (
        _is_tensorflows_own(next_creator)
        and type(variable).__name__ == "ResourceVariable"
        and variable.op.name == kwargs["name"]
        and isinstance(kwargs["initial_value"], functools.partial)
        and kwargs.get("caching_device") is None
        and kwargs.get("constraint") is None
        and not v1.get_default_graph().building_function
        and all(_is_self_contained(node, kwargs["name"]) for node in nodes)
    )


def _is_self_contained(node: Any, name: str) -> bool:
    """Returns whether a node of the variable ``name`` depends on nothing else: no device, no seed, no other op."""
    colocated = [other.decode()[5:] for other in node.attr["_class"].list.s] if "_class" in node.attr else []
    return (
        not node.device
        # If a seed was set, each variable has another.
        and not any(node.attr[key].i for key in ("seed", "seed2") if key in node.attr)
        and all(f"{other}/".startswith(f"{name}/") for other in (node.name, *node.input, *colocated))
    )


def _is_tensorflows_own(creator: Creator) -> bool:
    """Returns whether no other variable creator follows: TensorFlow ends the chain with a lambda."""
    return getattr(creator, "__name__", "") == "<lambda>"
