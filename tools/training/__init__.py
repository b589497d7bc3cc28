"""Trains networks on labelled images, from scratch or from a checkpoint."""
