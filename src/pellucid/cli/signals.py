"""Ctrl-C where it has to wait."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from pellucid.extras import is_installed


def import_torch() -> None:
    """Import torch, if it is there. It loses an interrupt that comes meanwhile, or ends the process over it."""
    if is_installed("torch"):
        with interrupts_wait():
            import torch  # noqa: F401


@contextmanager
def interrupts_wait() -> Iterator[None]:
    """Ctrl-C in the block is a `KeyboardInterrupt` at its end."""
    handler = signal.getsignal(signal.SIGINT)
    if not callable(handler) or threading.current_thread() is not threading.main_thread():
        yield  # ignored, or another thread's affair
        return
    came = []
    signal.signal(signal.SIGINT, lambda *_: came.append(True))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, handler)
    if came:
        raise KeyboardInterrupt
