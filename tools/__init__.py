"""The programs: ``slimnets COMMAND``, and the functions under them."""

import importlib.util
from pathlib import Path


def check_nets() -> None:
    """Raises ImportError if the ``nets`` that would be imported is another project's."""
    ours = Path(__file__).resolve().parent.parent / "nets"
    found = importlib.util.find_spec("nets")
    origin = found.origin if found else None
    if origin is None or Path(origin).resolve().parent != ours:
        raise ImportError(
            f"The package 'nets' that Python finds is {origin or 'none'}, and not slimnets' own in {ours}: "
            "take the other one off the path, or use a virtual environment of its own."
        )
