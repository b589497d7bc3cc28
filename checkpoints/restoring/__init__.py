"""Restores checkpoints into the variables of a session."""

from checkpoints.restoring.restoration import RestoreReport, restore

__all__ = ["RestoreReport", "restore"]
