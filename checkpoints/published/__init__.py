"""The published weights: the catalog, the store, downloads, and names of classes."""

from checkpoints.published.catalog import CATALOG, CatalogEntry, get_entry
from checkpoints.published.downloading import download, install
from checkpoints.published.labels import imagenet_labels, labels_for, read_labels
from checkpoints.published.store import find, resolve, store_folder

__all__ = [
    "CATALOG",
    "CatalogEntry",
    "download",
    "find",
    "get_entry",
    "imagenet_labels",
    "install",
    "labels_for",
    "read_labels",
    "resolve",
    "store_folder",
]
