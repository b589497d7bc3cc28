"""Computes named features of images with a checkpoint, writes them to a folder, and reads them back."""

from typing import TYPE_CHECKING, Any

from checkpoints.lazily import lazily
from tools.runtime.importing import import_without_keras

if TYPE_CHECKING:
    from tools.features.classification import Classification, classify
    from tools.features.extraction import Summary, extract
    from tools.features.extractor import FeatureExtractor
    from tools.features.loading import Features, load
    from tools.features.merging import merge

__all__ = ["Classification", "FeatureExtractor", "Features", "Summary", "classify", "extract", "load", "merge"]

_get = lazily(
    __name__,
    {
        "classification": "Classification classify",
        "extraction": "Summary extract",
        "extractor": "FeatureExtractor",
        "loading": "Features load",
        "merging": "merge",
    },
)


def __getattr__(name: str) -> Any:
    if name in ("Classification", "FeatureExtractor", "classify"):
        import_without_keras()
    return _get(name)
