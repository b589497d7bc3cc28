"""Looks at networks and features: class activation, feature maps, neighbours, maps of many images."""

from tools.visualization.class_activation import ClassActivation, cam, grad_cam
from tools.visualization.mapping import FeatureMap, feature_map
from tools.visualization.neighbours import Neighbour, Neighbours, neighbours
from tools.visualization.showing import Shown, show

__all__ = [
    "ClassActivation",
    "FeatureMap",
    "Neighbour",
    "Neighbours",
    "Shown",
    "cam",
    "feature_map",
    "grad_cam",
    "neighbours",
    "show",
]
