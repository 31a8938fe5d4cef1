"""Importing torch for a command."""

from __future__ import annotations

import mmap

from pellucid.cli.signals import deferred_signals
from pellucid.extras import is_installed

# Address space for torch 2.13 and the threads of its first operation, as measured on Linux, plus a margin.
_TORCH_BYTES = 700 << 20


def import_torch() -> None:
    """Import torch if it is installed.

    Signals are deferred, because a signal during this import can be lost or abort the process. Raises `MemoryError` if
    the process lacks the address space, because torch and its OpenMP abort in that case.
    """
    if is_installed("torch"):
        with deferred_signals():
            _require_address_space(_TORCH_BYTES)
            import torch  # noqa: F401


def _require_address_space(size: int) -> None:
    """Raise `MemoryError` if `size` bytes of address space are not available (`ulimit -v`). Allocates no memory."""
    if not hasattr(mmap, "MAP_ANONYMOUS"):
        return
    try:
        mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, prot=0).close()
    except OSError as error:
        raise MemoryError from error
