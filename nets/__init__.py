"""Networks: every op of a graph is created in this package."""

import importlib.util

if importlib.util.find_spec("tensorflow") is None:
    raise ModuleNotFoundError(
        "TensorFlow is not installed: install slimnets with one of its extras, "
        "pip install 'slimnets[cpu]' or pip install 'slimnets[gpu]'.",
        name="tensorflow",
    )

from nets import (
    augmentation,
    batch_statistics,
    building,
    endpoint_info,
    guards,
    layer_info,
    layers,
    nets_factory,
    node_names,
    preprocessing,
    resnet_basic,
    resnet_cifar,
    resnet_keras,
    resnet_utils,
    resnet_v1,
    resnet_v2,
    tf_slim_nets,
)

__all__ = [
    "augmentation",
    "batch_statistics",
    "building",
    "endpoint_info",
    "guards",
    "layer_info",
    "layers",
    "nets_factory",
    "node_names",
    "preprocessing",
    "resnet_basic",
    "resnet_cifar",
    "resnet_keras",
    "resnet_utils",
    "resnet_v1",
    "resnet_v2",
    "tf_slim_nets",
]
