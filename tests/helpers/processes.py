"""Processes of the ``slimnets`` command, in an environment like a user's."""

import os
from pathlib import Path

import nets

__all__ = ["COMMAND", "ROOT", "environment"]

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
