"""The native CPU engine: GPT-2 in C++, with kernels for several instruction sets. `engine.py` is its Python side."""

from __future__ import annotations

from importlib.util import find_spec

# The environment variable that chooses the instruction set. The default is the best one that the processor has.
ISA_VARIABLE = "PELLUCID_ISA"


def is_built() -> bool:
    """Return True if this installation has the compiled extension; a pure-Python build has none."""
    return find_spec("pellucid.native._native") is not None


def cpu_features() -> tuple[str, ...]:
    """The instruction-set extensions of the processor that the system enables, by their names in Linux
    ("avx2", "avx512_vnni", "asimddp"). Empty if the native engine is not built."""
    if not is_built():
        return ()
    from pellucid.native._native import cpu_features as detect

    return tuple(detect())


def instruction_sets() -> tuple[str, ...]:
    """The instruction sets that this build has kernels for and this processor can run, the best first. Empty if the
    native engine is not built."""
    if not is_built():
        return ()
    from pellucid.native._native import instruction_sets as runnable

    return tuple(runnable())
