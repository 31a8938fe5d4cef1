"""Checks that optional dependencies are installed."""

from __future__ import annotations

from importlib.util import find_spec

from pellucid.errors import MissingExtraError

# Each extra, and a package that it installs.
_PACKAGES = {"torch": "torch", "plot": "matplotlib", "gguf": "gguf"}


def is_installed(extra: str) -> bool:
    return find_spec(_PACKAGES[extra]) is not None


def require(extra: str, feature: str) -> None:
    """Raise `MissingExtraError` if an extra is not installed. The message names the feature and the extra."""
    if not is_installed(extra):
        raise MissingExtraError(feature, extra)
