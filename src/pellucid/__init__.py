"""Pellucid runs GPT-2 and shows how it runs.

    import pellucid
    lm = pellucid.load("demo")
    lm.generate("long long ago, I was").text

Names are imported when they are first used: `import pellucid` itself imports neither numpy nor torch.
"""

from __future__ import annotations

from typing import Any

from pellucid.lazy_names import first_use

__version__ = "0.1.0"

# The extras that some names need.
_EXTRAS = {"GPT2LMHeadModel": "torch", "GPT2Model": "torch"}


def __getattr__(name: str) -> Any:
    if name in _EXTRAS:
        from pellucid.extras import require

        require(_EXTRAS[name], f"pellucid.{name}")
    return first_use(__name__, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *first_use(__name__, "__all__")})
