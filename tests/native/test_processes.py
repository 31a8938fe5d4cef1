"""The engine in processes that fork, run out of a resource, or exit."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable

import pytest

from pellucid.native.engine import NativeEngine

from ..pairs import Pair
from .conftest import Stored

PROMPT = [1, 2, 3, 4, 5]

# Prefix of the programs below.
ENGINE = """
import threading, resource, sys, time, warnings
from pellucid.checkpoint import open_checkpoint
from pellucid.native.engine import NativeEngine
checkpoint = open_checkpoint("demo")
"""

needs_fork = pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="no fork on this system")
on_linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="limits as Linux has them")


def run(program: str, *, expect_status: int = 0, timeout: float = 120) -> subprocess.CompletedProcess[str]:
    done = subprocess.run([sys.executable, "-c", ENGINE + program], capture_output=True, text=True, timeout=timeout)
    assert done.returncode == expect_status, done.stderr
    return done


def generated(engine: NativeEngine, count: int = 8) -> list[int]:
    """Greedy ids after the prompt."""
    slot, ids = engine.open(), list(PROMPT)
    unread = ids
    for _ in range(count):
        unread = [int(engine.step([slot], [unread]).logits[0].argmax())]
        ids = [*ids, *unread]
    return ids


@needs_fork
def test_children_forked_during_another_threads_steps_use_the_engine(pair: Callable[..., Pair], stored: Stored) -> None:
    engine = NativeEngine.load(stored(pair()[0]), threads=2)
    expected = generated(engine)
    held = engine.open()
    engine.step([held], [PROMPT])
    stop = threading.Event()

    def step_on() -> None:
        while not stop.is_set():
            generated(engine)

    thread = threading.Thread(target=step_on)
    thread.start()
    children = []
    try:
        for _ in range(30):
            child = os.fork()
            if child == 0:
                signal.alarm(60)  # ends a child that hangs
                same = generated(engine) == expected and engine.length(held) == len(PROMPT)
                os._exit(0 if same else 1)
            children.append(child)
            time.sleep(0.001)
    finally:
        stop.set()
        thread.join()
    assert [os.waitpid(child, 0)[1] for child in children] == [0] * len(children)


@needs_fork
def test_a_child_has_one_thread_and_leaves_its_parents_engine_alone(pair: Callable[..., Pair], stored: Stored) -> None:
    engine = NativeEngine.load(stored(pair()[0]), threads=2)
    expected = generated(engine)
    child = os.fork()
    if child == 0:
        fine = engine.threads == 1 and generated(engine) == expected
        del engine  # its worker threads exist in the parent only
        os._exit(0 if fine else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert engine.threads == 2 and generated(engine) == expected


@pytest.mark.parametrize("moment", range(4))
def test_an_exit_during_a_daemon_threads_steps_is_an_exit(moment: int) -> None:
    program = f"""
engine = NativeEngine.load(checkpoint, threads=2)
def decode():
    while True:
        slot = engine.open()
        for token in range(50):
            engine.step([slot], [[token]])
for _ in range(3):
    threading.Thread(target=decode, daemon=True).start()
time.sleep(0.05 + 0.01 * {moment})
"""
    for _ in range(2):
        assert run(program).stderr == ""


def test_what_was_registered_before_the_engine_may_decode_at_exit() -> None:
    program = """
import atexit
atexit.register(lambda: print(engine.step([slot], [[2]]).logits.shape))
engine = NativeEngine.load(checkpoint, threads=2)
slot = engine.open()
thread = threading.Thread(target=lambda: [engine.step([engine.open()], [[1]]) for _ in iter(int, 1)], daemon=True)
thread.start()
"""
    assert run(program).stdout == "(1, 50257)\n"


def test_ctrl_c_ends_a_threaded_server_without_an_abort() -> None:
    program = """
import http.server, urllib.request
engine = NativeEngine.load(checkpoint, threads=2)
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        slot = engine.open()
        for token in range(400):
            engine.step([slot], [[token]])
    def log_message(self, *_): pass
server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
ask = lambda: urllib.request.urlopen(f"http://127.0.0.1:{server.server_port}/")
for _ in range(2):
    threading.Thread(target=ask, daemon=True).start()
print("ready", flush=True)
server.serve_forever()
"""
    for delay in (0.1, 0.2):
        with subprocess.Popen(
            [sys.executable, "-c", ENGINE + program], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as server:
            assert server.stdout is not None and server.stderr is not None
            assert server.stdout.readline() == "ready\n"
            time.sleep(delay)
            server.send_signal(signal.SIGINT)
            errors = server.stderr.read()
            assert server.wait(60) in (-signal.SIGINT, 1), errors  # exit status of Python after a KeyboardInterrupt
            assert "KeyboardInterrupt" in errors and "nanobind" not in errors and "terminate" not in errors


@on_linux
def test_without_room_for_threads_the_engine_runs_with_those_it_got() -> None:
    program = """
def address_space():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[0]) * resource.getpagesize()
before = NativeEngine.load(checkpoint, threads=1, capacity=1024)
room = address_space() + 40 * 2**20 + before.weight_bytes + 100 * 2**20
resource.setrlimit(resource.RLIMIT_AS, (room, room))
from pellucid.native.engine import make_runtime
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    runtime = make_runtime(900)
assert 1 <= runtime.threads < 900, runtime.threads
assert f"made {runtime.threads} threads of the 900" in str(caught[0].message) and len(caught) == 1
"""
    run(program)


@on_linux
def test_a_step_without_memory_changes_nothing_and_can_be_taken_again() -> None:
    program = """
engine = NativeEngine.load(checkpoint, threads=1)
slot, other = engine.open(), engine.open()
engine.step([slot], [[1, 2, 3]])
expected = engine.step([engine.open()], [[1, 2, 3] + [7] * 400]).logits
engine = NativeEngine.load(checkpoint, threads=1)
slot, other = engine.open(), engine.open()
engine.step([slot], [[1, 2, 3]])
with open("/proc/self/statm") as file:
    size = int(file.read().split()[0]) * resource.getpagesize()
unlimited = resource.getrlimit(resource.RLIMIT_AS)
failures = 0
for room in range(0, 40):
    resource.setrlimit(resource.RLIMIT_AS, (size + room * 2**17, unlimited[1]))
    try:
        logits = engine.step([slot], [[7] * 400]).logits
        break
    except MemoryError:
        failures += 1
    resource.setrlimit(resource.RLIMIT_AS, unlimited)
    assert (engine.length(slot), engine.length(other)) == (3, 0)
resource.setrlimit(resource.RLIMIT_AS, unlimited)
assert failures > 0 and (logits == expected).all()
"""
    run(program)


def test_a_large_cache_takes_memory_only_as_it_is_used() -> None:
    program = """
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
engine = NativeEngine.load(checkpoint, threads=1, capacity=800_000)
engine.step([engine.open()], [[1, 2, 3]])
assert engine.capacity == 800_000
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - before * 1024 - engine.weight_bytes)
"""
    assert int(run(program).stdout) < 200e6
