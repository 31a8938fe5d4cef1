"""Names of a package that are imported when they are first used."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from importlib import import_module
from typing import Any


def first_use(package: str, name: str, homes: Mapping[str, str]) -> Any:
    """What a package's `__getattr__` gives for a name: its value in the module that `homes` says, relative to the
    package, which has it from then on. Raises `AttributeError` for a name without a home."""
    if name not in homes:
        raise AttributeError(f"module {package!r} has no attribute {name!r}")
    value = getattr(import_module(f"{package}.{homes[name]}"), name)
    setattr(sys.modules[package], name, value)
    return value
