"""Which optional dependencies are installed."""

from __future__ import annotations

from importlib.util import find_spec

from pellucid.errors import MissingExtraError

# The package by which an extra is told.
_MARKS = {"torch": "torch", "plot": "matplotlib", "gguf": "gguf"}


def is_installed(extra: str) -> bool:
    return find_spec(_MARKS[extra]) is not None


def require(extra: str, feature: str) -> None:
    """Raise `MissingExtraError`, naming the feature and the extra to install, unless the extra is there."""
    if not is_installed(extra):
        raise MissingExtraError(feature, extra)
