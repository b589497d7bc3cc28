"""The table of networks, by name."""

import difflib
import functools
import inspect
import re
import types
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import tensorflow as tf
import tf_slim as slim

from nets import layers, resnet_basic, resnet_cifar, resnet_keras, resnet_v1, resnet_v2, tf_slim_nets
from nets.arguments import check_num_classes, check_weight_decay
from nets.builders import Builder, EndPoints, Variant
from nets.building import building, one_at_a_time
from nets.resnet_utils import resnet_arg_scope

__all__ = ["NETWORKS", "Network", "arg_scopes_map", "get_network", "get_network_fn", "networks_map"]


class Network(NamedTuple):
    """One network.

    name: name of the network.
    builder: ``builder(images, num_classes, is_training=...)`` returns (net, end_points).
    arg_scope: function that returns the arg scope of the network.
    variant: units in each block, widths and image size; None for a network without residual units.
    unit_scope: variable scope inside a unit's scope, which shows the family of a checkpoint; None without units.
    preprocessing: preprocessing in slim's factory, for weights that need no other; for networks that slim does not
      have, the preprocessing that suits its images.
    num_classes: classes of the data that the network was made for.
    channels: channels of its images.
    trainable_parameters, parameters: counts with these classes and channels; the second includes moving statistics.
    """

    name: str
    builder: Builder
    arg_scope: Callable[..., dict[str, Any]]
    variant: Variant | None
    unit_scope: str | None
    preprocessing: str
    num_classes: int
    channels: int
    trainable_parameters: int
    parameters: int

    @property
    def image_size(self) -> int:
        """The height and width of the images that the network was made for."""
        return self.builder.default_image_size

    @property
    def scope(self) -> str:
        """The default variable scope of the network; '' for ``resnet_cifar_*``, which have none."""
        return inspect.signature(self.builder).parameters["scope"].default or ""

    @property
    def family(self) -> str:
        """The name of the module of ``nets`` that builds the network."""
        return self.builder.__module__.rpartition(".")[2]


_PARAMETERS = {
    "resnet_v1_50": (25_557_032, 25_610_152),
    "resnet_v1_101": (44_549_160, 44_654_504),
    "resnet_v1_152": (60_192_808, 60_344_232),
    "resnet_v1_200": (64_673_832, 64_849_832),
    "resnet_v2_50": (25_570_409, 25_615_849),
    "resnet_v2_101": (44_579_945, 44_677_609),
    "resnet_v2_152": (60_238_953, 60_382_697),
    "resnet_v2_200": (64_728_169, 64_896_489),
    "resnet_v2_tiny": (518_410, 521_418),
    "resnet_basic_18": (11_689_512, 11_699_112),
    "resnet_basic_34": (21_797_672, 21_814_696),
    "resnet_keras_18": (11_698_600, 11_708_328),
    "resnet_keras_34": (21_810_472, 21_827_624),
    "resnet_keras_50": (25_583_592, 25_636_712),
    "resnet_keras_101": (44_601_832, 44_707_176),
    "resnet_keras_152": (60_268_520, 60_419_944),
    "resnet_keras_18_digits": (14_102_154, 14_111_754),
    "resnet_cifar_20": (269_722, 271_098),
    "resnet_cifar_32": (464_154, 466_426),
    "resnet_cifar_44": (658_586, 661_754),
    "resnet_cifar_56": (853_018, 857_082),
    "resnet_cifar_110": (1_727_962, 1_736_058),
    "resnet_cifar_164": (1_703_258, 1_727_482),
    "alexnet_v2": (50_303_912, 50_303_912),
    "overfeat": (145_704_424, 145_704_424),
    "vgg_a": (132_863_336, 132_863_336),
    "vgg_16": (138_357_544, 138_357_544),
    "vgg_19": (143_667_240, 143_667_240),
    "inception_v1": (6_618_649, 6_633_209),
    "inception_v2": (11_179_361, 11_199_137),
    "inception_v3": (27_145_970, 27_182_194),
}


def _family(
    module: types.ModuleType,
    arg_scope: Callable[..., dict[str, Any]],
    *,
    two_layers: str | None = None,
    bottleneck: str | None = None,
    preprocessing: str = "vgg",
    num_classes: int = 1000,
) -> Iterator[Network]:
    """Yields the networks of a module; ``two_layers`` and ``bottleneck`` are the scopes inside of its units."""
    for name, variant in module.VARIANTS.items():
        network = Network(
            name=name,
            builder=getattr(module, name),
            arg_scope=arg_scope,
            variant=variant,
            unit_scope=bottleneck if variant.bottleneck else two_layers,
            preprocessing=preprocessing,
            num_classes=num_classes,
            channels=3,
            trainable_parameters=_PARAMETERS[name][0],
            parameters=_PARAMETERS[name][1],
        )
        yield network._replace(**_EXCEPTIONS.get(name, {}))


def _of_tf_slim(
    name: str, arg_scope: Callable[..., dict[str, Any]], preprocessing: str = "vgg", num_classes: int = 1000
) -> Network:
    """Returns a network that tf_slim itself builds."""
    return Network(
        name=name,
        builder=getattr(tf_slim_nets, name),
        arg_scope=arg_scope,
        variant=None,
        unit_scope=None,
        preprocessing=preprocessing,
        num_classes=num_classes,
        channels=3,
        trainable_parameters=_PARAMETERS[name][0],
        parameters=_PARAMETERS[name][1],
    )


