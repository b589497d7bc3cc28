"""Compares the layers of a Keras model with those of Keras' own network. The model is read, and never built."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from checkpoints.errors import CheckpointError
from checkpoints.frameworks.keras_applications import APPLICATIONS, renumbered
from checkpoints.frameworks.keras_files import KerasFile
from nets.nets_factory import Network

__all__ = ["check_layers", "unlike"]

# The arguments that must equal those of Keras' own network. Others do not change what an inference computes.
_ARGUMENTS = (
    "activation",
    "axis",
    "center",
    "data_format",
    "dilation_rate",
    "filters",
    "groups",
    "kernel_size",
    "padding",
    "pool_size",
    "scale",
    "strides",
    "units",
)
# Layers that may end a network without a top: the ResNets', and those of the other networks.
_ENDS = {"avg_pool": "GlobalAveragePooling2D", "max_pool": "GlobalMaxPooling2D"}
_ENDS |= {"global_average_pooling2d": "GlobalAveragePooling2D", "global_max_pooling2d": "GlobalMaxPooling2D"}


def check_layers(file: KerasFile, own: Sequence[Mapping[str, Any]], network: Network) -> None:
    """Compares the layers of a file's model with those of Keras' own network.

    Raises:
      CheckpointError: if the model has a layer, an argument or a connection that Keras' own network does not have. The
        model is never built, so nothing of it runs.
    """
    theirs, ours = _described(file.layers), _described(own)
    if len(theirs) != len(file.layers):
        raise unlike(file, "has several layers of one name, or several inputs")
    for name, kind in _ENDS.items():
        if name in theirs and name not in ours and theirs[name].kind == kind:
            del theirs[name]
    application = APPLICATIONS[network.name].function
    for name, layer in theirs.items():
        if name not in ours:
            raise unlike(file, f"has a layer {name!r} ({layer.kind}), which {application} does not have")
        if not layer.is_like(ours[name]):
            what = f"has a layer {name!r} ({layer.kind}) that differs from that of {application}"
            raise unlike(file, what + layer.difference_from(ours[name]))
    if lacking := [name for name in ours if name not in theirs]:
        raise unlike(file, f"has no layer {lacking[0]!r}, which {application} has")


class _Described(NamedTuple):
    """A layer of a configuration: its class, the names of its inputs, and the arguments that matter."""

    kind: str
    inputs: tuple[str, ...]
    arguments: dict[str, Any]

    def is_like(self, other: "_Described") -> bool:
        """Returns whether both are the same. An argument that a version of Keras does not write has its default."""
        both = self.arguments.keys() & other.arguments.keys()
        same = all(self.arguments[name] == other.arguments[name] for name in both)
        return same and (self.kind, self.inputs) == (other.kind, other.inputs)

    def difference_from(self, other: "_Described") -> str:
        """Returns the first argument that differs, in parentheses; '' if something else differs."""
        for name in sorted(self.arguments.keys() & other.arguments.keys()):
            if self.arguments[name] != other.arguments[name]:
                return f" ({name} {self.arguments[name]!r} and not {other.arguments[name]!r})"
        return ""


def _described(layers: Sequence[Mapping[str, Any]]) -> dict[str, _Described]:
    """Returns the layers of a configuration of Keras 2 or 3 by name. The input's own name does not matter."""
    names = _lasting_names(layers)
    return {
        names[layer["config"]["name"]]: _Described(
            layer["class_name"],
            tuple(sorted(names.get(name, name) for name in _connections(layer.get("inbound_nodes", [])))),
            {key: _argument(layer["config"][key]) for key in _ARGUMENTS if key in layer["config"]},
        )
        for layer in layers
    }


def _lasting_names(layers: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Returns the layers' names → names that do not depend on how many models were built before."""
    kinds = {layer["config"]["name"]: layer["class_name"] for layer in layers}
    automatic = (name for name, kind in kinds.items() if re.sub(r"_\d+$", "", name).replace("_", "") == kind.lower())
    names = {name: "input" for name, kind in kinds.items() if kind == "InputLayer"}
    return {name: name for name in kinds} | renumbered(automatic) | names


def _argument(value: Any) -> Any:
    """Returns the value as in JSON, without tuples. A list of one number, such as the axis [3], becomes the number."""
    value = json.loads(json.dumps(value))
    return value[0] if isinstance(value, list) and len(value) == 1 else value


def _connections(node: Any) -> Iterator[str]:
    """Yields the names of a layer's inputs, which Keras writes as ['conv1_pad', 0, 0] at any depth."""
    if isinstance(node, Mapping):
        node = list(node.values())
    if not isinstance(node, list | tuple):
        return
    if len(node) >= 3 and isinstance(node[0], str) and isinstance(node[1], int) and isinstance(node[2], int):
        yield node[0]
        return
    for inner in node:
        yield from _connections(inner)


def unlike(file: KerasFile, what: str) -> CheckpointError:
    """Returns the error for a model that is not one of Keras' own networks, because it ``what``."""
    return CheckpointError(
        f"{file.path} {what}: convert one of Keras' own networks. Nothing of this model was run.",
        "unknown network",
    )
