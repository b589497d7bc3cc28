"""Restores checkpoints into the variables of a session."""

from checkpoints.restoring.restoration import RestoreReport, init_fn, restore

__all__ = ["RestoreReport", "init_fn", "restore"]
