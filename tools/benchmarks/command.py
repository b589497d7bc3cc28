"""The ``slimnets`` command in a process of its own, and what it took."""

import subprocess
import sys
from typing import NamedTuple

__all__ = ["Cost", "run_slimnets"]

# A command of slimnets, and then its peak memory, that of the imports, which any program has, and its seconds beyond
# those.
_MEASURED = """
import importlib, sys, time
from tools.runtime.importing import import_tensorflow
import_tensorflow()
for name in sys.argv[1].split():
    importlib.import_module(name)
from tools import cli, machine
imports = machine.process_peak()
start = time.perf_counter()
status = cli.main(sys.argv[2:])
print(machine.process_peak(), imports, time.perf_counter() - start)
sys.exit(status)
"""


class Cost(NamedTuple):
    """Peak megabytes of a process, those of its imports, and its seconds beyond them."""

    peak: float
    imports: float
    seconds: float


def run_slimnets(*arguments: object, imports: str = "") -> Cost:
    """Runs a command, whose ``imports`` beyond TensorFlow are those of the modules of these names."""
    command = [sys.executable, "-c", _MEASURED, imports, *map(str, arguments)]
    printed = subprocess.run(command, check=True, text=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL).stdout
    peak, imported, seconds = printed.splitlines()[-1].split()
    return Cost(int(peak) / 1e6, int(imported) / 1e6, float(seconds))
