"""Starts modules of this project as programs."""

import os
import sys
from pathlib import Path

__all__ = ["module_command", "module_environment"]


def module_command(module: str, *arguments: str | Path) -> list[str]:
    """Returns the command of a process that runs a module."""
    # -P: files in the current folder must not replace modules.
    return [sys.executable, "-P", "-m", module, *map(os.fspath, arguments)]


def module_environment() -> dict[str, str]:
    """Returns this process' environment, in which Python finds this project."""
    root = os.fspath(Path(__file__).resolve().parents[2])
    path = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))
    return {**os.environ, "PYTHONPATH": path}
