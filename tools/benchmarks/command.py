"""Runs the ``slimnets`` command in a process of its own, and measures its memory and time."""

import subprocess
import sys
from typing import NamedTuple

__all__ = ["Cost", "run_slimnets", "run_slimnets_in_parts"]

# Imports TensorFlow and the modules that the first argument names.
_IMPORT = """
import importlib, sys
from tools.runtime.importing import import_tensorflow
import_tensorflow()
for name in sys.argv[1].split():
    importlib.import_module(name)
from tools.runtime import machine
"""

# Runs a command of slimnets, and prints its peak memory, the peak memory of its imports, and its seconds after them.
_MEASURED = f"""{_IMPORT}
import time
from tools import cli
imports = machine.process_peak()
start = time.perf_counter()
status = cli.main(sys.argv[2:])
print(machine.process_peak(), imports, time.perf_counter() - start)
sys.exit(status)
"""

# Prints the peak memory of the imports alone.
_IMPORTS = f"""{_IMPORT}
print(machine.process_peak())
"""

# Runs a command that leaves its work to other processes, and prints the peak memory of the largest, and the seconds.
_IN_PARTS = """
import resource, sys, time
from tools import cli
start = time.perf_counter()
status = cli.main(sys.argv[1:])
seconds = time.perf_counter() - start
assert "tensorflow" not in sys.modules
print(1024 * resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss, seconds)
sys.exit(status)
"""


class Cost(NamedTuple):
    """The peak megabytes of a process, the peak megabytes of its imports, and its seconds after them."""

    peak: float
    imports: float
    seconds: float


def run_slimnets(*arguments: object, imports: str = "") -> Cost:
    """Runs a command. ``imports`` names modules, besides TensorFlow, whose import does not count."""
    peak, imported, seconds = _printed(_MEASURED, imports, *arguments)
    return Cost(peak / 1e6, imported / 1e6, seconds)


def run_slimnets_in_parts(*arguments: object, imports: str = "") -> Cost:
    """Runs a command whose work is done by processes, one after the other, of which the largest counts.

    The seconds are those of the whole command, with the imports of the processes.
    """
    peak, seconds = _printed(_IN_PARTS, *arguments)
    (imported,) = _printed(_IMPORTS, imports)
    return Cost(peak / 1e6, imported / 1e6, seconds)


def _printed(code: str, *arguments: object) -> list[float]:
    """Runs Python code in a process of its own, and returns the numbers in its last line."""
    command = [sys.executable, "-c", code, *map(str, arguments)]
    done = subprocess.run(command, check=True, text=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    return [float(word) for word in done.stdout.splitlines()[-1].split()]
