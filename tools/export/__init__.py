"""Exports networks to the files of other runtimes. Each file is run by its own runtime before it is written."""

from tools.export.exporting import Export, export
from tools.export.formats import FORMATS

__all__ = ["FORMATS", "Export", "export"]
