"""Finds the images that a user names, decodes them, and makes batches of a network's input."""

from tools.images.decoding import decode
from tools.images.inputs import EncodedImage, Inputs
from tools.images.opening import open_inputs

__all__ = ["EncodedImage", "Inputs", "decode", "open_inputs"]
