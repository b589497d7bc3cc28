"""Parts of the records of runs, JSON files that say what a result depends on."""

import importlib.metadata
import platform
import sys
from collections.abc import Mapping

__all__ = ["differences", "versions_of"]


def versions_of(*packages: str) -> dict[str, str]:
    """Returns the versions of Python, TensorFlow and the installed packages of those names."""
    versions = {name: importlib.metadata.version(name) for name in packages}
    # TensorFlow is installed under several names, so its version comes from the module.
    return versions | {"python": platform.python_version(), "tensorflow": sys.modules["tensorflow"].__version__}


def differences(then: Mapping[str, object], now: Mapping[str, object]) -> list[str]:
    """Returns what differs between the settings of two runs, such as ``batch_size is 8 and was 32``."""
    return [
        f"{name} is {now.get(name, 'nothing')} and was {then.get(name, 'nothing')}"
        for name in {**then, **now}
        if then.get(name) != now.get(name)
    ]
