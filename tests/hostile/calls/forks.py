"""Forks while other threads decode."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from typing import Any

import pellucid

from .public import DECODING

_CHILD_SECONDS = 20


def fork_during_steps(model: str, precision: str, names: list[str], delay: float) -> int:
    """Fork while two threads decode on the native engine; the child makes the same calls and gets the same results.
    Returns how many calls the child made."""
    lm = pellucid.load(model, engine="native", precision=precision, threads=2)  # type: ignore[arg-type]
    calls = [(name, variant) for variant, name in enumerate(names)]
    expected = [DECODING[name](lm, variant) for name, variant in calls]
    done = threading.Event()

    def decode() -> None:
        while not done.is_set():
            lm.generate([1, 2, 3], max_new_tokens=20)

    threads = [threading.Thread(target=decode) for _ in range(2)]
    for thread in threads:
        thread.start()
    time.sleep(delay)
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        _answer_and_end(lm, calls, writing)
    os.close(writing)
    try:
        with os.fdopen(reading, "rb") as pipe:
            found = _within(child, pipe)
    finally:
        done.set()
        for thread in threads:
            thread.join()
    assert found == json.loads(json.dumps(expected)), f"a child got {found} for {expected}"
    assert [DECODING[name](lm, variant) for name, variant in calls] == expected
    return len(calls)


def _answer_and_end(lm: Any, calls: list[tuple[str, int]], writing: int) -> None:
    """What the child does, which must not go on into what the parent was doing."""
    try:
        signal.alarm(_CHILD_SECONDS)
        with os.fdopen(writing, "wb") as pipe:
            pipe.write(json.dumps([DECODING[name](lm, variant) for name, variant in calls]).encode())
    except BaseException as error:
        os.write(2, f"{type(error).__name__}: {error}\n".encode())
    finally:
        os._exit(0)


def _within(child: int, pipe: Any) -> Any:
    answer = pipe.read()
    _, status = os.waitpid(child, 0)
    assert not os.WIFSIGNALED(status), f"a child hung or crashed: {signal.Signals(os.WTERMSIG(status)).name}"
    assert answer, "a child raised"
    return json.loads(answer)
