"""Lazy imports of a package's names."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from importlib import import_module
from typing import Any


def first_use(package: str, name: str, homes: Mapping[str, str]) -> Any:
    """Import a name for a package's `__getattr__`, and set it on the package.

    homes: name to the module that defines it, relative to the package. Raises `AttributeError` for other names.
    """
    if name not in homes:
        raise AttributeError(f"module {package!r} has no attribute {name!r}")
    value = getattr(import_module(f"{package}.{homes[name]}"), name)
    setattr(sys.modules[package], name, value)
    return value
