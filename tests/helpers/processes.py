"""Processes of the ``slimnets`` command, in an environment like a user's."""

import os
import subprocess
import sys
from pathlib import Path

import nets

__all__ = ["COMMAND", "ROOT", "environment", "run", "run_stopped"]

ROOT = Path(nets.__file__).parent.parent

# Ctrl-C must reach Python even if the parent of the tests ignores it.
COMMAND = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
from tools.cli import main
sys.exit(main(sys.argv[1:]))
"""


def environment(*before):
    """Returns an environment with these folders first on Python's path, and without a user's settings."""
    unset = ("PYTHONUNBUFFERED", "PYTHONWARNINGS", "TF_CPP_MIN_LOG_LEVEL")
    variables = {name: value for name, value in os.environ.items() if name not in unset}
    return {**variables, "PYTHONPATH": os.pathsep.join(str(path) for path in (*before, ROOT))}


def run(*arguments, code=COMMAND, before=(), **options):
    """Runs a command, or other code, in a process of its own; returns it with what it printed."""
    command = [sys.executable, "-c", code, *(str(argument) for argument in arguments)]
    options = {"capture_output": True, "text": True, "timeout": 120, **options}
    return subprocess.run(command, env=environment(*before), **options)


# Runs a command in which a function is stopped by SIGTERM, as a scheduler would stop it.
STOPPED = """
import importlib, signal, sys, time
from tools.runtime.importing import import_tensorflow
import_tensorflow()
from tools.cli import main
def stop(*_):
    signal.raise_signal(signal.SIGTERM)
    time.sleep(60)
setattr(importlib.import_module(sys.argv[1]), sys.argv[2], stop)
sys.exit(main(sys.argv[3:]))
"""


def run_stopped(module, function, *arguments):
    """Runs a command that a SIGTERM stops in a function of a module, in a process of its own.

    Workers of pytest that sent the signal to themselves have ended at times.
    """
    return run(module, function, *arguments, code=STOPPED)
