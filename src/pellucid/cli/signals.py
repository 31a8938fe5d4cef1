"""How SIGINT (Ctrl-C), SIGTERM and SIGHUP end a command: at once while it starts, cleanly while it works."""

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
# A second Ctrl-C so soon after the first does not disturb the cleaning up.
_GRACE_SECONDS = 1.0


class Stopped(KeyboardInterrupt):
    """A signal that ends the command. status: the exit status by which shells report that signal."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.status = 128 + number


def end_at_once() -> None:
    """From here on the signals end the process immediately, for there is nothing to clean up yet."""
    _install(lambda number, frame: os._exit(128 + number))


@contextmanager
def stoppable() -> Iterator[None]:
    """In the block the signals raise `Stopped`, so that everything that is open is closed and removed."""
    stopped_at = float("-inf")

    def stop(number: int, frame: FrameType | None) -> None:
        nonlocal stopped_at
        if time.monotonic() - stopped_at > _GRACE_SECONDS:
            stopped_at = time.monotonic()
            raise Stopped(number)

    with _installed(stop):
        yield


@contextmanager
def signals_wait() -> Iterator[None]:
    """The signals take effect at the end of the block."""
    came: list[int] = []
    with _installed(lambda number, frame: came.append(number)):
        yield
    for number in came:
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
    """Handle the signals by a function; returns the handlers before. Signals that are ignored, as under nohup, stay
    ignored. Only the main thread may set handlers, so in another one nothing changes."""
    if threading.current_thread() is not threading.main_thread():
        return {}
    heard = [number for number in _ENDING if signal.getsignal(number) not in (signal.SIG_IGN, None)]
    return {number: signal.signal(number, handler) for number in heard}
