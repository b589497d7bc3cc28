"""Weights of other frameworks, under the names of slim."""

from checkpoints.frameworks.read import kind_of, read_weights
from checkpoints.frameworks.weights import Weights

__all__ = ["Weights", "kind_of", "read_weights"]
