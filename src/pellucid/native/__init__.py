"""The compiled half of Pellucid. So far it tells what the processor can do."""

from __future__ import annotations

from importlib.util import find_spec


def is_built() -> bool:
    """Whether this installation has the compiled extension (a pure-Python build has none)."""
    return find_spec("pellucid.native._native") is not None


def cpu_features() -> tuple[str, ...]:
    """The instruction-set extensions that the processor has and the system allows, by Linux's names
    ("avx2", "avx512_vnni", "asimddp"); empty where the extension is not built."""
    if not is_built():
        return ()
    from pellucid.native._native import cpu_features as detect

    return tuple(detect())
