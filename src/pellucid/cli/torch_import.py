"""Importing torch for a command."""

from __future__ import annotations

import mmap

from pellucid.cli.signals import signals_wait
from pellucid.extras import is_installed

# Address space that torch 2.13 and the threads of its first operation take on Linux, measured, and some to spare.
_TORCH_BYTES = 700 << 20


def import_torch() -> None:
    """Import torch if it is installed, safely.

    Signals wait, because one that comes during that import can be lost or abort the process. `MemoryError` is raised
    where the process may not have the address space, because torch and the OpenMP it loads abort for lack of it.
    """
    if is_installed("torch"):
        with signals_wait():
            _require_address_space(_TORCH_BYTES)
            import torch  # noqa: F401


def _require_address_space(size: int) -> None:
    """Raise `MemoryError` unless so many bytes of address space can be had (`ulimit -v`); no memory is taken."""
    if not hasattr(mmap, "MAP_ANONYMOUS"):
        return
    try:
        mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, prot=0).close()
    except OSError as error:
        raise MemoryError from error
