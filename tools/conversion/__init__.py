"""Converts weights between the files of frameworks. Both networks run on the same images to prove the conversion."""

from tools.conversion.converting import Conversion, convert

__all__ = ["Conversion", "convert"]
