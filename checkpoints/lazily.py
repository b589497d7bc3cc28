"""Lets a package's face import a module when one of its names is first used, since many of them import TensorFlow."""

import importlib
from collections.abc import Callable
from typing import Any

__all__ = ["lazily"]


def lazily(package: str, names: dict[str, str]) -> Callable[[str], Any]:
    """Returns the ``__getattr__`` of a package.

    Args:
      package: name of the package.
      names: name of a module in the package → its public names that the face shows, with blanks between.
    """
    modules = {name: module for module, shown in names.items() for name in shown.split()}

    def get(name: str) -> Any:
        if name in modules:
            return getattr(importlib.import_module(f"{package}.{modules[name]}"), name)
        if name in names:
            return importlib.import_module(f"{package}.{name}")
        raise AttributeError(f"module {package!r} has no attribute {name!r}")

    return get
