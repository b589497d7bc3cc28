"""Runs the ``slimnets`` command in a process of its own, and measures its memory and time."""

import subprocess
import sys
from typing import NamedTuple

__all__ = ["Cost", "run_slimnets"]

# Runs a command of slimnets, and prints its peak memory, the peak memory of its imports, and its seconds after them.
_MEASURED = """
import importlib, sys, time
from tools.runtime.importing import import_tensorflow
import_tensorflow()
for name in sys.argv[1].split():
    importlib.import_module(name)
from tools import cli
from tools.runtime import machine
imports = machine.process_peak()
start = time.perf_counter()
status = cli.main(sys.argv[2:])
print(machine.process_peak(), imports, time.perf_counter() - start)
sys.exit(status)
"""


class Cost(NamedTuple):
    """The peak megabytes of a process, the peak megabytes of its imports, and its seconds after them."""

    peak: float
    imports: float
    seconds: float


def run_slimnets(*arguments: object, imports: str = "") -> Cost:
    """Runs a command. ``imports`` names modules, besides TensorFlow, whose import does not count."""
    command = [sys.executable, "-c", _MEASURED, imports, *map(str, arguments)]
    printed = subprocess.run(command, check=True, text=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL).stdout
    peak, imported, seconds = printed.splitlines()[-1].split()
    return Cost(int(peak) / 1e6, int(imported) / 1e6, float(seconds))
