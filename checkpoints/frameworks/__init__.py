"""Reads weights of slim and of other frameworks, under slim's names."""

from checkpoints.frameworks.read import kind_of, read_weights
from checkpoints.frameworks.weights import Weights

__all__ = ["Weights", "kind_of", "read_weights"]
