"""From what a user names to images, and from images to batches of a network's input."""

from tools.images.decoding import decode
from tools.images.inputs import EncodedImage, Inputs
from tools.images.opening import open_inputs

__all__ = ["EncodedImage", "Inputs", "decode", "open_inputs"]
