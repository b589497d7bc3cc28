"""Weights from one framework's file to another's, proved by running both networks on the same images."""

from tools.conversion.converting import Conversion, convert

__all__ = ["Conversion", "convert"]
