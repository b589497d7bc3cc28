"""The errors of this package. Each message is one sentence for the user."""

__all__ = ["ImageError", "InputError", "PeerError", "TrainingError"]


class InputError(ValueError):
    """Raised for inputs, outputs or settings that cannot be used."""


class ImageError(ValueError):
    """Raised for an image that cannot be read or decoded. The message is the reason."""


class PeerError(ValueError):
    """Raised if an engine cannot compute a problem. The message says why, and what to do."""


class TrainingError(ValueError):
    """Raised if a training cannot go on. The message says why, at which step, and what to do."""
