"""Diagnosis of checkpoints: which network they hold, and what is wrong with them."""

from checkpoints.diagnosis.contents import Contents, sort_names
from checkpoints.diagnosis.diagnosing import Diagnosis, default_pool1_padding, diagnose, expected_input
from checkpoints.diagnosis.structure import Structure, model_shapes, structures_in

__all__ = [
    "Contents",
    "Diagnosis",
    "Structure",
    "default_pool1_padding",
    "diagnose",
    "expected_input",
    "model_shapes",
    "sort_names",
    "structures_in",
]
