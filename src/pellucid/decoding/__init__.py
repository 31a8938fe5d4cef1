"""Decoding: from an engine's logits to tokens. Knows numpy and the engine protocol, not the model.

A name is imported at its first use, so that the options can be read without numpy.
"""

from __future__ import annotations

from typing import Any

from pellucid.lazy_names import first_use


def __getattr__(name: str) -> Any:
    return first_use(__name__, name)
