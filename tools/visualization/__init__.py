"""Looks at networks and features: class activation, feature maps, neighbours, maps of many images."""

from tools.visualization.class_activation import ClassActivation, cam, grad_cam

__all__ = ["ClassActivation", "cam", "grad_cam"]
