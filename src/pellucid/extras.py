"""Which optional dependencies are installed."""

from __future__ import annotations

from importlib.util import find_spec

from pellucid.errors import MissingExtraError

# The package by which an extra is told.
_MARKS = {"torch": "torch", "plot": "matplotlib", "gguf": "gguf"}


def require(extra: str, feature: str) -> None:
    """Raise `MissingExtraError`, naming the feature and the extra to install, unless the extra is there."""
    if find_spec(_MARKS[extra]) is None:
        raise MissingExtraError(feature, extra)
