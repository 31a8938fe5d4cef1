"""GPT-2 on disk: finding a model by name, reading and writing each format, the names and shapes of tensors.

Names are imported at their first use: opening a local model needs neither the Hub's client nor the writers.
"""

from __future__ import annotations

from typing import Any

from pellucid.lazy_names import first_use


def __getattr__(name: str) -> Any:
    return first_use(__name__, name)
