"""The ``slimnets`` command in a process of its own, and what it took."""

import subprocess
import sys

__all__ = ["run_slimnets"]

# A command of slimnets, and then its peak memory and its seconds without the imports, which any program has.
_MEASURED = """
import sys, time
from tools.startup import import_tensorflow
import_tensorflow()
start = time.perf_counter()
from tools import cli, machine
status = cli.main(sys.argv[1:])
print(machine.process_peak(), time.perf_counter() - start)
sys.exit(status)
"""


def run_slimnets(*arguments: object) -> tuple[float, float]:
    """Runs a command; its peak megabytes, and its seconds beyond the imports."""
    command = [sys.executable, "-c", _MEASURED, *map(str, arguments)]
    printed = subprocess.run(command, check=True, text=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL).stdout
    peak, seconds = printed.splitlines()[-1].split()
    return int(peak) / 1e6, float(seconds)
