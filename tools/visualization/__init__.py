"""Looks at networks and features: class activation, feature maps, neighbours, maps of many images."""

from tools.visualization.class_activation import ClassActivation, cam, grad_cam
from tools.visualization.mapping import FeatureMap, feature_map
from tools.visualization.neighbours import Neighbour, Neighbours, neighbours

__all__ = ["ClassActivation", "FeatureMap", "Neighbour", "Neighbours", "cam", "feature_map", "grad_cam", "neighbours"]
