"""Measures how good a checkpoint is on labelled images, and mends its moving statistics."""
