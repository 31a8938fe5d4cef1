"""Handling of SIGINT (Ctrl-C), SIGTERM and SIGHUP: during start-up they end the process at once, later they raise."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

_Handler = Callable[[int, FrameType | None], None]

_ENDING = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))
# Signals within this time after the first are ignored, so that a second Ctrl-C does not interrupt the clean-up.
_GRACE_SECONDS = 1.0


class Stopped(KeyboardInterrupt):
    """Raised by a signal. status: 128 plus the signal's number, the exit status that shells use for it."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.status = 128 + number


def end_at_once() -> None:
    """Make the signals end the process immediately, while there is nothing to clean up."""
    _install(lambda number, frame: os._exit(128 + number))


@contextmanager
def stoppable() -> Iterator[None]:
    """Make the signals raise `Stopped` in the block, so that open files are closed and temporary files removed."""
    stopped_at = float("-inf")

    def stop(number: int, frame: FrameType | None) -> None:
        nonlocal stopped_at
        if time.monotonic() - stopped_at > _GRACE_SECONDS:
            stopped_at = time.monotonic()
            raise Stopped(number)

    with _installed(stop):
        yield


@contextmanager
def deferred_signals() -> Iterator[None]:
    """Defer the signals to the end of the block."""
    received: list[int] = []
    with _installed(lambda number, frame: received.append(number)):
        yield
    for number in received:
        signal.raise_signal(number)


@contextmanager
def _installed(handler: _Handler) -> Iterator[None]:
    before = _install(handler)
    try:
        yield
    finally:
        for number, previous in before.items():
            signal.signal(number, previous)


def _install(handler: _Handler) -> dict[int, signal.Handlers | _Handler | int | None]:
    """Set the handler of the signals and return the previous handlers.

    Ignored signals, as under nohup, stay ignored. Does nothing outside the main thread, which alone may set handlers.
    """
    if threading.current_thread() is not threading.main_thread():
        return {}
    handled = [number for number in _ENDING if signal.getsignal(number) not in (signal.SIG_IGN, None)]
    return {number: signal.signal(number, handler) for number in handled}
