"""What stands between a model's logits and the choice of a token, one small class an option.

A processor takes a sequence's tokens and its logits [vocab] and returns new logits, what is excluded at -inf;
inputs are never changed. The rules are those of Transformers 5.23, where they exist there.

A class is imported when it is first named: most calls ask for none or a few.
"""

from __future__ import annotations

from typing import Any

from pellucid.lazy_names import first_use


def __getattr__(name: str) -> Any:
    return first_use(__name__, name)
