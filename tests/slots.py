"""Slots with given content."""

from __future__ import annotations

from collections.abc import Sequence

from pellucid.engine import Engine, Slot


def opened(engine: Engine, ids: Sequence[int]) -> Slot:
    """A new slot that holds the given ids."""
    slot = engine.open()
    if ids:
        engine.step([slot], [ids])
    return slot
