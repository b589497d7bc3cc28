"""The variables of equal units, and their regularization losses, copied from those of the first of them.

To TensorFlow a variable is five ops or more, each made by Python: more than a millisecond a variable, and a
ResNet-152 has 816, which is most of the time that its graph takes. Nearly all of them belong to units that differ
from the one before in their scope alone. Here the ops of such units' variables and losses are copied from that one's,
all at once and in C++, under their own names.

What comes out is the same to the last op and attribute. Where it is not certain that the units' variables are alike
(a custom getter, a partitioner, a device, a seed to be drawn, somebody else's variable creator, reference variables,
an initial value from outside of the unit), they are made one by one.
"""

import contextlib
import functools
from collections.abc import Callable, Hashable, Iterator, Sequence
from typing import Any

import tensorflow as tf
import tf_slim as slim

from nets.layers import regularization_loss

__all__ = ["VariableTemplates"]

v1 = tf.compat.v1

Creator = Callable[..., tf.Variable]

# What is asked for of a variable, but for its name and initial value.
_REQUEST = ("aggregation", "caching_device", "constraint", "dtype", "shape", "synchronization", "trainable")

# Attributes of an op that hold the variable's name.
_NAME_ATTRIBUTES = {"debug_name", "shared_name"}


class VariableTemplates:
    """The variables of the units built so far, by what determines them."""

    def __init__(self) -> None:
        self._templates: dict[Hashable, _Template] = {}

    @contextlib.contextmanager
    def unit(self, key: Hashable, following: Sequence[str] = (), scope: str | None = None) -> Iterator[None]:
        """A unit is built under it, in a variable scope of its own; units of one key create equal variables.

        ``scope`` is the unit's inside of the current variable scope, where it is not the current one itself.
        ``following`` are the scopes of units of the same key that are certain to be built after this one: their ops
        are copied along, since TensorFlow walks through the whole graph for each time that something is copied.
        """
        variable_scope = v1.get_variable_scope()
        scope = "".join(f"{name}/" for name in (variable_scope.name, scope) if name)
        if variable_scope.custom_getter is not None or variable_scope.partitioner is not None:
            yield
            return
        if key in self._templates:
            scopes = [scope, *(f"{name}/" for name in following)]
            creator = functools.partial(self._templates[key].copy, scopes)
            maker = functools.partial(self._templates[key].copied_loss, scope)
        else:
            self._templates[key] = template = _Template(scope)
            creator, maker = template.record, template.record_loss
        with tf.variable_creator_scope(creator), slim.arg_scope([regularization_loss], maker=maker):
            yield


class _Template:
    """The variables that one unit created."""

    def __init__(self, scope: str) -> None:
        self.scope = scope
        self.is_usable = True
        self.kind: type[tf.Variable] | None = None
        self.requests: dict[str, dict[str, Any]] = {}
        self.protos: dict[str, Any] = {}
        self.nodes: list[Any] = []
        # From name scopes inside of the unit to the regularizer that was called under them, and what came of it.
        self.losses: dict[str, tuple[Callable, str]] = {}
        # Scopes that have the ops by now.
        self.copied: set[str] = set()

    def record(self, next_creator: Creator, **kwargs: Any) -> tf.Variable:
        """Creates a variable, and notes what was asked for and which ops it is."""
        variable, nodes = _made_with_nodes(lambda: next_creator(**kwargs))
        self.is_usable = self.is_usable and _can_be_copied(next_creator, variable, kwargs, nodes)
        if self.is_usable:
            name = kwargs["name"].removeprefix(self.scope)
            self.kind = type(variable)
            self.requests[name] = _request(kwargs)
            self.protos[name] = variable.to_proto()
            self.nodes.extend(nodes)
        return variable

    def record_loss(self, variable: tf.Variable, regularizer: Callable, name_scope: str) -> tf.Tensor | None:
        """Makes the loss, and notes which ops it is, where they depend on the unit's variables alone."""
        loss, nodes = _made_with_nodes(lambda: regularization_loss(variable, regularizer, name_scope, maker=None))
        unit = self.scope.removesuffix("/")
        if self.is_usable and loss is not None and all(_is_self_contained(node, unit) for node in nodes):
            self.losses[name_scope.removeprefix(self.scope)] = regularizer, loss.name
            self.nodes.extend(nodes)
        return loss

    def copied_loss(
        self, scope: str, variable: tf.Variable, regularizer: Callable, name_scope: str
    ) -> tf.Tensor | None:
        """The loss of a unit's variable: from here, where its ops came with those of the variables."""
        recorded, name = self.losses.get(name_scope.removeprefix(scope), (None, None))
        if recorded is not regularizer or scope not in self.copied or not name_scope.startswith(scope):
            return regularization_loss(variable, regularizer, name_scope, maker=None)
        return v1.get_default_graph().get_tensor_by_name(self._renamed(name, scope))

    def copy(self, scopes: Sequence[str], next_creator: Creator, **kwargs: Any) -> tf.Variable:
        """Creates a variable of the unit in the first of the scopes: from here, where that is sure to be the same."""
        scope = scopes[0]
        name = kwargs["name"].removeprefix(scope)
        if not self.is_usable or not _is_tensorflows_own(next_creator):
            return next_creator(**kwargs)
        if self.requests.get(name) != _request(kwargs):
            if scope in self.copied and name in self.requests:
                raise RuntimeError(f"{kwargs['name']} differs from that of an equal unit built before it.")
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
        # Out of any control flow, as TensorFlow makes its variables.
        with tf.init_scope():
            tf.graph_util.import_graph_def(graph_def, name="")
        self.copied.update(scopes)

    def _has_ops(self, scope: str) -> bool:
        """Whether the graph has an op under one of the names that a copy's would get: imported, or left over."""
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


def _made_with_nodes(make: Callable[[], Any]) -> tuple[Any, list[Any]]:
    """What a function makes, and the nodes of the ops that it adds to the graph for that."""
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
    # get_variable hands its initializer over as a partial.
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
    """Whether nothing of a node of the variable ``name`` comes from outside: no device, no seed, no other op."""
    colocated = [other.decode()[5:] for other in node.attr["_class"].list.s] if "_class" in node.attr else []
    return (
        not node.device
        # A seed, where one was set, is another for each variable.
        and not any(node.attr[key].i for key in ("seed", "seed2") if key in node.attr)
        and all(f"{other}/".startswith(f"{name}/") for other in (node.name, *node.input, *colocated))
    )


def _is_tensorflows_own(creator: Creator) -> bool:
    """Whether no variable creator of somebody else's comes after: TensorFlow ends the chain with a lambda."""
    return getattr(creator, "__name__", "") == "<lambda>"
