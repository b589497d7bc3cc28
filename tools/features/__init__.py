"""Computes named features of images with a checkpoint, writes them to a folder, and reads them back."""

from tools.features.classification import Classification, classify
from tools.features.extraction import Summary, extract
from tools.features.extractor import FeatureExtractor
from tools.features.loading import Features, load
from tools.features.merging import merge

__all__ = ["Classification", "FeatureExtractor", "Features", "Summary", "classify", "extract", "load", "merge"]
