"""At interpreter exit, other threads leave torch first.

A thread that comes back from torch to an interpreter that is gone is ended by unwinding its stack, and torch aborts the
whole process at that. So the exit waits for the threads that are in torch, and no other thread enters it afterwards.
"""

from __future__ import annotations

import atexit
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache


class TorchThreads:
    """The threads that are in torch. An interpreter has one exit, and so one of these: `torch_threads()`."""

    def __init__(self) -> None:
        self._inside: set[int] = set()  # identities; to add or discard one is atomic
        self._exiting: int | None = None
        atexit.register(self._wait_for_others)
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._inside.clear)  # a child has none of its parent's other threads

    @contextmanager
    def inside(self) -> Iterator[None]:
        """The block uses torch. During the exit a thread that enters it waits for the end of the process."""
        thread = threading.get_ident()
        if thread in self._inside:  # a step within a hook of another one
            yield
            return
        self._inside.add(thread)
        try:
            # Looked at after the thread was added: either the exit sees the thread, or the thread the exit.
            if self._exiting not in (None, thread):
                self._inside.discard(thread)
                threading.Event().wait()
            yield
        finally:
            self._inside.discard(thread)

    def _wait_for_others(self) -> None:
        self._exiting = threading.get_ident()
        while self._inside - {self._exiting}:
            time.sleep(0.001)


@cache
def torch_threads() -> TorchThreads:
    """Those of this process, watched from the first call on."""
    return TorchThreads()
