"""Pellucid runs GPT-2 and shows how it runs.

    import pellucid
    lm = pellucid.load("demo")
    lm.generate("long long ago, I was").text

Names are imported when they are first used: `import pellucid` itself imports neither numpy nor torch.
"""

from __future__ import annotations

__version__ = "0.1.0"

# The extras that some names need.
_EXTRAS = {"GPT2LMHeadModel": "torch", "GPT2Model": "torch"}


# The imports are in the functions so that the command line, which this module precedes, soon handles Ctrl-C.
def __getattr__(name: str) -> object:
    from pellucid.lazy_names import first_use

    if name in _EXTRAS:
        from pellucid.extras import require

        require(_EXTRAS[name], f"pellucid.{name}")
    return first_use(__name__, name)


def __dir__() -> list[str]:
    from pellucid.lazy_names import first_use

    return sorted({*globals(), *first_use(__name__, "__all__")})
