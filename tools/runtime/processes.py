"""Starts modules of this project as programs."""

import os
import signal
import subprocess
import sys
from pathlib import Path

from tools.errors import InputError

__all__ = ["module_command", "module_environment", "run_module"]

# How a traceback ends that one of our own sentences caused.
_OUR_ERROR = f"{InputError.__module__}.{InputError.__qualname__}: "

# Settings with which a process gives freed memory back to the system. TensorFlow with oneDNN otherwise keeps all that
# its tensors ever took, and Linux' C library raises the size from which it gives memory back, up to 32 MB.
_FRUGAL = {"TF_ONEDNN_USE_SYSTEM_ALLOCATOR": "1", "MALLOC_MMAP_THRESHOLD_": str(2**18)}

# The largest number of characters of a message that are quoted.
_QUOTED = 2000


def module_command(module: str, *arguments: str | Path) -> list[str]:
    """Returns the command of a process that runs a module."""
    # -P: files in the current folder must not replace modules.
    return [sys.executable, "-P", "-m", module, *map(os.fspath, arguments)]


def module_environment() -> dict[str, str]:
    """Returns this process' environment, in which Python finds this project."""
    root = os.fspath(Path(__file__).resolve().parents[2])
    path = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))
    return {**os.environ, "PYTHONPATH": path}


def run_module(module: str, *arguments: str | Path, temporary: Path | None = None) -> str | None:
    """Runs a module in a process of its own, which says nothing here, and holds no more memory than it needs.

    Args:
      module: the module.
      *arguments: its arguments.
      temporary: folder of its temporary files, for a caller that removes what a stopped process leaves; None for the
        system's.

    Returns:
      None if it succeeds; otherwise the last line that it said, or how it ended.

    Raises:
      InputError: if an InputError ended it, with the same sentence.
    """
    command = module_command(module, *arguments)
    environment = _FRUGAL | module_environment() | {"TF_CPP_MIN_LOG_LEVEL": "2"}
    if temporary is not None:
        environment["TMPDIR"] = os.fspath(temporary)
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False, env=environment)
    if not done.returncode:
        return None
    if done.returncode < 0:  # what it said last is not the reason
        return f"its process was ended by {signal.Signals(-done.returncode).name}"
    lines = [line.strip() for line in done.stderr.splitlines() if line.strip()]
    said = lines[-1] if lines else f"exit status {done.returncode}"
    if said.startswith(_OUR_ERROR):
        raise InputError(said.removeprefix(_OUR_ERROR))
    return said[-_QUOTED:]
