"""The native CPU engine: GPT-2 in C++, with kernels for what the processor has. `engine.py` is its Python side."""

from __future__ import annotations

from importlib.util import find_spec

# Names the instruction set whose kernels are used, instead of the best one that the processor has.
ISA_VARIABLE = "PELLUCID_ISA"


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


def instruction_sets() -> tuple[str, ...]:
    """The instruction sets there are kernels for and this processor can run, the best first; empty where the
    extension is not built."""
    if not is_built():
        return ()
    from pellucid.native._native import instruction_sets as runnable

    return tuple(runnable())
