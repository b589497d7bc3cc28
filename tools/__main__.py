"""Runs ``slimnets`` as ``python -m tools COMMAND``."""

import sys

from tools.cli import main

sys.exit(main())
