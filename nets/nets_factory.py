"""The table of networks: everything that is known of a network by its name."""

import difflib
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import tensorflow as tf
import tf_slim as slim

from nets import resnet_v2
from nets.resnet_utils import EndPoints, Variant, resnet_arg_scope

__all__ = ["NETWORKS", "Network", "arg_scopes_map", "get_network", "get_network_fn", "networks_map"]


class Network(NamedTuple):
    """One network.

    name: its name, which is also its default variable scope.
    builder: ``builder(images, num_classes, is_training=...)`` returns (net, end_points).
    arg_scope: function that returns the arg scope to build under.
    variant: units a block, widths and image size.
    unit_scope: the variable scope inside a unit's, by which a checkpoint's family is told.
    preprocessing: the preprocessing that slim's factory gives the network, where its weights do not say otherwise.
    num_classes: classes of the data the network was made for.
    """

    name: str
    builder: Callable[..., tuple[tf.Tensor, EndPoints]]
    arg_scope: Callable[..., dict[str, Any]]
    variant: Variant
    unit_scope: str
    preprocessing: str
    num_classes: int

    @property
    def image_size(self) -> int:
        """Height and width of the images that the network was made for."""
        return self.variant.image_size


def _resnet_v2(name: str, variant: Variant) -> Network:
    tiny = name == "resnet_v2_tiny"
    return Network(
        name=name,
        builder=getattr(resnet_v2, name),
        arg_scope=resnet_arg_scope,
        variant=variant,
        unit_scope="bottleneck_v2",
        preprocessing="inception" if tiny else "vgg",
        num_classes=10 if tiny else 1001,
    )


NETWORKS: dict[str, Network] = {name: _resnet_v2(name, variant) for name, variant in resnet_v2.VARIANTS.items()}

# The two maps of research/slim's factory.
networks_map = {name: network.builder for name, network in NETWORKS.items()}
arg_scopes_map = {name: network.arg_scope for name, network in NETWORKS.items()}


def get_network(name: str) -> Network:
    """The network of that name.

    Raises:
      ValueError: for an unknown name, with the nearest ones.
    """
    if name not in NETWORKS:
        nearest = difflib.get_close_matches(name, NETWORKS)
        hint = f"did you mean {' or '.join(nearest)}?" if nearest else f"there is {', '.join(NETWORKS)}."
        raise ValueError(f"Name of network unknown: {name!r}; {hint}")
    return NETWORKS[name]


def get_network_fn(
    name: str, num_classes: int | None, weight_decay: float = 0.0, is_training: bool | tf.Tensor = False
) -> Callable[..., tuple[tf.Tensor, EndPoints]]:
    """A function ``images -> (logits, end_points)`` that builds the network under its own arg scope.

    Args:
      name: of the network.
      num_classes: 0 or None for no logits.
      weight_decay: factor of the L2 loss on the weights.
      is_training: mode of the batch norms.

    Returns:
      The function, with the network's ``default_image_size``; it passes keyword arguments on to the builder.

    Raises:
      ValueError: for an unknown name.
    """
    network = get_network(name)

    @functools.wraps(network.builder)
    def network_fn(images: tf.Tensor, **kwargs: Any) -> tuple[tf.Tensor, EndPoints]:
        with slim.arg_scope(network.arg_scope(weight_decay=weight_decay)):
            return network.builder(images, num_classes, is_training=is_training, **kwargs)

    network_fn.default_image_size = network.image_size
    return network_fn
