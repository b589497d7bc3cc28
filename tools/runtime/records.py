"""Parts of the records of runs, JSON files that say what a result depends on."""

import contextlib
import importlib.metadata
import platform
import re
import sys
from collections.abc import Mapping

from tools.runtime.importing import import_tensorflow

__all__ = ["differences", "versions_of"]

# Names under which TensorFlow is installed.
_TENSORFLOW = ("tensorflow", "tensorflow-cpu", "tensorflow-gpu", "tensorflow-intel", "tensorflow-macos")


def versions_of(*packages: str) -> dict[str, str]:
    """Returns the versions of Python, TensorFlow and the installed packages of those names."""
    versions = {name: importlib.metadata.version(name) for name in packages}
    return versions | {"python": platform.python_version(), "tensorflow": _tensorflow_version()}


def _tensorflow_version() -> str:
    """Returns TensorFlow's version. It is imported only if what is installed does not tell."""
    if "tensorflow" not in sys.modules:
        installed = set()
        for name in _TENSORFLOW:
            with contextlib.suppress(importlib.metadata.PackageNotFoundError):
                installed.add(importlib.metadata.version(name))
        # The module writes the versions before a release in another way.
        if len(installed) == 1 and re.fullmatch(r"[\d.]+", version := installed.pop()):
            return version
        import_tensorflow()
    return sys.modules["tensorflow"].__version__


def differences(then: Mapping[str, object], now: Mapping[str, object]) -> list[str]:
    """Returns what differs between the settings of two runs, such as ``batch_size is 8 and was 32``."""
    return [
        f"{name} is {now.get(name, 'nothing')} and was {then.get(name, 'nothing')}"
        for name in {**then, **now}
        if then.get(name) != now.get(name)
    ]