def _inception(name: str) -> Network:
    # 1000 classes and the background.
    return _of_tf_slim(name, tf_slim_nets.inception_arg_scope, preprocessing="inception", num_classes=1001)


_EXCEPTIONS = {
    "resnet_v2_tiny": {"preprocessing": "inception", "num_classes": 10},
    "resnet_keras_18_digits": {
        "unit_scope": "identity",
        "preprocessing": "grayscale",
        "num_classes": 10,
        "channels": 1,
    },
}

NETWORKS: dict[str, Network] = {
    network.name: network
    for network in (
        *_family(resnet_v1, resnet_arg_scope, bottleneck="bottleneck_v1"),
        # 1000 classes and the background.
        *_family(resnet_v2, resnet_arg_scope, bottleneck="bottleneck_v2", num_classes=1001),
        *_family(resnet_basic, resnet_arg_scope, two_layers="basic"),
        *_family(
            resnet_keras,
            resnet_keras.resnet_keras_arg_scope,
            two_layers="basic_keras",
            bottleneck="bottleneck_keras",
        ),
        *_family(
            resnet_cifar,
            resnet_cifar.resnet_cifar_arg_scope,
            two_layers="sub1",
            bottleneck="sub1",
            preprocessing="cifar",
            num_classes=10,
        ),
        _of_tf_slim("alexnet_v2", tf_slim_nets.alexnet_v2_arg_scope),
        _of_tf_slim("overfeat", tf_slim_nets.overfeat_arg_scope),
        _of_tf_slim("vgg_a", tf_slim_nets.vgg_arg_scope),
        _of_tf_slim("vgg_16", tf_slim_nets.vgg_arg_scope),
        _of_tf_slim("vgg_19", tf_slim_nets.vgg_arg_scope),
        _inception("inception_v1"),
        _inception("inception_v2"),
        _inception("inception_v3"),
    )
}

# The two maps of research/slim's factory.
networks_map = {name: network.builder for name, network in NETWORKS.items()}
arg_scopes_map = {name: network.arg_scope for name, network in NETWORKS.items()}


def get_network(name: str) -> Network:
    """Returns the network of that name.

    Raises:
      ValueError: for an unknown name; the message suggests the nearest names.
    """
    if not isinstance(name, str):
        raise ValueError(f"Name of network must be a string, and is {name!r}.")
    if name not in NETWORKS:
        # Networks of the same depth come first: whoever asks for resnet_v1_34 wants 34 layers.
        depth = re.search(r"\d+$", name)
        same_depth = [known for known in NETWORKS if depth and known.endswith(f"_{depth[0]}")]
        nearest = same_depth or difflib.get_close_matches(name, NETWORKS)
        hint = f"did you mean {' or '.join(nearest)}?" if nearest else f"there is {', '.join(NETWORKS)}."
        raise ValueError(f"Name of network unknown: {name!r}; {hint}")
    return NETWORKS[name]


def get_network_fn(
    name: str,
    num_classes: int | None,
    weight_decay: float = 0.0,
    is_training: bool | tf.Tensor = False,
    **arg_scope_options: Any,
) -> Builder:
    """Returns a function ``images -> (logits, end_points)`` that builds the network under its own arg scope.

    Args:
      name: name of the network.
      num_classes: number of classes; 0 or None for no logits.
      weight_decay: factor of the L2 loss on the weights.
      is_training: mode of the batch norms.
      **arg_scope_options: further arguments of the network's arg scope, such as ``batch_norm_decay``.

    Returns:
      The function, with the network's ``default_image_size``. It passes keyword arguments on to the builder. Several
      threads may call such functions at once: the networks are built one after the other, each under its own arg scope.
      A thread that opens an ``arg_scope`` itself needs the lock of ``nets.building``.

    Raises:
      TypeError: for an option that the network's arg scope does not have.
      ValueError: for an unknown name, or a value that no network can be built with.
    """
    network = get_network(name)
    num_classes = check_num_classes(num_classes)
    weight_decay = check_weight_decay(weight_decay)
    if is_training is not None:
        layers.static_bool(is_training)  # raises ValueError unless it is a mode
    options = _arg_scope_options(network, weight_decay, arg_scope_options)

    @functools.wraps(network.builder)
    def network_fn(images: tf.Tensor, **kwargs: Any) -> tuple[tf.Tensor, EndPoints]:
        with building(), slim.arg_scope(network.arg_scope(**options)):
            return network.builder(images, num_classes, is_training=is_training, **kwargs)

    del network_fn.__wrapped__  # or its signature would be shown instead
    network_fn.default_image_size = network.image_size
    return network_fn


def _arg_scope_options(network: Network, weight_decay: float, others: dict[str, Any]) -> dict[str, Any]:
    """Returns the arguments of a network's arg scope, which has accepted them once."""
    known = {*inspect.signature(network.arg_scope).parameters} - {"weight_decay", "is_training"}
    for name in others:
        if name not in known:
            there = f"has {', '.join(sorted(known))}" if known else "has none"
            raise TypeError(
                f"get_network_fn() got an unexpected argument {name!r}: the arg scope of {network.name} {there}."
            )
    options = {"weight_decay": weight_decay, **others}
    with one_at_a_time():
        network.arg_scope(**options)
    return options
