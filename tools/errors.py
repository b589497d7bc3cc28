"""The errors of this package: each message is one sentence for whoever gave the input."""

__all__ = ["ImageError", "InputError", "PeerError"]


class InputError(ValueError):
    """Inputs that cannot be worked on, or among which there is nothing to work on."""


class ImageError(ValueError):
    """An image that cannot be decoded; the message is the reason."""


class PeerError(ValueError):
    """An engine cannot compute what it is to compute; the message says why, and what to do."""
