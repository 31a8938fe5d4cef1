"""Logits processors, one class per option.

A processor takes a sequence's tokens and its logits [vocab] and returns new logits, with -inf for excluded tokens. It
does not change its inputs. The rules are those of Transformers 5.23, where it has the option.

A class is imported at its first use: most calls need few of them.
"""

from __future__ import annotations

from typing import Any

from pellucid.lazy_names import first_use


def __getattr__(name: str) -> Any:
    return first_use(__name__, name)
