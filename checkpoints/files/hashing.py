"""Identifies files by their content."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

__all__ = ["sha256_of"]


def sha256_of(files: Sequence[Path]) -> str:
    """Returns the sha256 of a file, or of several one after the other, in hexadecimal."""
    digest = hashlib.sha256()
    for file in files:
        with file.open("rb") as stream:
            while chunk := stream.read(1 << 20):
                digest.update(chunk)
    return digest.hexdigest()
